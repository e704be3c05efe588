"""What a run has logged, and how a registered model came to be: the run that made it, the model this one started from, and so on."""

from dataclasses import dataclass
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from fracture_mae.tracking import outages, registry

_LONGEST = 20  # steps; nobody fine-tunes that often
_STARTED_FROM = ("encoder", "model")  # tags of the runs that make models, the first that there is
COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Logged:
    """What a run has logged. params, tags: texts; metrics: their last values."""

    run_id: str
    experiment_id: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    @property
    def page(self) -> str:
        """Its place in the UI, as a link from any other page there."""
        return page_of(self.experiment_id, self.run_id)

    @property
    def entry_point(self) -> str:
        return self.tags.get("entry_point", "unknown entry point")


@dataclass(frozen=True)
class Step:
    """A model on the way. name: its URI, preset, folder or hub name; run: what made it; None where that is not known here."""

    name: str
    run: Logged | None


def logged(run_id: str) -> Logged | None:
    """What a run has logged; None where it is gone."""
    try:
        found = MlflowClient().get_run(run_id)
    except MlflowException as error:
        outages.unless_out_of_reach(error)
        return None
    data = found.data
    return Logged(run_id, found.info.experiment_id, dict(data.params), dict(data.tags), dict(data.metrics))


def read_table(run_id: str, path: str) -> pd.DataFrame | None:
    """A table that a run has logged; None where the run, or the table, is gone or damaged."""
    try:
        with TemporaryDirectory() as folder:
            return pd.read_csv(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
    except (MlflowException, OSError, ValueError) as error:
        outages.unless_out_of_reach(error)
        return None


def repeated(run_id: str, line: str) -> str:
    """How a run is repeated by a line of the shell, Markdown."""
    run = logged(run_id)
    commit = run.tags.get(COMMIT) if run else None
    at = f", at commit `{commit}`" if commit else ""
    told = (
        f"In the project's folder{at}; all else was left at its default, and `config.yaml` of the run has every value."
    )
    return f"{told}\n\n```sh\n{line}\n```"


def page_of(experiment_id: str, run_id: str) -> str:
    """The place of a run in the UI."""
    return f"#/experiments/{experiment_id}/runs/{run_id}"


def lineage(name: str) -> list[Step]:
    """A model and what it started from, the model itself first; the last one is not of this registry, or its run is gone."""
    steps: list[Step] = []
    while name and len(steps) < _LONGEST:
        run_id = registry.made_in(name)
        run = logged(run_id) if run_id else None
        steps.append(Step(name, run))
        name = next((run.tags[tag] for tag in _STARTED_FROM if tag in run.tags), "") if run else ""
    return steps
