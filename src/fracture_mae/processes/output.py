"""What a process says, on any terminal and in any log: a line that cannot be written must not end the work that it tells of."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import IO, Any


class Unread:
    """A stream that nobody has to read: where its reader is gone or its disk full, what is said is lost, and the work goes on."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def name_any_file() -> None:
    """Start this command anew in Python's UTF-8 mode, where names of files are ASCII, as under LANG=C where PYTHONUTF8 is 0.

    Libraries fail at any other letter of a path.
    """
    if sys.getfilesystemencoding() == "ascii":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)


def outlive_readers() -> None:
    """Let standard output and error replace letters that they have not, and end nothing when they cannot be written.

    Lines reach them at once: who follows a log sees an epoch when it ends, not when the buffer is full. A stream that was closed
    (`>&-`) is there again, and leads nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="replace")
        setattr(sys, name, Unread(stream))
