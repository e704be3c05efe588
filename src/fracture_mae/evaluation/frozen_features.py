"""Features of X-rays from an encoder that stays as it is: computed once, then read from the cache.

They are kept by the encoder's weights, the file's content and its preprocessing, so that a study of many heads pays for the encoder
once, further files cost only themselves, and another encoder never answers for this one.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from filelock import FileLock
from torch import nn

from fracture_mae.data.reading import decoding, preprocessing
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.reading.cache_folder import locked
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.prediction import mean_of_squares
from fracture_mae.models.encoders import Encoder
from fracture_mae.training.batches import in_batches, to_device

POOLS = ("mean", "cls")
_CHUNK = 512  # files whose features are written at once; what a killed process loses at most


class PooledEncoder(nn.Module):
    """An encoder that is shown all of a picture, with its tokens pooled in every way."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Grey [B, 1, H, W] in [0, 1] → mean of the patch tokens, and CLS token where there is one, float32 [B, d] each."""
        tokens = self.encoder(pixels)
        pooled = {"mean": tokens.patches.float().mean(dim=1)}
        return pooled if tokens.cls is None else pooled | {"cls": tokens.cls.float()}

    def described(self) -> str:
        return self.encoder.described()


class Embedder(Protocol):
    """What features can be computed with: an nn.Module, grey pixels [B, 1, H, W] in [0, 1] → name → [B, d]."""

    def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]: ...

    def described(self) -> str:
        """What its features depend on besides the weights."""


def fingerprint(encoder: nn.Module, described: str) -> str:
    """16 hexadecimal digits of an encoder's weights and of whatever else its features depend on, how files are decoded among it."""
    digest = hashlib.sha256(f"{decoding.VERSION} {described}".encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def features(encoder: Embedder, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> dict[str, np.ndarray]:
    """The features of every file by their name, float32 [n, d] each; what is in the cache is not computed again."""
    name = f"{fingerprint(encoder, encoder.described())}-{accelerator.mixed_precision}"
    store = FeatureStore(cache_root() / "features-v3" / f"{name}{preprocessing.suffix(xrays.preprocess)}")
    contents = xrays.table["sha256"].to_numpy()
    with locked(store.lock):
        missing = np.flatnonzero(~np.isin(contents, store.contents()))
        for start in range(0, len(missing), _CHUNK):
            chunk = xrays.subset(missing[start : start + _CHUNK])
            store.add(chunk.table["sha256"].to_numpy(), _compute(encoder, chunk, batch_size, accelerator))
        return store.of(contents)


@torch.inference_mode()
def _compute(encoder: Embedder, xrays: XRays, batch_size: int, accelerator: Accelerator) -> dict[str, np.ndarray]:
    to_device(encoder, accelerator.device).eval()
    parts = []
    for batch in in_batches(xrays.squares(), batch_size, accelerator.device, f"Features, {xrays.name}"):
        with accelerator.autocast():
            parts.append({name: value.float().cpu().numpy() for name, value in encoder(batch.pixels).items()})
    return {name: mean_of_squares(np.concatenate([part[name] for part in parts]), len(xrays)) for name in parts[0]}


class FeatureStore:
    """The features of one encoder, in files that are written beside, renamed, and then never changed.

    Each file holds `sha256` [n] and, by their name, features [n, d] in the same order.

    Args:
        root: the encoder's folder.
    """

    def __init__(self, root: Path):
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.lock = FileLock(root.with_suffix(".lock"))

    def contents(self) -> np.ndarray:
        """sha256 of the files whose features are stored."""
        return np.concatenate([part["sha256"] for part in self._parts()] or [np.array([], dtype="U64")])

    def add(self, contents: np.ndarray, computed: Mapping[str, np.ndarray]) -> None:
        """Write features [n, d] of contents [n]; a process killed meanwhile leaves nothing that would be read."""
        name = hashlib.sha256("".join(contents).encode()).hexdigest()[:16]
        unfinished = self.root / f"{name}.unfinished"
        with open(unfinished, "wb") as file:
            np.savez(file, sha256=contents.astype("U64"), **computed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.root / f"{name}.npz")

    def of(self, contents: np.ndarray) -> dict[str, np.ndarray]:
        """The features of `contents`, all of them stored, in their order."""
        parts = list(self._parts())
        rows = pd.Index(np.concatenate([part.pop("sha256") for part in parts])).get_indexer(contents)
        return {name: np.concatenate([part[name] for part in parts])[rows] for name in parts[0]}

    def _parts(self) -> Iterator[dict[str, np.ndarray]]:
        for file in sorted(self.root.glob("*.npz")):
            try:
                with np.load(file, allow_pickle=False) as stored:
                    yield dict(stored)
            except (OSError, ValueError, EOFError, BadZipFile):
                file.unlink(missing_ok=True)  # damaged on the disk: computed anew
