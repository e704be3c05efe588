"""The store of runs: whether it answers and takes anything, asked before MLflow does, which tries for minutes and says nothing.

The plugin asks it too, while MLflow is only half imported, so MLflow is imported inside functions alone.
"""

import logging
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlparse

import sqlalchemy
from filelock import FileLock
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fracture_mae.errors import FractureMaeError, first_line

if TYPE_CHECKING:
    from mlflow.entities import Experiment

logger = logging.getLogger(__name__)

_SECONDS = 5  # that a store has to answer
_ANOTHER = "or name another place for runs with MLFLOW_TRACKING_URI"
# MLflow's own settings: it tries eight times, two minutes each.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_SECONDS)}


def reach(uri: str) -> None:
    """Ask a store whether it can be used, within about ten seconds.

    Raises:
        FractureMaeError: it cannot; says why, and what to do.
    """
    kind = uri.partition(":")[0].partition("+")[0] if "://" in uri or uri.startswith("file:") else "file"
    if kind == "sqlite":
        _reach_sqlite(uri)
    elif kind in ("postgresql", "mysql", "mssql"):
        _reach_database(uri)
    elif kind in ("http", "https"):
        _reach_server(uri)
    elif kind == "file":
        _refuse_files(uri)


def open_first(uri: str) -> None:
    """Have MLflow open a SQLite database, which may be new, in one process at a time; any other store is left to itself.

    Processes that begin at once would break each other's migrations, and leave a database that nobody can use.
    """
    file = sqlite_file(uri)
    if file is None:
        return
    from mlflow import MlflowClient

    with FileLock(file.with_name(f"{file.name}.open.lock")):
        MlflowClient(uri).search_experiments(max_results=1)


def sqlite_file(uri: str) -> Path | None:
    """The database behind a `sqlite:///…`, an absolute path; None for any other store."""
    if not uri.startswith("sqlite:"):
        return None
    database = make_url(uri).database
    if database and database.startswith("file:"):  # SQLite's own addresses, with settings such as mode=ro
        database = unquote(urlparse(database).path)
    return Path(database).resolve() if database else None


def sqlite_uri(file: Path) -> str:
    """The address of a database, also where its path has letters that mean something in addresses."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def address(uri: str) -> str:
    """A store's address as it holds in every folder, and without its password."""
    file = sqlite_file(uri)
    if file and "/file:" not in uri:
        return sqlite_uri(file)
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except ArgumentError:
        return uri


