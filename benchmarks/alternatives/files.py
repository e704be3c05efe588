"""Reading X-rays anew every epoch: decoding and resizing with OpenCV, file by file."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from fracture_mae.errors import FractureMaeError


def read(path: str, channels: int, size: int) -> np.ndarray:
    """uint8 [channels, size, size] of a file, stretched to a square."""
    picture = cv2.imread(path, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    if picture is None:
        raise FractureMaeError(f"{path} cannot be read any more. Run again.")
    resized = cv2.resize(picture, (size, size))
    return resized[None] if channels == 1 else resized.transpose(2, 0, 1)


def read_epoch(paths: Sequence[str], size: int, batch_size: int, device: torch.device) -> None:
    """Read grey X-rays batch by batch, uint8 [B, size, size], to the device."""
    for start in range(0, len(paths), batch_size):
        pictures = np.concatenate([read(path, 1, size) for path in paths[start : start + batch_size]])
        torch.from_numpy(pictures).to(device)
