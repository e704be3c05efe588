"""Several real processes at one study: nothing is lost, nothing done twice."""

import os
import signal
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import psycopg
import pytest
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from fracture_mae.processes import patience
from fracture_mae.tracking.warm_processes import Forked
from fracture_mae.tuning import ending, optimism, results, trials
from fracture_mae.tuning.campaign import Tally, retried
from fracture_mae.tuning.ending import REGISTERED, UNDER_WAY
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.kept import Files
from fracture_mae.tuning.objectives import Objective
from fracture_mae.tuning.study import GRACE
from tests import postgres
from tests.unit.tuning.worker import FILES, HEARTBEAT, conclude, open_campaign
from tests.workplace import PROJECT, fork

LONG_AGO, NOW = datetime(2020, 1, 1), datetime.max - timedelta(days=1)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture(scope="module")
def postgres_server():
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed: no initdb in /usr/lib/postgresql or on the PATH (Debian: postgresql)")
    with postgres.server() as url:
        yield url


class Worker(NamedTuple):
    process: Forked
    output: Path

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def workers(tmp_path):
    """Starts worker processes; kills what is left of them at the end."""
    started = []

    def start(url, n_trials, name, seconds=0.05, concluding=0):
        arguments = [url, str(n_trials), name, str(seconds), str(concluding)]
        command = [sys.executable, "-m", "tests.unit.tuning.worker", *arguments]
        output = tmp_path / f"{name}.txt"
        process = fork(command, PROJECT, os.environ | {"TQDM_DISABLE": "1"}, [output, tmp_path / "stderr.txt"])
        started.append(Worker(process, output))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


def result(worker):
    """What a worker that ended well said of its end, and the numbers of its trials."""
    assert worker.process.wait(timeout=120) == 0
    word, *numbers = worker.output.read_text().split()
    return word, [int(number) for number in numbers]


def trials_of(url):
    return optuna.load_study(study_name="study", storage=url).trials


def done(campaign, points=None, fail=()):
    """Work through a campaign; the numbers of its trials."""
    numbers = []

    def evaluate(trial):
        x = trial.suggest_float("x", 0, 1)
        if points is not None:
            points.append(x)
        if trial.number in fail:
            raise ValueError("as asked for")
        return (x,)

    campaign.work(evaluate, lambda study, trial: numbers.append(trial.number), Interruption())
    return numbers


def test_a_study_goes_on_with_as_many_trials_more_and_fresh_samples(url):
    points = []
    for name, numbers in [("first", [0, 1, 2, 3]), ("second", [4, 5, 6])]:
        campaign = open_campaign(url, len(numbers), name, NOW)
        assert done(campaign, points) == numbers
        assert conclude(campaign).by == name
    assert done(open_campaign(url, 0, "third", NOW), points) == []
    assert len(set(points)) == 7


def test_a_campaign_whose_worker_died_before_it_concluded_is_concluded_by_the_same_command(url):
    done(open_campaign(url, 2, "died", NOW))
    again = open_campaign(url, 2, "again", NOW)
    assert done(again) == []
    assert conclude(again).by == "again"


def test_a_trial_that_fails_counts_and_the_campaign_goes_on(url):
    assert done(open_campaign(url, 3, "one", NOW), fail={1}) == [0, 1, 2]
    assert [trial.state.name for trial in trials_of(url)] == ["COMPLETE", "FAIL", "COMPLETE"]


