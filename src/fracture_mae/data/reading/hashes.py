"""SHA-256 of files, remembered between runs: a second one need not read what it knows."""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from fracture_mae.data.reading.identities import real_path
from fracture_mae.errors import legible

_COLUMNS = {"path": str, "size": "int64", "changed": "int64", "sha256": str}
_SETTLED = 2 * 10**9  # nanoseconds; a file changed later than that may change again without its time changing


def sha256_of(paths: Sequence[str], memory: Path, num_workers: int | None) -> list[str]:
    """SHA-256 of each file's bytes, in hexadecimal; empty for a file that cannot be read.

    Args:
        paths: absolute.
        memory: CSV of what is known. A file of the same path, size [bytes] and time of change [ns] is taken to be the same.
        num_workers: threads that read.
    """
    known = _recall(memory)
    now = time.time_ns()
    files = pd.DataFrame([(path, *_size_and_change(path)) for path in paths], columns=["path", "size", "changed"])
    files = files.merge(known, how="left")
    new = files["sha256"].isna()
    if new.any():
        files.loc[new, "sha256"] = _read_all(files.loc[new, "path"], num_workers)
        settled = new & (files["sha256"] != "") & (files["changed"] < now - _SETTLED)
        _remember(pd.concat([known, files[settled]]).drop_duplicates("path", keep="last"), memory)
    return files["sha256"].tolist()


def why_closed(path: str) -> str:
    """Why a file, or a folder that is listed as one, cannot be opened; "" where it can."""
    real = real_path(path)
    try:
        if os.path.isdir(real):
            with os.scandir(real):
                return "it is a folder"
        with open(real, "rb"):
            return ""
    except OSError as error:
        is_lost = os.path.islink(real) and not os.path.exists(real)
        reason = f"it is a link to {legible(os.readlink(real))}, which does not exist" if is_lost else error.strerror
        return f"{'the folder' if os.path.isdir(real) else 'it'} cannot be opened: {reason}"


def _size_and_change(path: str) -> tuple[int, int]:
    try:
        found = os.stat(real_path(path))
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _read_all(paths: Sequence[str], num_workers: int | None) -> list[str]:
    with ThreadPoolExecutor(num_workers) as pool:
        return list(tqdm(pool.map(_sha256, paths), desc="Reading files", total=len(paths), unit="file", leave=False))


def _sha256(path: str) -> str:
    try:
        with open(real_path(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _recall(memory: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(memory, dtype=_COLUMNS, keep_default_na=False)[list(_COLUMNS)]
    except (OSError, ValueError, LookupError):  # none yet, or damaged: the files themselves are still there
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()})


def _remember(known: pd.DataFrame, memory: Path) -> None:
    unfinished = memory.with_suffix(f".{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        known.to_csv(unfinished, index=False)
        unfinished.replace(memory)
    except OSError:  # full, or not ours to write: the files are read again the next time
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
