"""An MLflow run for each trial, written in the background so that no trial waits for it.

Hundreds of trials would push all other runs off the first page of their experiment, so they have one of their own beside it.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from optuna import Study
from optuna.trial import FrozenTrial

from fracture_mae.tracking.plugin import experiment_named
from fracture_mae.tracking.runs import REASON_TAG
from fracture_mae.tuning import trials
from fracture_mae.tuning.campaign import Campaign

STATE_TAG, NUMBER_TAG = "trial.state", "trial.number"
EXPERIMENT_TAG = "trials.experiment"  # of the parent
# MLflow has no word for pruned; the tag tells it, and the other ways not to end, apart.
_STATUS = {trials.COMPLETE: "FINISHED", trials.PRUNED: "KILLED", trials.INTERRUPTED: "KILLED"}
_WRITTEN_BY_WORKERS = {trials.COMPLETE, trials.PRUNED, trials.NON_FINITE, trials.FAILED}
_DRAIN = 15.0  # seconds that other workers have to log the last of their trials


class TrialRuns:
    """The runs of a campaign's trials, whose parent is the run of the worker that opened it; use as a context manager.

    They are in the experiment EXPERIMENT-trials, where EXPERIMENT is the parent's; parent and trials link to each other. Where the
    parent is out of reach (its worker has another tracking store), this worker's own run takes its place.

    Args:
        campaign: the campaign.
        value_names: of the study's values.
        intermediate: name of the metric that trials report epoch by epoch.
    """

    def __init__(self, campaign: Campaign, value_names: tuple[str, ...], intermediate: str):
        self._client = MlflowClient()
        self._campaign, self._value_names, self._intermediate = campaign, value_names, intermediate
        self.parent = self._parent(campaign)
        self._parents_experiment = self._client.get_run(self.parent).info.experiment_id
        self._experiment = self._beside(self._parents_experiment)
        if self.parent == campaign.run_id:
            self._link()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: list[Future] = []

    def __enter__(self) -> "TrialRuns":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        for written in self._pending:
            written.result()

    def write(self, study: Study, trial: FrozenTrial) -> None:
        """Have a trial's run written; returns at once."""
        self._pending.append(self._thread.submit(self._write, trial))

    def write_missing(self, study: Study) -> None:
        """Have those trials of the campaign written that no worker wrote, since it died or was interrupted."""
        end = time.monotonic() + _DRAIN
        for written in self._pending:
            written.result()
        missing = self._missing(study)
        while time.monotonic() < end and any(trials.outcome(trial)[0] in _WRITTEN_BY_WORKERS for trial in missing):
            time.sleep(0.5)
            missing = self._missing(study)
        for trial in missing:
            self.write(study, trial)

    def _missing(self, study: Study) -> list[FrozenTrial]:
        ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        ended = [trial for trial in ended if trial.number >= self._campaign.record.first]
        children = self._client.search_runs(
            [self._experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}'", max_results=50_000
        )
        written = {run.data.tags.get(NUMBER_TAG) for run in children}
        return [trial for trial in ended if str(trial.number) not in written]

    def _parent(self, campaign: Campaign) -> str:
        try:
            self._client.get_run(campaign.record.parent)
        except MlflowException:
            return campaign.run_id
        if not campaign.is_opener:
            self._client.set_tag(campaign.run_id, MLFLOW_PARENT_RUN_ID, campaign.record.parent)
        return campaign.record.parent

    def _beside(self, experiment_id: str) -> str:
        """The experiment of the trials; one that was deleted, to be rid of old trials, is made use of again."""
        parents = self._client.get_experiment(experiment_id)
        found = experiment_named(f"{parents.name}-trials", f"{parents.artifact_location}-trials")
        if self._client.get_experiment(found).lifecycle_stage == "deleted":
            self._client.restore_experiment(found)
        return found

    def _link(self) -> None:
        """Tell in the parent where its trials are, as a link that the UI follows."""
        name = self._client.get_experiment(self._experiment).name
        note = self._client.get_run(self.parent).data.tags.get(MLFLOW_RUN_NOTE, "")
        own = quote(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}'")
        link = f"[Each trial as a run](#/experiments/{self._experiment}/runs?searchFilter={own}), in the experiment {name}."
        self._client.set_tag(self.parent, MLFLOW_RUN_NOTE, f"{note}\n\n{link}".strip())
        self._client.set_tag(self.parent, EXPERIMENT_TAG, name)

    def _write(self, trial: FrozenTrial) -> None:
        state, reason = trials.outcome(trial)
        start, end = (int(moment.timestamp() * 1000) for moment in (trial.datetime_start, trial.datetime_complete))
        run = self._client.create_run(
            self._experiment,
            start_time=start,
            run_name=f"trial {trial.number}",
            tags={MLFLOW_PARENT_RUN_ID: self.parent},
        )
        study = self._campaign.study.study_name
        link = f"Trial of [the study {study}](#/experiments/{self._parents_experiment}/runs/{self.parent})."
        tags = {STATE_TAG: state, NUMBER_TAG: trial.number, "study": study, MLFLOW_RUN_NOTE: link}
        if state == trials.COMPLETE:
            tags["trial.feasible"] = trials.is_feasible(trial)
        else:
            tags[REASON_TAG] = reason
        self._client.log_batch(
            run.info.run_id,
            params=[Param(name, str(value)) for name, value in trial.params.items()],
            metrics=[Metric(name, value, end, step) for name, value, step in self._metrics(trial, state)],
            tags=[RunTag(name, str(value)) for name, value in tags.items()],
        )
        self._client.set_terminated(run.info.run_id, _STATUS.get(state, "FAILED"), end_time=end)

    def _metrics(self, trial: FrozenTrial, state: str) -> list[tuple[str, float, int]]:
        """Name, value and step."""
        verdict = trials.verdict_of(trial)
        flat = dict(verdict.get("metrics", {}))
        flat |= {name: verdict[name] for name in ("threshold", "temperature") if name in verdict}
        if state == trials.COMPLETE:
            flat |= {f"objective/{name}": value for name, value in zip(self._value_names, trial.values, strict=True)}
        flat |= {f"constraint/{name}": value for name, value in trial.constraints.items()}
        flat["seconds"] = trial.duration.total_seconds()
        by_epoch = [(self._intermediate, abs(value), epoch) for epoch, value in trial.intermediate_values.items()]
        return [(name, value, 0) for name, value in flat.items()] + by_epoch
