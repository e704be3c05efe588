"""MLflow runs: how one starts and ends, and what it logs."""

import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import yaml
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import name_utils
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from fracture_mae import plots
from fracture_mae.config import Config
from fracture_mae.data import splits, unlabelled
from fracture_mae.data.copies import groups
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError, first_line, legible
from fracture_mae.plots.pictures import contact_sheet
from fracture_mae.processes import ranks
from fracture_mae.tracking import lineage
from fracture_mae.tracking.plugin import EXPERIMENT, REASON_TAG
from fracture_mae.tracking.report import Report

_HOST_TAG, _PROCESS_TAG = "process.host", "process.id"
_LONGEST_REASON = 1000
_SHOWN_FILES = 36  # of a group that is large enough to be looked at
_CLOCK_TOLERANCE = 60.0  # seconds by which a process's start may seem to move when the clock is set

logger = logging.getLogger(__name__)


class Run:
    """The active MLflow run."""

    def __init__(self, run_id: str):
        self.id = run_id
        self._client = MlflowClient()

    @property
    def page(self) -> str:
        """Its place in the UI, as a link from any other page there."""
        return lineage.page_of(self._client.get_run(self.id).info.experiment_id, self.id)

    def link(self, path: str) -> str:
        """A file that it has logged, as a link in Markdown that works wherever the UI shows it."""
        return f"[{path}]({self.page}/artifacts/{path})"

    def place_of(self, path: str) -> str:
        """Where a file that it has logged lies: a path, or an address in the store that the artifacts are in."""
        return f"{self._client.get_run(self.id).info.artifact_uri.removeprefix('file://')}/{path}"

    def tags(self, tags: Mapping[str, Any]) -> None:
        self._client.log_batch(self.id, tags=[RunTag(key, legible(str(value))) for key, value in tags.items()])

    def config(self, config: Config) -> None:
        """Parameters that are not logged yet, and all values as they are really used in config.yaml.

        What is not settled yet is left to a later call: MLflow refuses to change a parameter. Where this project's plugin is not
        installed, `mlflow run` has logged those that were typed, as text.
        """
        values = config.model_dump()
        logged = {*self._client.get_run(self.id).data.params, *config.unsettled}
        self._client.log_batch(
            self.id, params=[Param(name, str(value)) for name, value in values.items() if name not in logged]
        )
        self._client.log_text(self.id, yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "config.yaml")
        if "recipe" in values:
            self.tags({"recipe": values["recipe"]})

    def note(self, markdown: str) -> None:
        """The description that the UI shows on top of the run."""
        self.tags({"mlflow.note.content": markdown})

    def add_note(self, markdown: str) -> None:
        """A further paragraph of the description."""
        known = self._client.get_run(self.id).data.tags.get("mlflow.note.content", "")
        self.note(f"{known}\n\n{markdown}".strip())

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(
            self.id, metrics=[Metric(name, float(value), now, step) for name, value in values.items()]
        )

    def figure(self, figure: Figure, path: str) -> None:
        place = PurePosixPath(path)
        with TemporaryDirectory() as folder:
            file = Path(folder, place.name)
            file.write_bytes(plots.png(figure))
            mlflow.log_artifact(str(file), None if place.parent == PurePosixPath() else str(place.parent))

    def table(self, table: pd.DataFrame, path: str, *, index: bool = False) -> None:
        """A table as CSV."""
        mlflow.log_text(table.to_csv(index=index), path)

    def text(self, text: str, path: str) -> None:
        mlflow.log_text(text, path)

    def json(self, values: Any, path: str) -> None:
        mlflow.log_dict(values, path)

    def figures(self, figures: Mapping[str, Figure]) -> None:
        for path, figure in figures.items():
            self.figure(figure, path)

    @contextmanager
    def child(self, name: str) -> Iterator["Run"]:
        """A run below this active one; it ends as FINISHED, or as FAILED with the reason, and this one is active again.

        What is logged by the active run (figures, tables) goes to the child meanwhile.
        """
        experiment_id = self._client.get_run(self.id).info.experiment_id
        active = mlflow.start_run(run_name=name, nested=True, parent_run_id=self.id, experiment_id=experiment_id)
        current = Run(active.info.run_id)
        try:
            current.tags(_process_tags())
            yield current
        except BaseException as error:
            _end_as_failed(current.id, error)
            raise
        mlflow.end_run("FINISHED")

    def report(self, report: Report, folder: str = "") -> None:
        """Everything a report holds, its files below `folder`."""
        self.tags(report.tags)
        self.metrics(report.metrics)
        for path, table in report.tables.items():
            self.table(table, folder + path)
        self.figures({folder + path: figure for path, figure in report.figures.items()})
        for path, document in report.documents.items():
            self.json(document, folder + path)

    def input(self, table: pd.DataFrame, name: str, context: str) -> None:
        """Files as an MLflow dataset."""
        columns = ["sha256", "label", "label_name", "group", "source", "height", "width"]
        mlflow.log_input(mlflow.data.from_pandas(table[columns], targets="label", name=name), context=context)

    def dataset(self, dataset: Dataset) -> None:
        """The splits as MLflow datasets, `splits.csv`, `rejected.csv`, large groups, and tags that tell runs on other data apart."""
        for xrays, context in zip(dataset.sides, ("training", "validation", "test"), strict=True):
            if not len(xrays):  # of somebody else's X-rays all are test
                continue
            self.input(xrays.table, f"{dataset.name}-{xrays.name}", context)
            self.metrics({f"{xrays.name}/n_images": len(xrays), f"{xrays.name}/n_xrays": len(set(xrays.group))})
            if xrays.has_boxes.any():
                self.metrics({f"{xrays.name}/n_xrays_with_boxes": len(set(xrays.group[xrays.has_boxes]))})
        self.metrics({f"leakage/{name}": share for name, share in asdict(dataset.leakage).items()})
        self.table(splits.saved(dataset.index), "data/splits.csv")
        self.table(dataset.rejected, "data/rejected.csv")
        self.table(dataset.links, "data/links.csv")
        if len(dataset.unlabelled):
            self._unlabelled(dataset)
        for number, group in enumerate(groups.large(dataset.index["group"]), 1):
            self.figure(_files_of(dataset, group), f"data/large_group_{number}.png")
        self.tags(
            {
                "data": dataset.name,
                "data.fingerprint": dataset.fingerprint,
                "data.rejected": len(dataset.rejected),
                "group_by": dataset.group_by,
                "split.fingerprint": dataset.split_fingerprint,
                "leakage": dataset.leakage,
            }
        )

    def _unlabelled(self, dataset: Dataset) -> None:
        """X-rays without labels that training has besides: which, and why others are left out."""
        added = dataset.added
        self.input(added, f"{dataset.name}-unlabelled", "training without labels")
        self.table(dataset.unlabelled[unlabelled.SAVED], "data/unlabelled.csv")
        counts = {"n_images": len(added), "n_xrays": added["group"].nunique()}
        counts["n_left_out"] = len(dataset.unlabelled) - len(added)
        self.metrics({f"unlabelled/{name}": count for name, count in counts.items()})
        self.tags({"unlabelled.fingerprint": dataset.unlabelled_fingerprint})


