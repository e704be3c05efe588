"""Campaigns: a number of trials that one worker or several add to a study, whatever happens to a worker meanwhile."""

import logging
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime

import optuna
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from fracture_mae.tuning import ending
from fracture_mae.tuning.ending import GIVEN_BACK, STOPPED, Ending
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.study import Lock

_RECORD = "campaign"
_SILENT = "fracture_mae:silent"  # of a trial whose worker is dead: its number
POLL = 0.5  # seconds between two looks at what other workers do

# What Optuna raises for the values of a trial that has ended already.
_CANNOT_TELL = (ValueError, AssertionError, UpdateFinishedTrialError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A campaign as the study remembers it.

    Attributes:
        number: of the campaign in its study, from 1.
        target: trials that the study is to have, see `Tally.taken`.
        parent: MLflow run of the worker that opened it.
        first: number of its first trial.
        concluded_by: MLflow run of the worker that began to conclude it, or that stopped it; empty before. What came of that is
            told by its `ending`, which earlier versions had not.
    """

    number: int
    target: int
    parent: str
    first: int
    concluded_by: str = ""


@dataclass(frozen=True)
class Tally:
    """The trials of a study.

    Attributes:
        taken: all but those that were tried again because their worker died.
        running, waiting: those of them that a worker is at, and that wait to be tried again.
        last_end: when the last one ended; None before.
    """

    taken: int
    running: int
    waiting: int
    last_end: datetime | None

    @classmethod
    def of(cls, study: Study) -> "Tally":
        trials = study.get_trials(deepcopy=False)
        states = [trial.state for trial in trials]
        return cls(
            taken=len(trials) - len(retried(trials)),
            running=states.count(TrialState.RUNNING),
            waiting=states.count(TrialState.WAITING),
            last_end=max((trial.datetime_complete for trial in trials if trial.datetime_complete), default=None),
        )


def retried(trials: list[FrozenTrial]) -> set[int]:
    """Numbers of the trials whose worker died and that were, or will be, tried again under another number."""
    history = RetryHeartbeatStaleTrialCallback.retry_history
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        return {number for trial in trials for number in history(trial)}


class Campaign:
    """A worker's part in a campaign.

    Joins the campaign that is under way, or ended while this worker started; otherwise opens one of `n_trials` more trials.

    Args:
        study: opened by `study.open_study`.
        lock: the study's.
        n_trials: trials to add.
        run_id: this worker's MLflow run.
        started: when this worker's process started.
    """

    def __init__(self, study: Study, lock: Lock, n_trials: int, run_id: str, started: datetime):
        self.study, self.lock, self.run_id = study, lock, run_id
        self.record = self.lock.within(lambda: self._joined_or_opened(n_trials, started))

    def _joined_or_opened(self, n_trials: int, started: datetime) -> Record:
        self._end_stale()
        study, tally, record = self.study, Tally.of(self.study), _read(self.study)
        if record is None or not (_under_way(study, record, tally) or _ended_after(started, tally)):
            number, n_known = (record.number if record else 0) + 1, len(study.get_trials(deepcopy=False))
            record = Record(number, tally.taken + n_trials, self.run_id, first=n_known)
            study.set_user_attr(_RECORD, asdict(record))
        elif record.parent != self.run_id:
            logger.warning(
                "Joining the campaign that is under way in the study %s: %d of its trials are left to begin.",
                study.study_name,
                max(0, record.target - tally.taken),
            )
        return record

    @property
    def is_opener(self) -> bool:
        return self.record.parent == self.run_id

    def work(
        self,
        evaluate: Callable[[Trial], tuple[float, ...]],
        on_trial: Callable[[Study, FrozenTrial], None],
        interruption: Interruption,
    ) -> None:
        """Take trials until all are taken and none runs any more.

        A trial is taken under the study's lock, so no two workers count the same one: the target is met, not passed. Trials
        whose worker died are failed by whoever looks next, and tried again with the same parameters.

        Args:
            evaluate: the values of a trial.
            on_trial: called with each trial of this worker that ended.

        Raises:
            KeyboardInterrupt: the user stopped it; the trial under way has ended as failed.
        """

        taken: list[Trial] = []

        def turn(trial: Trial) -> tuple[float, ...]:
            taken.append(trial)
            self.lock.release()  # others see this trial as taken; Optuna's thread gives its signs of life
            return evaluate(trial)

        def take() -> Tally | None:
            """Take a trial to its end; the tally where none is left."""
            self._end_stale()
            tally = Tally.of(self.study)
            bar.update(max(0, bar.total - max(0, self.record.target - tally.taken) - bar.n))
            if tally.taken >= _read(self.study).target and not tally.waiting:
                return tally
            self.lock.check()
            try:
                self.study.optimize(turn, n_trials=1, catch=(Exception,), callbacks=[on_trial])
            except _CANNOT_TELL as error:
                self._check_given_up(taken, error)
            return None

        left = self.lock.within(lambda: self.record.target - Tally.of(self.study).taken)
        with tqdm(total=max(0, left), desc="Trials", unit="trial") as bar:
            while True:
                tally = self.lock.within(take, interruption)
                if tally:
                    if tally.running == 0:
                        break
                    time.sleep(POLL)

    def _end_stale(self) -> None:
        """Fail the trials whose workers are dead, to be tried again; call it under the lock, within which trials are taken.

        Optuna fails a trial first and then has it tried again. So that it is not lost where that is cut off in between, it is marked
        before.
        """
        study, storage = self.study, self.study._storage
        for trial_id in self.lock.storage.unheard_of(study._study_id):  # its worker died while it took the trial
            storage.record_heartbeat(trial_id)
        for trial_id in storage._get_stale_trial_ids(study._study_id):
            with suppress(UpdateFinishedTrialError):  # its worker is not dead, and has just ended it
                storage.set_trial_system_attr(trial_id, _SILENT, storage.get_trial(trial_id).number)
        optuna.storages.fail_stale_trials(study)
        trials = study.get_trials()
        again = retried(trials)
        for trial in trials:
            # A trial that is tried again inherits the mark, with the number of the other.
            if trial.state == TrialState.FAIL and trial.system_attrs.get(_SILENT) == trial.number not in again:
                storage.get_heartbeat_stale_trial_callback()(study, trial)

    def _check_given_up(self, taken: list[Trial], error: Exception) -> None:
        """Go on where other workers have ended this worker's trial, as of one that is dead; raise any other error."""
        trial = next(
            (each for each in self.study.get_trials(deepcopy=False) if taken[-1:] and each.number == taken[-1].number),
            None,
        )
        if trial is None or trial.state != TrialState.FAIL:
            raise error
        logger.warning(
            "Trial %d gave no sign of life for so long, as where a computer sleeps, that another worker ended it, to be tried again. "
            "This worker goes on with the next one.",
            trial.number,
        )

    def stop(self) -> None:
        """Close the campaign at what is there, unless another worker is still at it."""

        def close() -> None:
            tally, record = Tally.of(self.study), _read(self.study)
            known = ending.read(self.study, self.record.number)
            is_open = known.state == GIVEN_BACK if known else record.concluded_by in ("", self.run_id)
            if tally.running == 0 and record.number == self.record.number and is_open:
                self._write(record, target=min(record.target, tally.taken), concluded_by=self.run_id)
                ending.write(self.study, record.number, Ending(STOPPED, self.run_id))

        self.lock.within(close)

    def concluded_by(self) -> str:
        """MLflow run of the worker that began to conclude the campaign, or a later one; empty before. Call it under the lock."""
        record = _read(self.study)
        return record.concluded_by if record.number == self.record.number else record.parent

    def claim(self) -> None:
        """Have this worker be the one that concludes the campaign. Call it under the lock."""
        if (record := _read(self.study)).number == self.record.number:
            self._write(record, concluded_by=self.run_id)

    def _write(self, record: Record, **changes: object) -> None:
        self.study.set_user_attr(_RECORD, asdict(record) | changes)


def _read(study: Study) -> Record | None:
    stored = study.user_attrs.get(_RECORD)
    return Record(**stored) if stored else None


def _under_way(study: Study, record: Record, tally: Tally) -> bool:
    known = ending.read(study, record.number)
    is_concluded = known.is_final if known else bool(record.concluded_by)
    return tally.taken < record.target or tally.running > 0 or not is_concluded


def _ended_after(started: datetime, tally: Tally) -> bool:
    return tally.last_end is not None and tally.last_end > started
