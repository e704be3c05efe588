"""A store of runs that goes away in the midst of work: MLflow waits for a server by itself; here it is said, and what comes of it."""

import logging
from contextlib import AbstractContextManager, nullcontext

import mlflow
import requests
import sqlalchemy
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

from fracture_mae.errors import FractureMaeError, causes
from fracture_mae.tracking import stores

_URLLIB3 = "urllib3.connectionpool"
_AWAY = 500  # and all above: what a server answers whose database, or whose machine behind a proxy, is away

logger = logging.getLogger(__name__)


def out_of_reach(error: BaseException) -> str:
    """Why the store of runs, or of their artifacts, is out of reach, to stand in a sentence; empty where `error` is another."""
    for each in causes(error) if isinstance(error, Exception) else ():
        away = isinstance(each, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError)
        away = away or (isinstance(each, sqlalchemy.exc.OperationalError) and "sqlite" not in str(type(each.orig)))
        if away or type(each).__name__ in (
            "EndpointConnectionError",
            "S3UploadFailedError",
        ):  # of boto3, which may be absent
            return stores.innermost(each)
    return ""


def unless_out_of_reach(error: Exception) -> None:
    """Raise an error that says no more than that the store is away: what is asked for may well be there."""
    if out_of_reach(error):
        raise error


def explain(error: BaseException, run_id: str) -> None:
    """Raise the error for work that ends since the store has been away for too long; nothing where `error` is another.

    Raises:
        FractureMaeError: says what is kept, and how it goes on.
    """
    if isinstance(error, FractureMaeError):  # it says already what is away, perhaps the database of a study
        return
    if reason := out_of_reach(error):
        raise FractureMaeError(
            f"{stores.address(mlflow.get_tracking_uri())}, or where its artifacts lie, has been away for too long: {reason}. The run "
            f"{run_id} may stay open there. What was logged before is kept, and so are checkpoints of a training and trials of a "
            "study. Start what is away again, and then the same command, which goes on from there."
        ) from error


def haste_after(error: BaseException) -> AbstractContextManager[None]:
    """How a run is closed: whoever stops a command, or waited for a server already, is not to wait for minutes more."""
    return stores.impatiently() if out_of_reach(error) or not isinstance(error, Exception) else nullcontext()


class Telling(logging.Filter):
    """Says in a sentence, once for each outage, what urllib3 says in its own words at each try, or not at all."""

    def __init__(self, usual: int):
        super().__init__()
        self._usual, self._is_away = usual, False

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if record.msg.startswith("Retrying (") and "/mlflow" in str(arguments[-1]):
            self._tell(str(arguments[1]))
            return False
        if record.msg == "Retry: %s" and "/mlflow" in str(arguments[-1]):
            self._tell("its database, or the store of its artifacts, is away")
        elif record.msg.startswith("%s://%s:%s") and "/mlflow" in str(arguments[4]) and int(arguments[-2]) < _AWAY:
            if self._is_away:
                logger.warning("%s answers again.", _store())
            self._is_away = False
        return record.levelno >= self._usual

    def _tell(self, reason: str) -> None:
        if not self._is_away:
            retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
            logger.warning(
                "%s does not answer (%s). It is waited for; MLFLOW_HTTP_REQUEST_MAX_RETRIES (%d: about %.0f minutes) says how long.",
                _store(),
                stores.innermost(reason),
                retries,
                max(1, 2 ** (retries + 1) / 60),
            )
        self._is_away = True


def tell() -> None:
    """Have outages of an MLflow server told from here on."""
    urllib3 = logging.getLogger(_URLLIB3)
    if not any(isinstance(each, Telling) for each in urllib3.filters):
        urllib3.addFilter(Telling(urllib3.getEffectiveLevel()))
        urllib3.setLevel(logging.DEBUG)


def _store() -> str:
    return f"The MLflow server at {stores.address(mlflow.get_tracking_uri())}"