@pytest.mark.parametrize("writes", [False, True])
def test_a_worker_that_was_suspended_takes_the_next_trial(url, caplog, writes):
    campaign = open_campaign(url, 3, "sleeper", NOW)
    study = campaign.study

    def evaluate(trial):
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 1:  # meanwhile others take its worker for dead
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        if writes:
            trial.set_user_attr("a", 1)
        return (x,)

    campaign.work(evaluate, lambda study, trial: None, Interruption())
    assert [trial.state.name for trial in trials_of(url)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "Trial 1 gave no sign of life" in caplog.text


def test_a_trial_whose_worker_died_while_it_took_it_is_tried_again(url):
    campaign = open_campaign(url, 3, "one", NOW)
    campaign.study.ask()  # and no sign of life
    done(campaign)
    assert [trial.state.name for trial in trials_of(url)] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_where_the_database_and_the_lock_with_it_went_away_a_trial_is_taken_anew(url, monkeypatch):
    campaign = open_campaign(url, 3, "one", NOW)
    monkeypatch.setattr(patience, "_POLL", 0.01)
    monkeypatch.setattr(patience, "_SETTLING", 0.0)
    campaign.lock.storage.patience = patience.Patience("The database")
    left = [True, True]

    def check():
        if left:
            left.pop()
            raise OperationalError("SELECT 1", {}, psycopg.OperationalError("gone"))

    monkeypatch.setattr(campaign.lock, "check", check)
    assert done(campaign) == [0, 1, 2]
    assert left == []


def test_another_error_of_the_study_is_not_passed_over(url, monkeypatch):
    campaign = open_campaign(url, 1, "one", NOW)

    def wrong(*_, **__):
        raise ValueError("another")

    monkeypatch.setattr(campaign.study, "optimize", wrong)
    with pytest.raises(ValueError, match="another"):
        done(campaign)


def test_a_worker_that_started_before_the_campaign_ended_adds_nothing(url):
    first = open_campaign(url, 2, "first", NOW)
    done(first)
    conclude(first)
    late = open_campaign(url, 2, "late", LONG_AGO)
    assert done(late) == []
    assert conclude(late).by == "first"


def test_who_joins_an_open_campaign_takes_from_its_trials(url):
    opener = open_campaign(url, 3, "opener", NOW)
    joined = open_campaign(url, 50, "joined", NOW)
    assert done(joined) == [0, 1, 2]
    assert done(opener) == []
    assert [conclude(each).by for each in (opener, joined)] == ["opener", "opener"]


def test_a_campaign_that_was_stopped_is_closed(url):
    campaign = open_campaign(url, 5, "stopped", NOW)

    def interrupted(trial):
        if trial.number == 2:
            raise KeyboardInterrupt
        return (trial.suggest_float("x", 0, 1),)

    with pytest.raises(KeyboardInterrupt):
        campaign.work(interrupted, lambda study, trial: None, Interruption())
    campaign.stop()
    assert [trial.state.name for trial in trials_of(url)] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert done(open_campaign(url, 2, "again", NOW)) == [3, 4]


@pytest.mark.slow
def test_three_processes_share_one_sqlite_study_of_which_the_one_that_concludes_it_is_killed(url, workers):
    started = {f"worker {i}": workers(url, 30, f"worker {i}", 0.02, concluding=4) for i in range(3)}
    victim = who_concludes(url, 1)
    started.pop(victim).kill()
    ended = [result(each) for each in started.values()]
    numbers = [number for _, worker_numbers in ended for number in worker_numbers]
    numbers += [trial.number for trial in trials_of(url) if trial.user_attrs["worker"] == victim]
    assert sorted(numbers) == list(range(30))
    assert Counter(word for word, _ in ended) == {"concludes": 1, "leaves": 1}
    found = ending.read(optuna.load_study(study_name="study", storage=url), 1)
    assert found.state == REGISTERED
    assert found.told == f"version of {found.by}"
    assert found.by in started
    assert {trial.state for trial in trials_of(url)} == {TrialState.COMPLETE}
    # Whoever concludes has the predictions of all, in the order of its own files.
    assert {trial.user_attrs["worker"] for trial in trials_of(url)} == {f"worker {i}" for i in range(3)}
    for trial in trials_of(url):
        logit = np.random.default_rng(int(trial.params["x"] * 1e9)).normal(size=40)
        found = trials.predictions_of(trial, Files.of(FILES))
        assert found.logit.tolist() == logit.astype(np.float32).tolist()
        assert found.decision.tolist() == (logit > 0).astype(int).tolist()
    study, objective = optuna.load_study(study_name="study", storage=url), Objective("balanced_accuracy")
    best = results.best_trial(study, objective)
    worth = optimism.worth_of(study, objective, best, FILES, seed=0, n_draws=100)
    assert (worth.n_trials, worth.reason) == (30, "")
    assert worth.table["corrected"].notna().all()


@pytest.mark.slow
def test_a_killed_workers_trial_is_failed_and_tried_again_by_who_goes_on(url, workers):
    victim = workers(url, 4, "victim", 60)
    wait_for_a_running_trial(url, "victim")
    victim.kill()
    word, numbers = result(workers(url, 4, "survivor", 0))
    assert word == "concludes"
    first, *others = trials_of(url)
    assert first.state == TrialState.FAIL
    assert {trial.state for trial in others} == {TrialState.COMPLETE}
    again = [trial for trial in others if trial.params == first.params]
    assert len(others) == 4  # as asked for, the one tried again among them
    assert [retried([trial]) for trial in again] == [{0}]
    assert sorted(numbers) == [1, 2, 3, 4]


@pytest.mark.slow
def test_four_processes_at_postgresql_of_which_two_are_killed_and_that_is_away_for_a_while(postgres_server, workers):
    url = postgres.create_database(postgres_server, "four")
    victims = {name: workers(url, 100, name, 120) for name in ("victim 0", "victim 1")}
    for name in victims:
        wait_for_a_running_trial(url, name)
    survivors = [workers(url, 100, f"survivor {i}", 0.02) for i in range(2)]
    wait_until(lambda: sum(trial.state == TrialState.COMPLETE for trial in trials_of(url)) >= 20)
    for victim in victims.values():
        victim.kill()
    postgres.pause(postgres_server, 2)
    results = [result(each) for each in survivors]
    assert Counter(word for word, _ in results) == {"concludes": 1, "leaves": 1}

    trials = trials_of(url)
    again = retried(trials)
    states = Counter(trial.state for trial in trials)
    assert len(trials) - len(again) == 100
    assert states[TrialState.COMPLETE] == 100
    # The victims' and, where it was just being taken when the database went away, a survivor's, who leaves it and takes another.
    assert states[TrialState.FAIL] == len(again) in (2, 3, 4)
    assert len({trial.params["x"] for trial in trials if trial.number not in again}) == 100
    numbers = [number for _, worker_numbers in results for number in worker_numbers]
    assert len(set(numbers)) == len(numbers)

    resumed = [workers(url, 10, f"resumed {i}", 0, concluding=6) for i in range(2)]
    who_concludes(url, 2)
    postgres.pause(postgres_server, 1.5 * GRACE * HEARTBEAT)
    results = [result(each) for each in resumed]
    assert Counter(word for word, _ in results) == {"concludes": 1, "leaves": 1}
    assert sum(len(numbers) for _, numbers in results) == 10
    assert Tally.of(optuna.load_study(study_name="study", storage=url)).taken == 110


def wait_for_a_running_trial(url, worker):
    def is_running():
        return any(t.state == TrialState.RUNNING and t.user_attrs.get("worker") == worker for t in trials_of(url))

    wait_until(lambda: "study" in names(url) and is_running())
    time.sleep(HEARTBEAT / 2)  # for it to give a sign of life


def who_concludes(url, campaign):
    """The name of the worker that is about to conclude the study's campaign of that number, once one is."""

    def found():
        return (
            ending.read(optuna.load_study(study_name="study", storage=url), campaign) if "study" in names(url) else None
        )

    wait_until(found)
    assert found().state == UNDER_WAY
    return found().by


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"did not come to that within {seconds} s"
        time.sleep(0.1)


def names(url):
    """Of the studies; asked without Optuna, which would make the tables that are missing, at once with a worker."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("studies"):
            return []
        return list(connection.scalars(sqlalchemy.text("SELECT study_name FROM studies")))
