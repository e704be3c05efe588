"""Ctrl-C and SIGTERM while trials run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fracture_mae.processes.ending import ending_signals


class Interruption:
    """Turns Ctrl-C and SIGTERM, as which `mlflow run` sends Ctrl-C on, into KeyboardInterrupt where that does no harm.

    Within a trial it is raised at once. Between trials, while the study's records are written, it would leave a trial running for
    ever and its heartbeat with it: there it is remembered, and raised by the next `check`. Use as a context manager.
    """

    def __init__(self) -> None:
        self._requested = self._may_raise = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, *ending_signals())}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was asked for."""
        if self._requested:
            raise KeyboardInterrupt

    @contextmanager
    def within_trial(self) -> Iterator[None]:
        """Where it is raised at once."""
        self._may_raise = True
        try:
            self.check()
            yield
        finally:
            self._may_raise = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        if self._may_raise:
            self._may_raise = False  # once: what the trial leaves behind is to be written in peace
            raise KeyboardInterrupt
