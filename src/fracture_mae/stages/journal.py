"""What is answered so far of many files: a line for each, so that a run that was killed goes on where it was."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fracture_mae.errors import FractureMaeError


class Journal:
    """Rows, appended as lines of JSON; use as a context manager.

    Args:
        path: of the file; the same for the same work.
        resume: go on from what is there; otherwise it is removed.

    Raises:
        FractureMaeError: on entering, another process is at the same work.
    """

    def __init__(self, path: Path, *, resume: bool):
        self._path, self._resume = path, resume
        self._lock = FileLock(path.with_suffix(".lock"))

    def __enter__(self) -> "Journal":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FractureMaeError(
                f"another process is predicting the same X-rays with the same classifier (it holds {self._lock.lock_file}). Wait for "
                "it, or give each its own part with --shard 1/2 and --shard 2/2."
            ) from None
        if not self._resume:
            self.remove()
        self._file = self._path.open("ab")
        if self._path.stat().st_size:
            self._file.write(b"\n")  # the last line may be half-written
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows, in the order in which they were added; what a killed process left half-written is passed over."""
        self._file.flush()
        found = []
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows; they are there when the next ones are added, whatever becomes of this process."""
        self._file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self._file.flush()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
