"""Signs of life of the worker that concludes a campaign, and what others make of them."""

import logging
import threading
import time
from itertools import count

from optuna import Study

from fracture_mae.errors import first_line

_SIGN = "sign of life"  # attribute of the study
_LONGEST_LOOK = 2.0  # seconds between two looks at most that count as watched

logger = logging.getLogger(__name__)


class SignsOfLife:
    """Given by a thread, with the study's heartbeat, until the block ends; use as a context manager.

    A database that is away is waited for, and no error ends what the worker does meanwhile.

    Args:
        by: MLflow run of this worker.
    """

    def __init__(self, study: Study, by: str):
        self._study, self._by = study, by
        self._ended = threading.Event()
        # The last sign may wait for a database that is away, and nobody is to wait for the sign.
        self._thread = threading.Thread(target=self._give, name="signs of life", daemon=True)

    def __enter__(self) -> "SignsOfLife":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=1.0)

    def _give(self) -> None:
        for number in count():
            try:
                self._study.set_user_attr(_SIGN, [self._by, number])
            except Exception as error:
                logger.warning("A sign of life could not be given (%s). The next one will be tried.", first_line(error))
            if self._ended.wait(self._study._storage.get_heartbeat_interval()):
                return


class Watch:
    """How long a worker has been silent, as far as it was watched.

    No clock of another machine, or of the database, has a say in it, and time in which this process could not look, since it or
    its machine slept, or the database was away, does not count.
    """

    def __init__(self) -> None:
        self._by, self._sign = "", None
        self._silent, self._looked = 0.0, 0.0

    def silence(self, study: Study, by: str) -> float:
        """Seconds since the worker with that MLflow run was heard of; to be asked again and again, at least every second."""
        sign, now = study.user_attrs.get(_SIGN), time.monotonic()
        is_another = sign is not None and sign[0] != by  # its own is overwritten, or not given yet
        if by != self._by or (sign != self._sign and not is_another):
            self._by, self._sign, self._silent = by, sign, 0.0
        else:
            self._silent += min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        return self._silent
