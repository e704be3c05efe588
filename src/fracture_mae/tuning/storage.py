"""Optuna's database of studies, which is waited for where it goes away in the midst of work."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fracture_mae.errors import FractureMaeError, causes, first_line
from fracture_mae.processes.patience import Patience

T = TypeVar("T")

# A machine that is gone says nothing, so a connection to it has to ask; milliseconds for the last, seconds for the others.
POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
}
# What PostgreSQL says while it stops, starts, or has no place left: all of 08, 57P, and 53300.
_GOES_AWAY = ("08", "57P", "53300")
# All that Optuna asks of a database while trials run; what is asked while it is opened fails at once.
_CALLS = (
    *("set_study_user_attr", "set_study_system_attr", "get_study_id_from_name", "get_study_name_from_id"),
    *("get_study_directions", "get_study_user_attrs", "get_study_system_attrs", "get_all_studies"),
    *("create_new_study", "_create_new_trial", "_set_trial_param", "get_trial_id_from_study_id_trial_number"),
    *("_get_best_trial_id", "set_trial_state_values", "set_trial_intermediate_value", "set_trial_user_attr"),
    *("set_trial_system_attr", "get_trial", "_get_trials", "record_heartbeat", "_get_stale_trial_ids"),
)
_UNHEARD_OF = sqlalchemy.text(
    "SELECT trials.trial_id FROM trials LEFT JOIN trial_heartbeats ON trials.trial_id = trial_heartbeats.trial_id "
    "WHERE trials.study_id = :study AND trials.state = 'RUNNING' AND trial_heartbeats.trial_id IS NULL"
)


def hidden(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


class PatientStorage(RDBStorage):
    """A database that may go away for some minutes once `patience` is set: what is asked meanwhile is asked again.

    Whoever holds a study's lock, which a database that goes away takes with it, must not wait, but begin anew: his thread is
    `holder`, and is told at once.

    Attributes:
        patience: with the server; None: an error at once, as when a command starts.
        holder: the thread that holds a lock; None where none does.
    """

    patience: Patience | None = None
    holder: int | None = None

    def patiently(self, call: Callable[[], T]) -> T:
        """What `call` gives, again and again while the database is away; not so in the thread that holds a lock."""
        while True:
            try:
                result = call()
            except (StorageInternalError, DBAPIError) as error:
                if self.holder == threading.get_ident():
                    raise
                self.wait_after(error)
            else:
                if self.patience:
                    self.patience.answered()
                return result

    def wait_after(self, error: Exception) -> None:
        """Wait a moment where `error` is that the database is away; raise it where it is another.

        Raises:
            FractureMaeError: the database has been away for too long.
        """
        lost = _lost_connection(error)
        if self.patience is None or lost is None:
            raise error
        reason = first_line(lost.orig or lost)
        if not self.patience.waits(reason):
            raise FractureMaeError(
                f"the database of the study, {hidden(self.url)}, has been away for too long: {reason}. What it was told "
                "before is in it. Start it again, and the same command goes on with the campaign."
            ) from error

    def settle(self) -> None:
        """After an outage, let the workers give their signs of life before any of them is taken for dead."""
        if self.patience:
            self.patience.answered()
            self.patience.settle()

    def unheard_of(self, study_id: int) -> list[int]:
        """Trials that run and never gave a sign of life."""
        with self.engine.connect() as connection:
            return list(connection.scalars(_UNHEARD_OF, {"study": study_id}))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """As Optuna's, and True where it was told before the connection broke that told so."""
        tries = 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries > 1 and RDBStorage.get_trial(self, trial_id).state == state:
                    return True
                raise

        return self.patiently(once)


def _patient(name: str) -> Callable[..., Any]:
    call = getattr(RDBStorage, name)

    @wraps(call)
    def asked(self: PatientStorage, *arguments: Any, **options: Any) -> Any:
        return self.patiently(lambda: call(self, *arguments, **options))

    return asked


for _name in _CALLS:
    if _name not in vars(PatientStorage):
        setattr(PatientStorage, _name, _patient(_name))


def _lost_connection(error: BaseException) -> DBAPIError | None:
    """What SQLAlchemy says of a PostgreSQL that is away, wherever in the chain of causes it stands; None where none does."""
    return next((each for each in causes(error) if isinstance(each, DBAPIError) and _is_away(each)), None)


def _is_away(error: DBAPIError) -> bool:
    if not isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return error.connection_invalidated
    if not type(error.orig).__module__.startswith("psycopg"):  # SQLite, which is a file
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_GOES_AWAY)
