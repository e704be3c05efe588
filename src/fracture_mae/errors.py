"""The error that a user can mend."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

_SURROGATE = re.compile("[\ud800-\udfff]")


class FractureMaeError(Exception):
    """Something the user gave or has cannot be used: says what was found, what was expected and what to do.

    Entry points print its message without a traceback and end with exit status 1.
    """

    def __str__(self) -> str:
        return legible(super().__str__())


class NonFiniteError(FractureMaeError):
    """Numbers became infinite or NaN on the way: with these settings, training does not work."""


def legible(text: str) -> str:
    """A text that can be printed, logged and drawn: bytes of a name that are no UTF-8, which Python keeps as surrogates, as `\\xf6`."""
    return _SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop, to stand in a sentence; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from or in the face of, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


@contextmanager
def damage_of(file: Path, what: str) -> Iterator[None]:
    """Where an .npz file that a classifier keeps is read: whatever NumPy raises at a damaged one becomes a sentence.

    Args:
        what: it is for, such as "by which …".

    Raises:
        FractureMaeError: it is damaged.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise FractureMaeError(
            f"{file}, {what}, is damaged: {first_line(error)}. Register the classifier anew, or take another."
        ) from error
