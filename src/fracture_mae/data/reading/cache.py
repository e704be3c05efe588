"""Decoded X-rays, kept by content: each distinct file is decoded once for each image size, then read from memory-mapped bytes."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from fracture_mae.data.reading.cache_folder import VARIABLE, cache_root, locked, refused
from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.encoding import UNKNOWN, encoding_of
from fracture_mae.data.reading.identities import real_path
from fracture_mae.data.reading.placement import Placement
from fracture_mae.data.reading.preprocessing import LETTERBOX, n_squares, preprocess
from fracture_mae.errors import FractureMaeError

__all__ = ["VERSION", "ImageStore", "cache_root"]

# Of the list beside the pictures: raised when its columns change.
VERSION = 4
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
    "step_x": float,
    "step_y": float,
    **_ENCODING,
    "reason": str,
}


class ImageStore:
    """Preprocessed pictures of one size in one file of raw bytes, with a list of what stands where beside it.

    Where a picture becomes several squares, these stand one after the other; the list tells of the middle one, and of the step to
    the next.

    The list is written after the bytes it speaks of, under a lock; whatever a killed writer left behind is cut off by the next.

    Args:
        root: folder of the stores.
        size: side of the pictures [pixels].
        how: their preprocessing; a folder for each.
    """

    def __init__(self, root: Path, size: int, how: str = LETTERBOX):
        self.size = size
        self.how = how
        self.n_squares = n_squares(how)
        self.bytes_file = root / f"{size}.u8"
        self.list_file = root / f"{size}.csv"
        self.lock = FileLock(root / f"{size}.lock")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FractureMaeError(
                f"the cache folder {root} cannot be made: {error.strerror}. Name another in the variable {VARIABLE}."
            ) from None

    def add(self, files: pd.Series, num_workers: int | None) -> pd.DataFrame:
        """Decode what is missing.

        Args:
            files: index sha256, values paths; each content once.

        Returns:
            Index sha256; columns row (of the middle square; -1 where unreadable), height, width, those of `Placement`, step_x and
            step_y (what left and top change by from one square to the next), those of `Encoding`, and reason (empty where readable).
        """
        with locked(self.lock) as may_write:
            if not (may_write or self.list_file.exists()):
                raise refused(self.list_file, "there is none, and none may be made")
            known = self._mend() if may_write else self._read_list()
            missing = files[~files.index.isin(known.index)]
            self._decode(missing, self._n_stored(known), num_workers)
            return self._read_list().loc[files.index]

    def pixels(self) -> np.ndarray:
        """All squares, uint8 [n, size, size], memory-mapped and read-only."""
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
            n_bytes = self._n_stored(listed) * self.size**2
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

    def _n_stored(self, listed: pd.DataFrame) -> int:
        """Squares that the list speaks of."""
        readable = listed["row"][listed["row"] >= 0]
        return int(readable.max()) + 1 + self.n_squares // 2 if len(readable) else 0

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
        """Write squares and then their list; returns how many squares there were."""
        readable = decoded["picture"].notna()
        with open(self.bytes_file, "ab") as file:
            file.writelines(decoded["picture"][readable])
            file.flush()
            os.fsync(file.fileno())  # the list may not reach the disk before them
        first = next_row + (readable.cumsum() - 1) * self.n_squares
        row = (first + self.n_squares // 2).where(readable, -1)
        listed = decoded.assign(sha256=contents, row=row)[list(_COLUMNS)]
        listed.to_csv(self.list_file, mode="a", header=False, index=False)
        return int(readable.sum()) * self.n_squares

    def _decode_one(self, path: str) -> tuple:
        """Pixels, height and width before preprocessing, where they lie, how the file is encoded, and why there are none."""
        try:
            content = Path(real_path(path)).read_bytes()
            picture = decode(content)
        except UnreadableImage as error:
            return None, 0, 0, *astuple(_NOWHERE), 0.0, 0.0, *UNKNOWN, str(error)
        except OSError as error:  # nothing to remember: the content could be read a moment ago
            raise FractureMaeError(f"{path} cannot be read any more: {error.strerror}. Run again.") from None
        squares, placements = preprocess(picture, self.size, self.how)
        middle = placements[self.n_squares // 2]
        after = placements[self.n_squares // 2 + 1] if self.n_squares > 1 else middle
        step = after.left - middle.left, after.top - middle.top
        return squares.tobytes(), *picture.shape, *astuple(middle), *step, *encoding_of(content), ""
