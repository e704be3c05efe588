"""Where all lies that can be made again, and the key of identities; and what is told where that place, or another, cannot be used."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock

from fracture_mae.errors import FractureMaeError, first_line

VARIABLE = "FRACTURE_MAE_CACHE"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# Libraries that write by themselves say it in their own words: safetensors, PyTorch, NumPy and SQLite.
_SAID_OF_FULL = (
    "os error 28",
    "os error 122",
    "failed writing file",
    "unexpected pos",
    "disk is full",
    "No space left on device",
)
_SAID_OF_SHORT = "requested and"  # NumPy: "1000 requested and 12 written"


def cache_root() -> Path:
    """Folder of everything that can be made again: FRACTURE_MAE_CACHE, or ~/.cache/fracture-mae.

    Raises:
        FractureMaeError: it lies in a home that this user has not.
    """
    try:
        return Path(os.environ.get(VARIABLE) or "~/.cache/fracture-mae").expanduser()
    except RuntimeError:
        raise FractureMaeError(
            f"this user has no home, in which the cache would lie. Name a folder for it in the variable {VARIABLE}."
        ) from None


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, or a copy of it where the file system knows no such thing, as on exFAT and network drives."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def locked(lock: BaseFileLock) -> Iterator[bool]:
    """Hold a lock of the cache; where the cache may only be read, nobody writes it and none is needed. Yields whether it is held."""
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def shortage(error: BaseException) -> FractureMaeError | None:
    """The sentence for an error that says of this machine, in whatever library's words, that no room is left or that it may not write.

    None for any other error.
    """
    said = first_line(error)
    number = error.errno if isinstance(error, OSError) else None
    told_by_library = any(words in said for words in _SAID_OF_FULL) or (
        number is None and isinstance(error, OSError) and _SAID_OF_SHORT in said
    )
    if number in _FULL or told_by_library:
        return FractureMaeError(
            f"no room is left to write ({said}). Free now: {_free()}. Make room, or name another folder: {VARIABLE} for the cache "
            "and checkpoints, TMPDIR for temporary files. What was written whole is kept, and the same command goes on from it."
        )
    if number in _REFUSED and error.filename:
        return refused(Path(os.fsdecode(error.filename)), error.strerror)
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in said:
        return FractureMaeError(f"no temporary file can be written: {said}. Name a folder in the variable TMPDIR.")
    return None


def refused(place: Path, why: str) -> FractureMaeError:
    """The sentence for a file or folder that this user may not read or write, in the cache or elsewhere."""
    root = cache_root().absolute()
    if place.absolute().is_relative_to(root):
        return FractureMaeError(
            f"the cache folder {root} cannot be used: {place}: {why}. Name a folder of your own in the variable {VARIABLE}, or have "
            "this one made readable and writable for you."
        )
    return FractureMaeError(
        f"{place} may not be read or written: {why}. Have the right given to you, or take another folder."
    )


def _free() -> str:
    """The room in each place that a run writes to."""
    places = {"cache": cache_root(), "temporary files": Path(tempfile.gettempdir()), "this folder": Path.cwd()}
    return ", ".join(f"{name} ({place}) {_free_in(place)}" for name, place in places.items())


def _free_in(place: Path) -> str:
    place = next((each for each in (place, *place.absolute().parents) if each.exists()), Path("/"))
    return f"{shutil.disk_usage(place).free / 2**20:,.0f} MiB"