def ui() -> str:
    """How the UI of the store that is in use is opened, in any folder: a server's address, or a line of a shell."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        return uri
    return f"mlflow ui --backend-store-uri {shlex.quote(address(uri))}   → http://127.0.0.1:5000 (if that is taken: --port 5001)"


def check_experiment(experiment: "Experiment | None") -> None:
    """Refuse an experiment that takes no runs, or whose artifacts have no place to go.

    Raises:
        FractureMaeError: it was deleted; its artifacts lie behind a server that is not asked; or their folder is gone.
    """
    import mlflow

    if experiment is None:
        return
    uri = mlflow.get_tracking_uri()
    name, number = experiment.name, experiment.experiment_id
    if experiment.lifecycle_stage != "active":
        raise FractureMaeError(
            f"the experiment {name!r} in {address(uri)} was deleted. Bring it back: MLFLOW_TRACKING_URI={address(uri)} mlflow "
            f"experiments restore -x {number}. Or choose another name with MLFLOW_EXPERIMENT_NAME (mlflow run: --experiment-name)."
        )
    place = experiment.artifact_location
    if place.startswith("mlflow-artifacts:") and not uri.startswith("http"):
        raise FractureMaeError(
            f"this experiment keeps its artifacts behind an MLflow server ({place}), but runs are tracked in {address(uri)}: figures "
            "and models would have no place to go. It was made by the UI or a server; set MLFLOW_TRACKING_URI to that server's "
            "address, or choose another experiment with MLFLOW_EXPERIMENT_NAME (mlflow run: --experiment-name)."
        )
    folder = local_folder(place)
    if folder and not folder.is_dir() and _has_finished_runs(number):
        raise FractureMaeError(
            f"the experiment {name!r} in {address(uri)} keeps its artifacts in {folder}, and that folder is gone, with the figures and "
            "models of earlier runs. If the project was moved, move it back, or make the old path a link to the new one: MLflow "
            "remembers paths. If the folder was deleted and nothing in it is missed, make it again: mkdir -p the path. Or begin "
            "another experiment here with MLFLOW_EXPERIMENT_NAME (mlflow run: --experiment-name)."
        )


def artifact_location(experiment: str) -> str | None:
    """Where the artifacts of a new experiment are to lie; None: where MLflow puts them, `mlruns` in this folder.

    MLflow keeps that as a path, and reads it as an address: artifacts of `100%20` would come to lie in a folder `100 ` beside it.
    """
    import mlflow

    here = Path.cwd()
    if not mlflow.get_tracking_uri().startswith("sqlite:") or unquote(str(here)) == str(here):
        return None
    logger.warning(
        "MLflow reads %r in the name of this folder as %r: everything works here but `mlflow models serve`. Rename it for that.",
        str(here),
        unquote(str(here)),
    )
    return (here / "mlruns" / quote(experiment, safe=" ")).as_uri()


def local_folder(location: str) -> Path | None:
    """The folder behind the location of artifacts; None where they lie elsewhere."""
    parsed = urlparse(location)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(unquote(location)) if os.path.isabs(location) else None  # as MLflow reads it


def unusable(error: Exception) -> FractureMaeError:
    """The error for whatever else MLflow says when a run is to start."""
    import mlflow

    return FractureMaeError(
        f"no run can be started in {address(mlflow.get_tracking_uri())}: {first_line(error)}. Nothing was changed there. Mend it, "
        f"{_ANOTHER}."
    )


def innermost(error: BaseException | str) -> str:
    """What the cause of it all says: of an address that nobody answers at, `Connection refused`."""
    said = first_line(error) if isinstance(error, BaseException) else error
    reason = said.rpartition("Caused by ")[2] if "Caused by " in said else said
    return reason.strip("()")[-300:]


def impatiently() -> AbstractContextManager[None]:
    """Have MLflow try a server once or twice, instead of for minutes, unless the user has said how long."""
    return _variables(_IMPATIENT)


def unprinted() -> AbstractContextManager[None]:
    """Have MLflow not print two lines with addresses for each run that ends."""
    return _variables({"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"})


def _reach_sqlite(uri: str) -> None:
    file = sqlite_file(uri)
    if file is None:  # in memory
        return
    told = f"the database of runs, {file},"
    if not file.exists():
        if not file.parent.is_dir():
            raise FractureMaeError(f"{told} has no folder to lie in. Make {file.parent}, {_ANOTHER}.")
        try:
            TemporaryFile(dir=file.parent).close()
        except OSError as error:
            raise FractureMaeError(
                f"{told} cannot be made: nothing can be written into {file.parent} ({error.strerror}). Go to a folder of your own, "
                f"{_ANOTHER}, such as MLFLOW_TRACKING_URI=sqlite:////home/you/mlflow.db."
            ) from error
        return
    engine = sqlalchemy.create_engine(uri, connect_args={"timeout": _SECONDS})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            connection.exec_driver_sql(f"PRAGMA user_version = {number}")  # the smallest thing that can be written
            connection.rollback()
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise FractureMaeError(_trouble_of(told, file, error)) from error
    finally:
        engine.dispose()


def _trouble_of(told: str, file: Path, error: Exception) -> str:
    said = first_line(getattr(error, "orig", None) or error)
    if "locked" in said:
        return (
            f"{told} is locked by another process for more than {_SECONDS} seconds. Wait for that process, or end it (a UI or a "
            f"database browser that has the file open?); where several machines write, use a server. {said.capitalize()}."
        )
    if "readonly" in said or "unable to open" in said:
        return (
            f"{told} can be read, but not written, by this user ({said}). Have it, and the folder {file.parent}, made writable, "
            f"{_ANOTHER}. Nothing was changed there."
        )
    if "full" in said:
        return f"{told} cannot be written: {said}. Make room on its disk, {_ANOTHER}. Nothing was changed there."
    return f"{told} cannot be used: {said}. Nothing was changed there; it may hold your runs. Restore it from a copy, {_ANOTHER}."


def _reach_database(uri: str) -> None:
    timeout = {} if "connect_timeout" in uri or uri.startswith("mssql") else {"connect_timeout": _SECONDS}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        try:
            with engine.connect():
                pass
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        said = first_line(getattr(error, "orig", None) or error)
        raise FractureMaeError(
            f"the database of runs at {address(uri)} does not answer: {said}. Start it, or check address, user and password, "
            f"{_ANOTHER}. Nothing was changed there."
        ) from error


def _reach_server(uri: str) -> None:
    from mlflow import MlflowClient

    try:
        with impatiently():
            MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # of requests, urllib3 and MLflow
        raise FractureMaeError(
            f"the MLflow server at {uri} does not answer as one: {innermost(error)}. Start it (mlflow server), check the address, "
            f"{_ANOTHER}. A server that needs longer than {_SECONDS} seconds gets them by MLFLOW_HTTP_REQUEST_TIMEOUT."
        ) from error


def _refuse_files(uri: str) -> None:
    from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE

    if MLFLOW_ALLOW_FILE_STORE.get():
        return
    folder = local_folder(uri) or Path(uri).resolve()
    database = sqlite_uri(folder.parent / "mlflow.db")
    raise FractureMaeError(
        f"MLFLOW_TRACKING_URI={uri} is a folder of files, which this version of MLflow keeps no runs in any more. Take a database "
        f"instead: MLFLOW_TRACKING_URI={database}. Runs that the folder holds come along with: mlflow migrate-filestore --source "
        f"{folder} --target {database}"
    )


def _has_finished_runs(experiment_id: str) -> bool:
    from mlflow import MlflowClient

    return bool(MlflowClient().search_runs([experiment_id], "attributes.status = 'FINISHED'", max_results=1))


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Variables of the environment for a while, where the user has set none."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
