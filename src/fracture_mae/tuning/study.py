"""Studies in a database: opened by several processes at once, and refused where they hold something else."""

import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from filelock import FileLock
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes.patience import Patience
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.storage import POSTGRESQL, PatientStorage, hidden

T = TypeVar("T")

GRACE = 3  # heartbeats after which a silent trial, or worker, is taken for dead
MAX_RETRIES = 2  # of a trial whose worker died
_SIGNATURE = "signature"
_LOCK, _UNLOCK = (sqlalchemy.text(f"SELECT pg_advisory_{word}(:key)") for word in ("lock", "unlock"))

logger = logging.getLogger(__name__)


def open_storage(url: str, heartbeat: int) -> PatientStorage:
    """The database of studies; once it is open, a PostgreSQL that goes away is waited for.

    Args:
        url: sqlite:///FILE or postgresql+psycopg://…
        heartbeat: seconds between two signs of life of a trial, or of the worker that concludes a campaign.

    Raises:
        FractureMaeError: another kind of database, or it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    is_sqlite = _check_url(url)
    try:
        if is_sqlite:
            with FileLock(_lock_file(url)):  # tables that two processes make at once are an error
                return _without_waiting_for_disk(_open(url, heartbeat))
        connection = {name: value for name, value in POSTGRESQL.items() if f"{name}=" not in url}
        with _tables_of_one(url, connection):
            storage = _open(url, heartbeat, connection)
        storage.patience = Patience(f"The database of the study, {hidden(url)},")
        return storage
    except (SQLAlchemyError, OSError, RuntimeError) as error:
        reason, *_ = str(error).splitlines()
        raise FractureMaeError(
            f"--storage {hidden(url)} cannot be opened: {reason.rstrip('.')}. Check that the database exists, is reachable and yours "
            "to write, and that no other version of Optuna made it."
        ) from error


class Lock:
    """A lock that all workers on a study share; the database or the operating system frees it if its holder dies.

    Args:
        storage: PostgreSQL: an advisory lock there; SQLite: a file beside the database.
        name: of the study.
    """

    def __init__(self, storage: PatientStorage, name: str):
        key = _key(name)
        if storage.engine.dialect.name == "sqlite":
            self._file = FileLock(_lock_file(storage.url, f"{key & 0xFFFFFFFF:08x}"))
        else:
            self._file = None
        self.storage, self._key = storage, key
        self._connection: sqlalchemy.Connection | None = None

    def __enter__(self) -> "Lock":
        if self._file:
            self._file.acquire()
            self.storage.holder = threading.get_ident()
            return self
        connection = self.storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.execute(_LOCK, {"key": self._key})
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        self._connection, self.storage.holder = connection, threading.get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def within(self, part: Callable[[], T], interruption: Interruption | None = None) -> T:
        """What `part` gives under the lock; begun anew where the database, and the lock with it, went away meanwhile."""
        while True:
            if interruption:
                interruption.check()
            try:
                with self:
                    self.storage.settle()
                    return part()
            except Exception as error:
                self.storage.wait_after(error)

    def check(self) -> None:
        """See that it is still held: a database that was stopped has let go of it, and may have given it to another."""
        if self._connection:
            self._connection.execute(sqlalchemy.text("SELECT 1"))

    def release(self) -> None:
        """Let go, if it is held."""
        self.storage.holder = None
        if self._file:
            self._file.release()
        elif self._connection:
            connection, self._connection = self._connection, None
            try:
                connection.execute(_UNLOCK, {"key": self._key})
            except SQLAlchemyError:  # the database is gone, and let go of it before
                connection.invalidate()
            connection.close()


def open_study(
    storage: PatientStorage,
    name: str,
    *,
    directions: tuple[str, ...],
    signature: Mapping[str, Any],
    sampler: BaseSampler,
    pruner: BasePruner,
) -> Study:
    """The study of that name, made if there is none; call it under its `Lock`.

    Args:
        signature: what all trials of a study must have in common, as JSON can hold it.

    Raises:
        FractureMaeError: the study there has another signature; says in what they differ.
    """
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        _check_signature(study, signature)
        return study
    study = optuna.create_study(study_name=name, storage=storage, directions=directions, sampler=sampler, pruner=pruner)
    study.set_user_attr(_SIGNATURE, dict(signature))
    return study


def _check_signature(study: Study, signature: Mapping[str, Any]) -> None:
    stored = study.user_attrs.get(_SIGNATURE)
    if stored is None:
        raise FractureMaeError(
            f"the study {study.study_name!r} was not made by this entry point, so what its trials mean is unknown. Choose another "
            "--study-name."
        )
    names = sorted({*stored, *signature})
    differing = [name for name in names if stored.get(name) != signature.get(name)]
    if differing:
        lines = [f"{name} was {_short(stored.get(name))}, now {_short(signature.get(name))}" for name in differing]
        raise FractureMaeError(
            f"the study {study.study_name!r} holds trials that cannot be compared with these: {'; '.join(lines)}. Go on with what "
            "it was begun with, or choose another --study-name."
        )


def _short(value: Any) -> str:
    """A value in a sentence; of a search space, its ranges."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_range(each)}" for name, each in sorted(value.items()))
    return "not set" if value is None else f"{value}"


def _range(distribution: Any) -> str:
    if not isinstance(distribution, Mapping):
        return f"{distribution}"
    attributes = distribution["attributes"]
    return f"{attributes.get('choices') or [attributes['low'], attributes['high']]}"


def _key(name: str) -> int:
    """The number by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def _tables_of_one(url: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Have one process at a time make what tables are missing: two at once are an error."""
    engine = sqlalchemy.create_engine(url, connect_args=dict(options), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:  # and with the connection the lock ends
        connection.execute(_LOCK, {"key": _key("the tables of Optuna")})
        yield


def _open(url: str, heartbeat: int, connection: Mapping[str, Any] | None = None) -> PatientStorage:
    return PatientStorage(
        url,
        engine_kwargs={"pool_pre_ping": True, "connect_args": dict(connection or {})},
        heartbeat_interval=heartbeat,
        grace_period=GRACE * heartbeat,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
    )


def _check_url(url: str) -> bool:
    """Whether it is SQLite."""
    found = re.match(r"(sqlite|postgresql)(\+\w+)?://", url)
    if found is None:
        raise FractureMaeError(
            f"--storage: found {url!r}, expected sqlite:///FILE (workers on one machine) or postgresql+psycopg://HOST/DATABASE (many)."
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise FractureMaeError(
            f"--storage cannot be read as a URL: {error}. Expected HOST:PORT with a number."
        ) from None
    if found[1] == "sqlite" and not parsed.database:
        raise FractureMaeError(f"--storage {url} names no file; expected sqlite:///FILE, such as sqlite:///optuna.db.")
    if parsed.password:
        logger.warning(
            "MLflow logs parameters, and --storage holds a password. Leave it to PGPASSWORD or ~/.pgpass instead."
        )
    return found[1] == "sqlite"


def _lock_file(url: str, name: str = "open") -> Path:
    file = Path(make_url(url).database)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(f"{file.name}.{name}.lock")


def _without_waiting_for_disk(storage: PatientStorage) -> PatientStorage:
    """Write-ahead logging, which needs no flush to the disk for each of the fifteen writes of a trial.

    Whatever happens to a process, nothing is lost; if the power fails, the last trials may be.
    """

    def configure(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=60000")

    event.listen(storage.engine, "connect", configure)
    storage.engine.dispose()  # so that all connections are configured
    return storage
