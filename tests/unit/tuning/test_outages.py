"""A database that goes away, or a worker that dies, at whichever moment of a campaign: every trial is still evaluated."""

import shutil
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from fracture_mae.processes import patience
from fracture_mae.tuning import concluder
from fracture_mae.tuning.campaign import Campaign, Tally, retried
from fracture_mae.tuning.ending import REGISTERED, read
from fracture_mae.tuning.interruption import Interruption
from tests.unit.tuning.worker import conclude, open_campaign

NOW = datetime.max - timedelta(days=1)
N_TRIALS = 2
STRIDE = 5  # every fifth moment is tried: seconds
AWAY = OperationalError("SELECT 1", {}, psycopg.OperationalError("gone"))


class Dead(BaseException):
    """What a process that is killed does: nothing more."""


class Moments:
    """Counts what is asked of a campaign's database, statements and commits, and has it fail at one of them and for a while after.

    A commit that fails is done, and its answer lost; one that is not done is as if the statement before it failed.

    Args:
        fails_at: number of the moment, from 0; None: at none.
        seconds: that it lasts.
        error: what is raised.
    """

    def __init__(
        self, campaign: Campaign, fails_at: int | None = None, seconds: float = 0, error: BaseException = AWAY
    ):
        self.count = 0
        self._fails_at, self._seconds, self._error = fails_at, seconds, error
        self._back = None
        engine = campaign.lock.storage.engine
        event.listen(engine, "before_cursor_execute", lambda *_: self._next())
        commit = engine.dialect.do_commit

        def do_commit(connection):
            commit(connection)
            self._next()

        engine.dialect.do_commit = do_commit

    def _next(self) -> None:
        if self.count == self._fails_at:
            self._back = time.monotonic() + self._seconds
        self.count += 1
        if self._back and time.monotonic() < self._back:
            raise self._error


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Opens campaigns, each in a database of its own, in which a trial's worker has died since."""
    monkeypatch.setattr(patience, "_POLL", 0.01)
    monkeypatch.setattr(patience, "_SETTLING", 0.0)
    first = opened(tmp_path / "first.db")
    first.study._storage.record_heartbeat(first.study.ask()._trial_id)
    first.lock.storage.engine.dispose()

    def begin(name: str) -> tuple[Path, Campaign]:
        file = tmp_path / f"{name}.db"
        shutil.copy(tmp_path / "first.db", file)
        campaign = opened(file)
        silence(campaign)
        return file, campaign

    return begin


def opened(file: Path, name: str = "one") -> Campaign:
    campaign = open_campaign(f"sqlite:///{file}", N_TRIALS, name, NOW)
    campaign.lock.storage.patience = patience.Patience("The database")
    return campaign


def silence(campaign: Campaign) -> None:
    """Have every worker so far be silent for years."""
    with campaign.lock.storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00.000000'"))


def work(campaign: Campaign) -> None:
    campaign.work(lambda trial: (trial.suggest_float("x", 0, 1),), lambda study, trial: None, Interruption())


def check(campaign: Campaign) -> None:
    trials = campaign.study.get_trials()
    states = Counter(trial.state for trial in trials)
    assert states.keys() <= {TrialState.COMPLETE, TrialState.FAIL}
    assert states[TrialState.FAIL] == len(retried(trials))
    # Where the answer to its making is lost, Optuna makes a trial anew, and the lost one is tried again, too.
    assert states[TrialState.COMPLETE] in (N_TRIALS, N_TRIALS + 1)
    assert states[TrialState.COMPLETE] == Tally.of(campaign.study).taken


def moments(begun) -> range:
    _, campaign = begun("all")
    counted = Moments(campaign)
    work(campaign)
    check(campaign)
    return range(0, counted.count, STRIDE)


@pytest.mark.slow
def test_the_database_goes_away_at_any_moment(begun):
    for moment in moments(begun):
        _, campaign = begun(f"{moment}")
        Moments(campaign, moment, seconds=0.03)
        work(campaign)
        check(campaign)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # the thread that gives signs of life
def test_a_worker_dies_at_any_moment(begun):
    for moment in moments(begun):
        file, campaign = begun(f"{moment}")
        Moments(campaign, moment, seconds=3600, error=Dead())
        # The second is Optuna's, in its own cleaning up; where the last sign of life was cut off, there is none.
        with suppress(Dead, UnboundLocalError):
            work(campaign)
        campaign.lock.release()
        survivor = opened(file)
        silence(survivor)
        work(survivor)
        check(survivor)


@pytest.fixture
def worked(begun, tmp_path, monkeypatch):
    """Gives campaigns, each in a database of its own, all of whose trials have ended."""
    monkeypatch.setattr(concluder, "POLL", 0.01)
    file, campaign = begun("worked")
    work(campaign)
    campaign.lock.storage.engine.dispose()

    def copied(name: str) -> tuple[Path, Campaign]:
        copy = tmp_path / f"conclusion {name}.db"
        shutil.copy(file, copy)
        return copy, opened(copy)

    return copied


def moments_of_a_conclusion(worked) -> range:
    _, campaign = worked("all")
    counted = Moments(campaign)
    conclude(campaign)
    return range(0, counted.count, STRIDE)


@pytest.mark.slow
def test_the_database_goes_away_at_any_moment_of_the_conclusion(worked, caplog):
    for moment in moments_of_a_conclusion(worked):
        _, campaign = worked(f"{moment}")
        Moments(campaign, moment, seconds=0.03)
        assert (conclude(campaign).state, conclude(campaign).by) == (REGISTERED, "one")
    assert "twice" not in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_dies_at_any_moment_of_the_conclusion(worked, monkeypatch):
    everything = moments_of_a_conclusion(worked)
    monkeypatch.setattr(concluder, "GRACE", 0)
    for moment in everything:
        file, campaign = worked(f"{moment}")
        Moments(campaign, moment, seconds=3600, error=Dead())
        with suppress(Dead):
            conclude(campaign)
        campaign.lock.release()
        survivor = opened(file, "two")
        assert survivor.record.number == campaign.record.number or read(survivor.study, 1).by == "one"
        assert conclude(survivor).state == REGISTERED
