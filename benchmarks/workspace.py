"""Where a benchmark keeps what it writes, and what happens to that when it is killed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "benchmark-", "in-use.lock"


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """A new folder below `root`, removed in the end; so are those that benchmarks left which were killed."""
    with FileLock(root / "benchmarks.lock"):
        for folder in root.glob(f"{_PREFIX}*"):
            _remove_if_left(folder)
        mine = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        in_use = FileLock(mine / _LOCK)
        in_use.acquire()
    try:
        yield mine
    finally:
        in_use.release()
        shutil.rmtree(mine, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    try:
        with FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        pass  # a benchmark is at work in it
