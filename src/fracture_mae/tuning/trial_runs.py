"""An MLflow run for each trial, written in the background so that no trial waits for it."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from optuna import Study
from optuna.trial import FrozenTrial

from fracture_mae.tracking.runs import REASON_TAG
from fracture_mae.tracking.runs_beside import EndedRun, RunsBeside
from fracture_mae.tuning import trials
from fracture_mae.tuning.campaign import Campaign

STATE_TAG, NUMBER_TAG = "trial.state", "trial.number"
# MLflow has no word for pruned; the tag tells it, and the other ways not to end, apart.
_STATUS = {trials.COMPLETE: "FINISHED", trials.PRUNED: "KILLED", trials.INTERRUPTED: "KILLED"}
_WRITTEN_BY_WORKERS = {trials.COMPLETE, trials.PRUNED, trials.NON_FINITE, trials.FAILED}
_DRAIN = 15.0  # seconds that other workers have to log the last of their trials


class TrialRuns:
    """The runs of a campaign's trials, whose parent is the run of the worker that opened it; use as a context manager.

    Args:
        campaign: the campaign.
        value_names: of the study's values.
        intermediate: name of the metric that trials report epoch by epoch.
    """

    def __init__(self, campaign: Campaign, value_names: tuple[str, ...], intermediate: str):
        self._campaign, self._value_names, self._intermediate = campaign, value_names, intermediate
        self._runs = RunsBeside(campaign.run_id, campaign.record.parent, f"the study {campaign.study.study_name}")
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: list[Future] = []
        self._in_vain = False  # once a store was waited for in vain, each further run would wait as long again

    def __enter__(self) -> "TrialRuns":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self.drain()

    def drain(self) -> None:
        """Wait for what is being written.

        Raises:
            Exception: of the first that could not be written; none was after it, and the study has them all.
        """
        for written in self._pending:
            written.result()

    def write(self, study: Study, trial: FrozenTrial) -> None:
        """Have a trial's run written; returns at once."""
        self._pending.append(self._thread.submit(self._write_unless_in_vain, trial))

    def write_missing(self, study: Study) -> None:
        """Have those trials of the campaign written that no worker wrote, since it died or was interrupted."""
        end = time.monotonic() + _DRAIN
        self.drain()
        missing = self._missing(study)
        while time.monotonic() < end and any(trials.outcome(trial)[0] in _WRITTEN_BY_WORKERS for trial in missing):
            time.sleep(0.5)
            missing = self._missing(study)
        for trial in missing:
            self.write(study, trial)

    def _missing(self, study: Study) -> list[FrozenTrial]:
        ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        ended = [trial for trial in ended if trial.number >= self._campaign.record.first]
        written = self._runs.values_of(NUMBER_TAG)
        return [trial for trial in ended if str(trial.number) not in written]

    def _write_unless_in_vain(self, trial: FrozenTrial) -> None:
        if self._in_vain:
            return
        try:
            self._write(trial)
        except BaseException:
            self._in_vain = True
            raise

    def _write(self, trial: FrozenTrial) -> None:
        state, reason = trials.outcome(trial)
        tags = {STATE_TAG: state, NUMBER_TAG: trial.number, "study": self._campaign.study.study_name}
        if state == trials.COMPLETE:
            tags["trial.feasible"] = trials.is_feasible(trial)
        else:
            tags[REASON_TAG] = reason
        ended = EndedRun(
            name=f"trial {trial.number}",
            status=_STATUS.get(state, "FAILED"),
            start=trial.datetime_start,
            end=trial.datetime_complete,
            params=trial.params,
            metrics=self._metrics(trial, state),
            tags=tags,
        )
        self._runs.write(ended)

    def _metrics(self, trial: FrozenTrial, state: str) -> list[tuple[str, float, int]]:
        """Name, value and step."""
        verdict = trials.verdict_of(trial)
        flat = dict(verdict.get("metrics", {}))
        flat |= {name: verdict[name] for name in ("threshold", "slope", "intercept") if name in verdict}
        if state == trials.COMPLETE:
            flat |= {f"objective/{name}": value for name, value in zip(self._value_names, trial.values, strict=True)}
        flat |= {f"constraint/{name}": value for name, value in trial.constraints.items()}
        flat["seconds"] = trial.duration.total_seconds()
        by_epoch = [(self._intermediate, abs(value), epoch) for epoch, value in trial.intermediate_values.items()]
        return [(name, value, 0) for name, value in flat.items()] + by_epoch