def read_table(run_id: str, path: str) -> pd.DataFrame | None:
    """A table that a run has logged; None where the run, or the table, is gone."""
    try:
        with TemporaryDirectory() as folder:
            return pd.read_csv(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
    except (MlflowException, OSError):
        return None


def _files_of(dataset: Dataset, group: str) -> Figure:
    """Up to _SHOWN_FILES files of a group, spread over their names in order."""
    files = dataset.index[dataset.index["group"] == group].sort_values("path")
    shown = files.iloc[np.unique(np.linspace(0, len(files) - 1, _SHOWN_FILES).astype(int))]
    names = [Path(path).name for path in shown["path"]]
    title = f"{len(files):,} of {len(dataset.index):,} files count as one X-ray; {len(shown)} of them"
    return contact_sheet(dataset.train.pixels[shown["row"]], names, title)


def _nothing(*_: object, **__: object) -> None:
    pass


class SilentRun(Run):
    """What a process that is not the first has in place of a run: it takes all that a run takes, and does nothing with it."""

    def __init__(self) -> None:
        self.id = ""

    config = tags = note = add_note = metrics = figure = figures = table = text = json = report = input = dataset = (
        _nothing
    )
    link = place_of = _nothing

    @contextmanager
    def child(self, name: str) -> Iterator["SilentRun"]:
        yield self


@contextmanager
def run(entry_point: str, config: Config, name: str = "") -> Iterator[Run]:
    """A run that ends as FINISHED, or as FAILED with the reason in the tag `failure_reason`.

    Under `mlflow run` it is the run that MLflow made (MLFLOW_RUN_ID); started directly it is a new one in the experiment
    MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID, or `fracture-mae`. Of several processes of a training the first has the run, the
    others a `SilentRun`.

    Args:
        name: of the run, where the user gave none; empty: that of the entry point.
    """
    if not ranks.is_first():
        yield SilentRun()
        return
    _quieten()
    active = _start(name or entry_point)
    previous_handler = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        current = Run(active.info.run_id)
        if not ranks.is_led():  # or its leader, whose run it is, has done so
            _check_artifact_store(active.info.artifact_uri)
            _close_dead_runs(active.info.experiment_id)
            current.tags({"entry_point": entry_point} | _process_tags())
            current.config(config)
        yield current
    except BaseException as error:
        _end_as_failed(active.info.run_id, error)
        raise
    else:
        mlflow.end_run("FINISHED")
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextmanager
def temporary_store(folder: Path) -> Iterator[Run]:
    """A run in a new store below `folder`, which is where everything is tracked meanwhile; no run is active in it.

    Other processes find the store at `sqlite:///FOLDER/mlflow.db`, and in it the experiment `EXPERIMENT`, whose artifacts are in
    FOLDER/artifacts.
    """
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    try:
        client = MlflowClient()
        experiment = client.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
        yield Run(client.create_run(experiment).info.run_id)
    finally:
        mlflow.set_tracking_uri(before)


def _process_tags() -> dict[str, str]:
    """Which process a run belongs to, so that the next run can tell if it was killed."""
    return {
        _HOST_TAG: socket.gethostname(),
        _PROCESS_TAG: f"{os.getpid()}@{psutil.Process().create_time():.2f}",
    }


def _start(name: str) -> mlflow.ActiveRun:
    try:
        if "MLFLOW_RUN_ID" in os.environ:
            active = mlflow.start_run()
            if is_made_up(active.info.run_name):
                MlflowClient().set_tag(active.info.run_id, MLFLOW_RUN_NAME, name)
            return active
        if "MLFLOW_EXPERIMENT_ID" in os.environ and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            mlflow.set_experiment(experiment_id=os.environ["MLFLOW_EXPERIMENT_ID"])
        else:
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
        return mlflow.start_run(run_name=name)
    except Exception as error:  # whatever a damaged, read-only or outdated database, or a server, comes up with
        raise FractureMaeError(
            f"no run can be started in {mlflow.get_tracking_uri()}: {first_line(error)}. Mend it or move it away, or name another "
            "place for runs with MLFLOW_TRACKING_URI."
        ) from error


def is_made_up(run_name: str) -> bool:
    """Whether MLflow drew the name, such as amusing-seal-598, since the user gave none.

    Its words are not documented; were they gone, every name would be taken for the user's.
    """
    adjective, _, rest = run_name.partition("-")
    noun, _, number = rest.partition("-")
    adjectives, nouns = (getattr(name_utils, f"_GENERATOR_{kind}", ()) for kind in ("PREDICATES", "NOUNS"))
    return adjective in adjectives and noun in nouns and number.isdecimal()


def record_failure(error: BaseException) -> None:
    """Where `mlflow run` made a run for this process: end it as FAILED with the reason, unless that is done."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    client = MlflowClient()
    found = client.get_run(os.environ["MLFLOW_RUN_ID"])
    if is_made_up(found.info.run_name) and MLFLOW_PROJECT_ENTRY_POINT in found.data.tags:
        client.set_tag(found.info.run_id, MLFLOW_RUN_NAME, found.data.tags[MLFLOW_PROJECT_ENTRY_POINT])
    if REASON_TAG not in found.data.tags:
        _end_as_failed(found.info.run_id, error)


def database_folder() -> Path:
    """The folder of the SQLite database that runs live in; the working folder where they live elsewhere."""
    uri = mlflow.get_tracking_uri()
    return Path(uri.removeprefix("sqlite:///")).resolve().parent if uri.startswith("sqlite:///") else Path.cwd()


def _end_as_failed(run_id: str, error: BaseException) -> None:
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}" or type(error).__name__
    MlflowClient().set_tag(run_id, REASON_TAG, legible(f"{type(error).__name__}: {reason}")[:_LONGEST_REASON])
    if mlflow.active_run():
        mlflow.end_run("FAILED")
    else:
        MlflowClient().set_terminated(run_id, "FAILED")


def _raise_terminated(*_: object) -> None:
    raise SystemExit(1 if ranks.is_led() else "ended by SIGTERM")  # a leader speaks for its ranks


def _check_artifact_store(artifact_uri: str) -> None:
    tracking_uri = mlflow.get_tracking_uri()
    if artifact_uri.startswith("mlflow-artifacts:") and not tracking_uri.startswith("http"):
        raise FractureMaeError(
            f"this experiment keeps its artifacts behind an MLflow server ({artifact_uri}), but runs are tracked in "
            f"{tracking_uri}: figures and models would have no place to go. It was made by the UI or a server; set "
            "MLFLOW_TRACKING_URI to that server's address, or choose another experiment with MLFLOW_EXPERIMENT_NAME "
            "(mlflow run: --experiment-name)."
        )


def _close_dead_runs(experiment_id: str) -> None:
    """End as FAILED the runs whose process on this machine is gone: a process killed outright cannot do it itself."""
    client = MlflowClient()
    running = client.search_runs(
        [experiment_id], f"attributes.status = 'RUNNING' and tags.`{_HOST_TAG}` = '{socket.gethostname()}'"
    )
    for other in running:
        if not _is_alive(other.data.tags[_PROCESS_TAG]):
            client.set_tag(other.info.run_id, REASON_TAG, "its process was killed")
            client.set_terminated(other.info.run_id, "FAILED")


def _is_alive(process_id: str) -> bool:
    """Whether `PID@START` still runs; its start tells it from a later process with the same number."""
    pid, start = process_id.split("@")
    try:
        process = psutil.Process(int(pid))
        started_then = abs(process.create_time() - float(start)) < _CLOCK_TOLERANCE
        return started_then and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _quieten() -> None:
    """Keep chatter that a user can do nothing about out of a run's output."""
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    warnings.filterwarnings("ignore", message=".*input example was not provided")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # With the traceback of whatever ended a query, Ctrl-C too, which is raised besides.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
