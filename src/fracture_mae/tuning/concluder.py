"""Which worker concludes a campaign: one at a time, and another where that one dies meanwhile."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fracture_mae.data.reading.cache_folder import shortage
from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.tracking.outages import out_of_reach
from fracture_mae.tuning import ending
from fracture_mae.tuning.campaign import POLL, Campaign
from fracture_mae.tuning.ending import EARLIER, FAILED, GIVEN_BACK, REGISTERED, UNDER_WAY, Ending
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.signs_of_life import SignsOfLife, Watch
from fracture_mae.tuning.study import GRACE

_PATIENCE = 6.0  # seconds that the worker which opened the campaign has to be the one that concludes it

logger = logging.getLogger(__name__)


class TakenOverError(Exception):
    """Another worker concludes the campaign now, since this one gave no sign of life for too long."""


class Concluder:
    """A worker's part in the conclusion of a campaign, all of whose trials have ended.

    The worker whose turn it is gives signs of life while it is at it, and the others wait until it has told the study what came of it.
    Where it is silent for as long as `GRACE` signs, or gives its turn back, it is the turn of whoever sees that first.

    Attributes:
        predecessor: MLflow run of the worker that had this worker's turn before; empty where none had.
    """

    def __init__(self, campaign: Campaign):
        self._campaign, self._study, self._lock = campaign, campaign.study, campaign.lock
        self._run_id, self._number = campaign.run_id, campaign.record.number
        self.predecessor = ""
        self._has_registered = False

    def turn(self, interruption: Interruption) -> Ending:
        """Wait until it is this worker's turn, see `is_ours`, or another has concluded the campaign for good.

        Raises:
            KeyboardInterrupt: the user does not want to wait.
        """
        earliest = time.monotonic() + (0 if self._campaign.is_opener else _PATIENCE)
        watch, told = Watch(), set()

        def look() -> Ending | None:
            found = self._read()
            if found is None:
                by = self._campaign.concluded_by()
                if by not in ("", self._run_id):
                    return Ending(EARLIER, by)
                return self._claim() if time.monotonic() >= earliest else None
            if found.is_final:
                return found
            if found.state == GIVEN_BACK or found.by == self._run_id:
                return self._claim(found)
            grace = GRACE * found.heartbeat
            if watch.silence(self._study, found.by) > grace:
                logger.warning(
                    "The worker that concludes the campaign, %s, has given no sign of life for %g s, as where it was killed or its "
                    "computer sleeps. This worker takes over.",
                    found,
                    grace,
                )
                return self._claim(found)
            if found.by not in told:
                told.add(found.by)
                logger.warning(
                    "All trials have ended, and another worker, %s, registers the best. It is waited for; where it gives no sign of "
                    "life for %g s, this worker takes over.",
                    found,
                    grace,
                )
            return None

        while (settled := self._lock.within(look, interruption)) is None:
            time.sleep(POLL)
        return settled

    def is_ours(self, found: Ending | None) -> bool:
        return found is not None and (found.state, found.by) == (UNDER_WAY, self._run_id)

    @contextmanager
    def at_it(self) -> Iterator[None]:
        """The conclusion itself, which is to end with `registered`; if it ends with an error, the study is told.

        One that another worker may be spared, such as Ctrl-C, a store of runs that is away, or a full disk, gives the turn back.
        Any other is for good: whoever tried again would come to the same.
        """
        with SignsOfLife(self._study, self._run_id):
            try:
                yield
            except BaseException as error:
                self._give_up(error)
                raise

    def check(self) -> None:
        """Call it before anything is registered.

        Raises:
            TakenOverError: it is no longer this worker's turn.
        """
        if not self.is_ours(found := self._lock.within(self._read)):
            logger.warning(
                "Another worker, %s, is at the conclusion of the campaign, too, or has ended it: one of the two gave no sign of life "
                "for so long, as where a computer sleeps, that the other took over. Nothing is registered here.",
                found,
            )
            raise TakenOverError

    def registered(self, version: str, by: str = "") -> None:
        """Tell the study which version was registered, unless another was meanwhile; then that is said.

        Args:
            by: MLflow run of the worker that has registered it; empty: this one.
        """
        self._has_registered = True
        ours = replace(self._ours(REGISTERED, version), **({"by": by, "where": ""} if by else {}))

        def tell() -> Ending:
            found = self._read()
            if found and found.state == REGISTERED:
                return found
            self._write(ours)
            return ours

        try:
            first = self._lock.within(tell)
        except Exception:
            logger.warning("%s is registered, but the study could not be told.", version)
            raise
        if first.told != version:
            logger.warning(
                "The best is registered twice, as %s by this worker and as %s by another, %s: one of the two gave no sign of life for "
                "so long, as where a computer sleeps, that the other took over. Both are of the same trials; one may be deleted.",
                version,
                first.told,
                first,
            )

    def _give_up(self, error: BaseException) -> None:
        is_spared = not isinstance(error, Exception) or self._has_registered or _is_of_this_machine(error)
        why = str(error) if isinstance(error, FractureMaeError) else f"{type(error).__name__}: {first_line(error)}"
        given_up = self._ours(GIVEN_BACK) if is_spared else self._ours(FAILED, why)

        def tell() -> None:
            if self.is_ours(self._read()):
                self._write(given_up)

        try:
            if isinstance(error, Exception):
                self._lock.within(tell)
            else:  # whoever stops a command is not to wait for a database
                with self._lock:
                    tell()
        except Exception as further:
            logger.warning("The study could not be told that this worker gives up (%s).", first_line(further))
        if is_spared and not self._has_registered:
            logger.warning(
                "The best is not registered yet: that is left to another worker of the campaign, or else to the same command, "
                "started again."
            )

    def _claim(self, before: Ending | None = None) -> Ending:
        if before and before.by != self._run_id:
            self.predecessor = before.by
        ours = self._ours(UNDER_WAY)
        self._write(ours)
        self._campaign.claim()
        return ours

    def _ours(self, state: str, told: str = "") -> Ending:
        heartbeat = self._study._storage.get_heartbeat_interval()
        return Ending(state, self._run_id, f"{socket.gethostname()}, process {os.getpid()}", heartbeat, told)

    def _read(self) -> Ending | None:
        return ending.read(self._study, self._number)

    def _write(self, changed: Ending) -> None:
        self._lock.check()
        ending.write(self._study, self._number, changed)


def _is_of_this_machine(error: Exception) -> bool:
    """Whether another worker may well not come to the same error."""
    is_short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or shortage(error)
    return bool(is_short or out_of_reach(error))
