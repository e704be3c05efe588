"""Patience with a server that goes away in the midst of work: it is waited for, and that is said.

When a command starts, a server that does not answer is an error within seconds. Later, hours of work may hang on it, and it is given
some minutes to come back.
"""

import logging
import threading
import time

MINUTES = 5.0
_POLL = 1.0  # seconds between two tries
_SETTLING = 3.0  # seconds after an outage in which others come back, too

logger = logging.getLogger(__name__)


class Patience:
    """With one server, which several threads of a process may wait for.

    Args:
        what: the server is called at the start of a sentence, such as "The database postgresql://HOST/NAME".
        minutes: that it may be away at a time.
    """

    def __init__(self, what: str, minutes: float = MINUTES):
        self._what, self._minutes = what, minutes
        self._away_since: float | None = None
        self._back_since = -_SETTLING
        self._lock = threading.Lock()

    def waits(self, reason: str) -> bool:
        """Wait a moment after a try that failed; whether to try again. Once that is over, it is over at once until the server answers.

        Args:
            reason: why it failed, to stand in a sentence.
        """
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                logger.warning(
                    "%s does not answer (%s). It is waited for, %g minutes at most.", self._what, reason, self._minutes
                )
            lasts = time.monotonic() - self._away_since < 60 * self._minutes
        if lasts:
            time.sleep(_POLL)
        return lasts

    def answered(self) -> None:
        """After a try that succeeded."""
        if self._away_since is None:
            return
        with self._lock:
            if self._away_since is not None:
                seconds = time.monotonic() - self._away_since
                self._away_since, self._back_since = None, time.monotonic()
                logger.warning("%s answers again, after %.0f seconds.", self._what, seconds)

    def settle(self) -> None:
        """After an outage, give other processes a moment to find the server again, too."""
        time.sleep(max(0.0, self._back_since + _SETTLING - time.monotonic()))
