"""Decoded X-rays, kept by content: each distinct file is decoded once for each image size, then read from memory-mapped bytes."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from fracture_mae.data.images import UnreadableImage, decode, letterbox

_CHUNK = 256  # files decoded between two writes


def cache_root() -> Path:
    """Folder of everything that can be made again: FRACTURE_MAE_CACHE, or ~/.cache/fracture-mae."""
    return Path(os.environ.get("FRACTURE_MAE_CACHE", "~/.cache/fracture-mae")).expanduser()


def sha256_of(paths: Sequence[str], num_workers: int | None) -> list[str]:
    """SHA-256 of each file's bytes, in hexadecimal; empty for a file that cannot be read."""
    with ThreadPoolExecutor(num_workers) as pool:
        return list(tqdm(pool.map(_sha256, paths), desc="Reading files", total=len(paths), unit="file", leave=False))


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class ImageStore:
    """Letterboxed pictures of one size in one file of raw bytes, with a list of what stands where beside it.

    The list is written after the bytes it speaks of, under a lock; whatever a killed writer left behind is cut off by the next.

    Args:
        root: folder of the stores.
        size: side of the pictures [pixels].
    """

    columns = ("sha256", "row", "height", "width", "reason")

    def __init__(self, root: Path, size: int):
        self.size = size
        self.bytes_file = root / f"{size}.u8"
        self.list_file = root / f"{size}.csv"
        self.lock = FileLock(root / f"{size}.lock")
        root.mkdir(parents=True, exist_ok=True)

    def add(self, files: pd.Series, num_workers: int | None) -> pd.DataFrame:
        """Decode what is missing.

        Args:
            files: index sha256, values paths; each content once.

        Returns:
            Index sha256; columns row (-1 where unreadable), height, width, reason (empty where readable).
        """
        with self.lock:
            known = self._read_list()
            self._cut_off(int(known["row"].max()) + 1 if len(known) else 0)
            missing = files[~files.index.isin(known.index)]
            self._decode(missing, int(known["row"].max()) + 1 if len(known) else 0, num_workers)
            return self._read_list().loc[files.index]

    def pixels(self) -> np.ndarray:
        """All pictures, uint8 [n, size, size], memory-mapped and read-only."""
        n = self.bytes_file.stat().st_size // self.size**2
        if n == 0:
            return np.zeros((0, self.size, self.size), np.uint8)
        return np.memmap(self.bytes_file, np.uint8, mode="r", shape=(n, self.size, self.size))

    def _read_list(self) -> pd.DataFrame:
        """The list as far as it is whole and its bytes are there."""
        if not self.list_file.exists():
            self.list_file.write_text(",".join(self.columns) + "\n", encoding="utf-8")
        text = self.list_file.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            self.list_file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        listed = pd.read_csv(self.list_file, keep_default_na=False, index_col="sha256")
        stored = self.bytes_file.stat().st_size // self.size**2 if self.bytes_file.exists() else 0
        if len(listed) and listed["row"].max() >= stored:
            listed = listed.iloc[:0]
            self.list_file.write_text(",".join(self.columns) + "\n", encoding="utf-8")
        return listed[~listed.index.duplicated()]

    def _cut_off(self, n: int) -> None:
        with open(self.bytes_file, "ab") as file:
            file.truncate(n * self.size**2)

    def _decode(self, files: pd.Series, next_row: int, num_workers: int | None) -> None:
        with (
            ThreadPoolExecutor(num_workers) as pool,
            tqdm(total=len(files), desc="Decoding X-rays", unit="file", disable=files.empty) as bar,
        ):
            for start in range(0, len(files), _CHUNK):
                chunk = files.iloc[start : start + _CHUNK]
                decoded = list(pool.map(self._decode_one, chunk))
                lines, pictures = [], []
                for sha256, (picture, height, width, reason) in zip(chunk.index, decoded, strict=True):
                    lines.append(
                        (sha256, next_row + len(pictures) if picture is not None else -1, height, width, reason)
                    )
                    pictures += [picture] if picture is not None else []
                with open(self.bytes_file, "ab") as file:
                    file.write(b"".join(picture.tobytes() for picture in pictures))
                pd.DataFrame(lines).to_csv(self.list_file, mode="a", header=False, index=False)
                next_row += len(pictures)
                bar.update(len(chunk))

    def _decode_one(self, path: str) -> tuple[np.ndarray | None, int, int, str]:
        try:
            picture = decode(Path(path).read_bytes())
        except (UnreadableImage, OSError) as error:
            return None, 0, 0, str(error)
        return letterbox(picture, self.size), *picture.shape, ""
