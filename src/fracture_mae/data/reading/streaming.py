"""Files to squares for a network, decoded by other processes while it is at work, so that it hardly waits and few are held at once."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.preprocessing import n_squares, preprocess

_AHEAD = 2  # batches that each process has ready
_MOST_PROCESSES = 16
_FEW = 100  # files; for fewer, processes take longer to start than to decode


# Squares uint8 [n, k, size, size], and their preprocessing → [n, …].
Numbers = Callable[[np.ndarray, str], np.ndarray]


@dataclass(frozen=True)
class Read:
    """Files in the order in which they were asked for.

    Attributes:
        sha256: of each file's bytes, [n]; empty where these cannot be had.
        reason: why a file is no picture that can be used, [n]; empty where it is one.
        squares: of those that are, uint8 [m, k, size, size].
        numbers: of these, [m, …], where they were asked for.
    """

    sha256: list[str]
    reason: list[str]
    squares: torch.Tensor
    numbers: np.ndarray | None = None


def read(
    paths: Sequence[str],
    size: int,
    how: str,
    *,
    batch_size: int,
    num_processes: int | None = None,
    numbers: Numbers | None = None,
) -> Iterator[Read]:
    """Yields the files in batches, each as k squares, preprocessed as `preprocessing.preprocess` does.

    Args:
        size: side of the squares [pixels].
        how: a preprocessing.
        num_processes: that decode; None: as many as there are cores, none for few files.
        numbers: worked out by them as well, from squares [n, k, size, size] and `how`.
    """
    n_batches = -(-len(paths) // batch_size)
    if num_processes is None:
        num_processes = min(os.cpu_count() or 1, _MOST_PROCESSES) if len(paths) > _FEW else 0
    num_processes = min(num_processes, n_batches)
    several = {
        "multiprocessing_context": _context(),
        "prefetch_factor": _AHEAD,
        "worker_init_fn": _alone,
    }
    yield from DataLoader(
        _Files(np.array(paths, dtype=str), size, how, numbers),
        batch_size=batch_size,
        collate_fn=_together,
        num_workers=num_processes,
        **(several if num_processes else {}),
    )


class _Files(Dataset):
    def __init__(self, paths: np.ndarray, size: int, how: str, numbers: Numbers | None):
        self._paths, self._size, self._how, self._numbers = paths, size, how, numbers

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> tuple[str, str, np.ndarray, np.ndarray | None]:
        """sha256, reason, squares [n, k, size, size] and their numbers; n is 1, or 0 where there is a reason."""
        none = np.zeros((0, n_squares(self._how), self._size, self._size), np.uint8), None
        try:
            content = Path(str(self._paths[position])).read_bytes()
        except OSError as error:
            return "", f"it cannot be read: {error.strerror}", *none
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            squares = preprocess(decode(content), self._size, self._how)[0][np.newaxis]
        except UnreadableImage as error:
            return sha256, str(error), *none
        return sha256, "", squares, None if self._numbers is None else self._numbers(squares, self._how)


def _together(files: list[tuple[str, str, np.ndarray, np.ndarray | None]]) -> Read:
    sha256, reason, squares, numbers = zip(*files, strict=True)
    known = [each for each in numbers if each is not None]
    return Read(
        list(sha256),
        list(reason),
        torch.from_numpy(np.concatenate(squares)),
        np.concatenate(known) if known else None,
    )


def _context() -> multiprocessing.context.BaseContext:
    """A process that is forked from this one would inherit the locks of its threads; from a server it inherits imports alone."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _alone(_: int) -> None:
    cv2.setNumThreads(1)
