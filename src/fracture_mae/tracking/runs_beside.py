"""Runs that ended already, hundreds of them, in an experiment beside that of their parent.

In the parent's own experiment they would push all other runs off the first page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from fracture_mae.tracking import outages, stores
from fracture_mae.tracking.plugin import experiment_named

EXPERIMENT_TAG = "trials.experiment"  # of the parent


@dataclass(frozen=True)
class EndedRun:
    """A run to be written at once.

    Attributes:
        name: that the UI shows.
        status: "FINISHED", "FAILED" or "KILLED".
        start, end: in local time.
        metrics: name, value and step.
    """

    name: str
    status: str
    start: datetime
    end: datetime
    params: Mapping[str, Any]
    metrics: list[tuple[str, float, int]]
    tags: Mapping[str, Any]


class RunsBeside:
    """The children of a run, in the experiment EXPERIMENT-trials, where EXPERIMENT is the parent's; both link to each other.

    Args:
        run_id: of this process.
        parent: the run that is to be the parent; where it is in another tracking store, `run_id` takes its place.
        what: a child is called in links, in Markdown.
    """

    def __init__(self, run_id: str, parent: str, what: str):
        self._client = MlflowClient()
        self._what = what
        self.parent = self._reachable(run_id, parent)
        self._parents_experiment = self._client.get_run(self.parent).info.experiment_id
        self._experiment = self._beside(self._parents_experiment)
        if self.parent == run_id:
            self._link()

    def write(self, run: EndedRun) -> None:
        start, end = (int(moment.timestamp() * 1000) for moment in (run.start, run.end))
        created = self._client.create_run(
            self._experiment, start_time=start, run_name=run.name, tags={MLFLOW_PARENT_RUN_ID: self.parent}
        )
        link = f"Trial of [{self._what}](#/experiments/{self._parents_experiment}/runs/{self.parent})."
        self._client.log_batch(
            created.info.run_id,
            params=[Param(name, str(value)) for name, value in run.params.items()],
            metrics=[Metric(name, value, end, step) for name, value, step in run.metrics],
            tags=[RunTag(name, str(value)) for name, value in {**run.tags, MLFLOW_RUN_NOTE: link}.items()],
        )
        with stores.unprinted():
            self._client.set_terminated(created.info.run_id, run.status, end_time=end)

    def values_of(self, tag: str) -> set[str | None]:
        """The values of a tag that the children written so far have."""
        ours = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}'"
        children = self._client.search_runs([self._experiment], ours, max_results=50_000)
        return {run.data.tags.get(tag) for run in children}

    def _reachable(self, run_id: str, parent: str) -> str:
        try:
            self._client.get_run(parent)
        except MlflowException as error:
            outages.unless_out_of_reach(error)
            return run_id
        if parent != run_id:
            self._client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        return parent

    def _beside(self, experiment_id: str) -> str:
        """The experiment of the children; one that was deleted, to be rid of old ones, is made use of again."""
        parents = self._client.get_experiment(experiment_id)
        found = experiment_named(f"{parents.name}-trials", f"{parents.artifact_location}-trials")
        if self._client.get_experiment(found).lifecycle_stage == "deleted":
            self._client.restore_experiment(found)
        return found

    def _link(self) -> None:
        """Tell in the parent where its children are, as a link that the UI follows."""
        name = self._client.get_experiment(self._experiment).name
        note = self._client.get_run(self.parent).data.tags.get(MLFLOW_RUN_NOTE, "")
        own = quote(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}'")
        link = f"[Each trial as a run](#/experiments/{self._experiment}/runs?searchFilter={own}), in the experiment {name}."
        self._client.set_tag(self.parent, MLFLOW_RUN_NOTE, f"{note}\n\n{link}".strip())
        self._client.set_tag(self.parent, EXPERIMENT_TAG, name)
