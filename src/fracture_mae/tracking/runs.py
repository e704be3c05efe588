"""MLflow runs: how one starts and ends, and what it logs."""

import logging
import os
import signal
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
import yaml
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import name_utils
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from fracture_mae import plots
from fracture_mae.config import Config
from fracture_mae.data import splits, unlabelled
from fracture_mae.data.copies import groups
from fracture_mae.data.reading import index
from fracture_mae.data.reading.cache_folder import shortage
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError, first_line, legible
from fracture_mae.plots.pictures import contact_sheet
from fracture_mae.processes import ranks
from fracture_mae.processes.ending import ending_signals
from fracture_mae.tracking import lineage, outages, ownership, stores
from fracture_mae.tracking.ownership import REASON_TAG
from fracture_mae.tracking.plugin import EXPERIMENT, experiment_named
from fracture_mae.tracking.report import Report

_LONGEST_REASON = 1000
_SHOWN_FILES = 36  # of a group that is large enough to be looked at

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
        location = self._client.get_run(self.id).info.artifact_uri
        return f"{stores.local_folder(location) or location}/{path}"

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
            current.tags(ownership.process_tags())
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

    Raises:
        FractureMaeError: the store cannot be used, or the X-rays that `config` names are not there.
    """
    if not ranks.is_first():
        yield SilentRun()
        return
    _quieten()
    stores.reach(mlflow.get_tracking_uri())
    outages.tell()
    active = _start(name or entry_point)
    previous_handlers = {number: signal.signal(number, _raise_terminated) for number in ending_signals()}
    try:
        current = Run(active.info.run_id)
        if not ranks.is_led():  # or its leader, whose run it is, has done so
            ownership.close_dead_runs(MlflowClient())
            current.tags({"entry_point": entry_point} | ownership.process_tags())
            current.config(config)
            for option in ("data_dir", "unlabelled_dir"):  # told before anything heavy is read
                index.check(getattr(config, option, "none"), option)
        yield current
        mlflow.end_run("FINISHED")
    except BaseException as error:
        _end_as_failed(active.info.run_id, error)
        outages.explain(error, active.info.run_id)
        raise
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def temporary_store(folder: Path) -> Iterator[Run]:
    """A run in a new store below `folder`, which is where everything is tracked meanwhile; no run is active in it.

    Other processes find the store at `sqlite:///FOLDER/mlflow.db`, and in it the experiment `EXPERIMENT`, whose artifacts are in
    FOLDER/artifacts.
    """
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(stores.sqlite_uri(folder / "mlflow.db"))
    try:
        client = MlflowClient()
        experiment = client.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
        yield Run(client.create_run(experiment).info.run_id)
    finally:
        mlflow.set_tracking_uri(before)


def _start(name: str) -> mlflow.ActiveRun:
    try:
        stores.open_first(mlflow.get_tracking_uri())
        if run_id := os.environ.get("MLFLOW_RUN_ID"):
            return _taken(run_id, name)
        if (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")) and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            stores.check_experiment(MlflowClient().get_experiment(experiment_id))
            mlflow.set_experiment(experiment_id=experiment_id)
        else:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
            stores.check_experiment(MlflowClient().get_experiment_by_name(experiment))
            mlflow.set_experiment(experiment_id=experiment_named(experiment))
        return mlflow.start_run(run_name=name)
    except FractureMaeError:
        raise
    except Exception as error:  # whatever a damaged, read-only or outdated database, or a server, comes up with
        raise stores.unusable(error) from error


def _taken(run_id: str, name: str) -> mlflow.ActiveRun:
    """The run that `mlflow run`, or the leader of this rank, has made for this process.

    Raises:
        FractureMaeError: the variable is left over from another run, which is not to be written into.
    """
    try:
        found = MlflowClient().get_run(run_id)
    except MlflowException as error:
        outages.unless_out_of_reach(error)
        raise FractureMaeError(
            f"MLFLOW_RUN_ID names the run {run_id}, which {stores.address(mlflow.get_tracking_uri())} has not: {first_line(error)}. It "
            "seems to be left over in this shell: unset MLFLOW_RUN_ID, or set MLFLOW_TRACKING_URI to where that run is."
        ) from error
    if not ranks.is_led() and not _is_for_us(found):
        what = (
            f"has ended ({found.info.status})"
            if RunStatus.is_terminated(RunStatus.from_string(found.info.status))
            else "is written by another process"
        )
        raise FractureMaeError(
            f"MLFLOW_RUN_ID names the run {run_id} ({found.info.run_name}), which {what}; nothing was written into it. `mlflow run` "
            "sets this variable for the run that it makes; it seems to be left over in this shell: unset MLFLOW_RUN_ID."
        )
    stores.check_experiment(MlflowClient().get_experiment(found.info.experiment_id))
    active = mlflow.start_run()  # which takes the variable away, so that runs below this one are new ones
    if is_made_up(active.info.run_name):
        MlflowClient().set_tag(active.info.run_id, MLFLOW_RUN_NAME, name)
    return active


def _is_for_us(run: mlflow.entities.Run) -> bool:
    """Whether a run waits for a process to take it, as one does that `mlflow run` has made."""
    is_open = not RunStatus.is_terminated(RunStatus.from_string(run.info.status))
    return is_open and ("entry_point" not in run.data.tags or not ownership.is_written_by_another(run.data.tags))


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
    if not (run_id := os.environ.get("MLFLOW_RUN_ID")):
        return
    client = MlflowClient()
    try:
        stores.reach(mlflow.get_tracking_uri())
        found = client.get_run(run_id)
    except (FractureMaeError, MlflowException):  # the error itself says so, or it is a run of another store
        return
    if not _is_for_us(found):
        return
    if is_made_up(found.info.run_name) and MLFLOW_PROJECT_ENTRY_POINT in found.data.tags:
        client.set_tag(found.info.run_id, MLFLOW_RUN_NAME, found.data.tags[MLFLOW_PROJECT_ENTRY_POINT])
    if REASON_TAG not in found.data.tags:
        _end_as_failed(found.info.run_id, error)


def database_folder() -> Path:
    """The folder of the SQLite database that runs live in; the working folder where they live elsewhere."""
    file = stores.sqlite_file(mlflow.get_tracking_uri())
    return file.parent if file else Path.cwd()


def _end_as_failed(run_id: str, error: BaseException) -> None:
    error = shortage(error) or error
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}" or type(error).__name__
    try:
        with outages.haste_after(error):
            MlflowClient().set_tag(run_id, REASON_TAG, legible(f"{type(error).__name__}: {reason}")[:_LONGEST_REASON])
            if mlflow.active_run():
                mlflow.end_run("FAILED")
            else:
                MlflowClient().set_terminated(run_id, "FAILED")
    except Exception as further:  # such as a disk that is full; what ended the run is worth more than this
        logger.warning("The run %s could not be closed as FAILED (%s); the next start will do it.", run_id, further)


def _raise_terminated(number: int, _: object) -> None:
    # A leader speaks for its ranks.
    raise SystemExit(1 if ranks.is_led() else f"ended by {signal.Signals(number).name}")


def _quieten() -> None:
    """Keep chatter that a user can do nothing about out of a run's output."""
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    warnings.filterwarnings("ignore", message=".*input example was not provided")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # With the traceback of whatever ended a query, Ctrl-C too, which is raised besides.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
