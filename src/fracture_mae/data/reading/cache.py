"""Decoded X-rays, kept by content: each distinct file is decoded once for each image size, then read from memory-mapped bytes."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from fracture_mae.data.reading.decoding import UnreadableImage, decode, letterbox
from fracture_mae.data.reading.encoding import UNKNOWN, encoding_of
from fracture_mae.data.reading.placement import Placement
from fracture_mae.errors import FractureMaeError

# Of the list beside the pictures: raised when its columns change.
VERSION = 3
_CHUNK = 256  # files decoded between two writes
_ENCODING = {"format": str, "channels": "int64", "bit_depth": "int64", "jpeg_quality": float, "jpeg_deviation": float}
_PLACEMENT = {field.name: float for field in fields(Placement)}
_NOWHERE = Placement(0.0, 0.0, 0.0, 0.0)  # of what cannot be read
_COLUMNS = {
    "sha256": str,
    "row": "int64",
    "height": "int64",
    "width": "int64",
    **_PLACEMENT,
    **_ENCODING,
    "reason": str,
}


def cache_root() -> Path:
    """Folder of everything that can be made again: FRACTURE_MAE_CACHE, or ~/.cache/fracture-mae."""
    return Path(os.environ.get("FRACTURE_MAE_CACHE", "~/.cache/fracture-mae")).expanduser()


class ImageStore:
    """Letterboxed pictures of one size in one file of raw bytes, with a list of what stands where beside it.

    The list is written after the bytes it speaks of, under a lock; whatever a killed writer left behind is cut off by the next.

    Args:
        root: folder of the stores.
        size: side of the pictures [pixels].
    """

    def __init__(self, root: Path, size: int):
        self.size = size
        self.bytes_file = root / f"{size}.u8"
        self.list_file = root / f"{size}.csv"
        self.lock = FileLock(root / f"{size}.lock")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FractureMaeError(
                f"the cache folder {root} cannot be made: {error.strerror}. Name another in the variable FRACTURE_MAE_CACHE."
            ) from None

    def add(self, files: pd.Series, num_workers: int | None) -> pd.DataFrame:
        """Decode what is missing.

        Args:
            files: index sha256, values paths; each content once.

        Returns:
            Index sha256; columns row (-1 where unreadable), height, width, those of `Placement` and `Encoding`, and reason (empty
            where readable).
        """
        with self.lock:
            known = self._mend()
            missing = files[~files.index.isin(known.index)]
            self._decode(missing, int(known["row"].max()) + 1 if len(known) else 0, num_workers)
            return self._read_list().loc[files.index]

    def pixels(self) -> np.ndarray:
        """All pictures, uint8 [n, size, size], memory-mapped and read-only."""
        n = self.bytes_file.stat().st_size // self.size**2
        if n == 0:
            return np.zeros((0, self.size, self.size), np.uint8)
        return np.memmap(self.bytes_file, np.uint8, mode="r", shape=(n, self.size, self.size))

    def _mend(self) -> pd.DataFrame:
        """Cut off what a killed writer left behind, start anew where list and bytes do not fit; returns the list."""
        try:
            text = self.list_file.read_bytes()
            os.truncate(self.list_file, text.rfind(b"\n") + 1)
            listed = self._read_list()
            n_bytes = (int(listed["row"].max()) + 1) * self.size**2
            if n_bytes <= self.bytes_file.stat().st_size:
                os.truncate(self.bytes_file, n_bytes)
                return listed
        except (OSError, ValueError, LookupError):
            pass
        # Not truncated: another process may have the bytes mapped and keeps them as long as it does.
        self.bytes_file.unlink(missing_ok=True)
        self.bytes_file.touch()
        self.list_file.write_text(",".join(_COLUMNS) + "\n", encoding="utf-8")
        return self._read_list()

    def _read_list(self) -> pd.DataFrame:
        listed = pd.read_csv(self.list_file, keep_default_na=False, index_col="sha256", dtype=_COLUMNS)
        return listed[~listed.index.duplicated()]

    def _decode(self, files: pd.Series, next_row: int, num_workers: int | None) -> None:
        if files.empty:
            return
        with (
            ThreadPoolExecutor(num_workers) as pool,
            tqdm(total=len(files), desc="Decoding X-rays", unit="file") as bar,
        ):
            for start in range(0, len(files), _CHUNK):
                chunk = files.iloc[start : start + _CHUNK]
                decoded = pd.DataFrame(pool.map(self._decode_one, chunk), columns=["picture", *list(_COLUMNS)[2:]])
                next_row += self._append(chunk.index, decoded, next_row)
                bar.update(len(chunk))

    def _append(self, contents: pd.Index, decoded: pd.DataFrame, next_row: int) -> int:
        """Write pictures and then their list; returns how many pictures there were."""
        readable = decoded["picture"].notna()
        with open(self.bytes_file, "ab") as file:
            file.writelines(decoded["picture"][readable])
            file.flush()
            os.fsync(file.fileno())  # the list may not reach the disk before them
        row = (next_row + readable.cumsum() - 1).where(readable, -1)
        listed = decoded.assign(sha256=contents, row=row)[list(_COLUMNS)]
        listed.to_csv(self.list_file, mode="a", header=False, index=False)
        return int(readable.sum())

    def _decode_one(self, path: str) -> tuple:
        """Pixels, height and width before letterboxing, where they lie, how the file is encoded, and why there are none."""
        try:
            content = Path(path).read_bytes()
            picture = decode(content)
        except UnreadableImage as error:
            return None, 0, 0, *astuple(_NOWHERE), *UNKNOWN, str(error)
        except OSError as error:  # nothing to remember: the content could be read a moment ago
            raise FractureMaeError(f"{path} cannot be read any more: {error.strerror}. Run again.") from None
        square, placement = letterbox(picture, self.size)
        return square.tobytes(), *picture.shape, *astuple(placement), *encoding_of(content), ""
