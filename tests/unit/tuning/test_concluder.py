"""Who concludes a campaign: one worker, another where it is gone, and nobody twice."""

import errno
import os
import signal
import threading
from dataclasses import asdict
from datetime import datetime, timedelta
from unittest.mock import Mock

import psycopg
import pytest
import requests
from sqlalchemy.exc import OperationalError

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import patience
from fracture_mae.tuning import concluder, ending, signs_of_life
from fracture_mae.tuning.campaign import Campaign
from fracture_mae.tuning.concluder import Concluder, TakenOverError
from fracture_mae.tuning.ending import EARLIER, FAILED, GIVEN_BACK, REGISTERED, STOPPED, UNDER_WAY
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.signs_of_life import SignsOfLife, Watch
from fracture_mae.tuning.study import GRACE
from tests.unit.tuning.worker import HEARTBEAT, conclude, open_campaign

NOW = datetime.max - timedelta(days=1)


class Clock:
    """Time that passes where somebody sleeps, and what happens meanwhile."""

    def __init__(self):
        self.now, self.events = 0.0, []

    def at(self, moment, call):
        self.events.append((moment, call))

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert self.now < 1000, "waits for ever"
        self.now += seconds
        due = [each for each in self.events if each[0] <= self.now]
        self.events = [each for each in self.events if each[0] > self.now]
        for _, call in due:
            call()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (concluder, signs_of_life):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def campaigns(tmp_path):
    """The parts in one campaign of the workers first, who opened it, and second; there are no trials in it."""
    return [open_campaign(f"sqlite:///{tmp_path}/optuna.db", 0, name, NOW) for name in ("first", "second")]


@pytest.fixture
def first(campaigns):
    """The first worker, whose turn it is."""
    found = Concluder(campaigns[0])
    assert turn(found) == (UNDER_WAY, "first")
    return found


@pytest.fixture
def second(campaigns):
    return Concluder(campaigns[1])


@pytest.fixture
def third(second, tmp_path):
    return Concluder(open_campaign(f"sqlite:///{tmp_path}/optuna.db", 0, "third", NOW))


def turn(worker):
    settled = worker.turn(Interruption())
    assert worker.is_ours(settled) == (settled == stored(worker) and settled.state == UNDER_WAY)
    return settled.state, settled.by


def stored(worker):
    return ending.read(worker._study, worker._number)


def live(worker, clock, until):
    """Have a worker give a sign of life each second, as its thread does."""
    for second in range(until + 1):
        clock.at(second, lambda second=second: worker._study.set_user_attr("sign of life", [worker._run_id, second]))


def test_the_others_wait_for_who_concludes_and_are_told_which_version_it_came_to(clock, first, second, caplog):
    live(first, clock, 60)
    clock.at(60, lambda: first.registered("models:/m/3"))
    assert turn(second) == (REGISTERED, "first")
    assert clock.now == 60
    assert stored(second).told == "models:/m/3"
    assert caplog.text.count("another worker, run first (") == 1
    assert f"process {os.getpid()}" in caplog.text


def test_where_it_is_silent_the_first_to_see_that_takes_over_and_no_other(clock, first, second, third, caplog):
    live(first, clock, 20)
    assert turn(second) == (UNDER_WAY, "second")
    assert 20 + GRACE * HEARTBEAT < clock.now <= 21.5 + GRACE * HEARTBEAT
    assert "run first (" in caplog.text
    assert "has given no sign of life for 3 s" in caplog.text
    assert second.predecessor == "first"
    began = clock.now
    clock.at(began + 2, lambda: second.registered("models:/m/1"))
    assert turn(third) == (REGISTERED, "second")


def test_one_that_slept_does_not_register_a_second_version(clock, first, second, caplog):
    assert turn(second) == (UNDER_WAY, "second")
    with pytest.raises(TakenOverError), first.at_it():
        first.check()
    assert "Another worker, run second (" in caplog.text
    assert stored(second).by == "second"  # it is told nothing of the kind that the conclusion has failed
    second.check()
    clock.at(clock.now + 2, lambda: second.registered("models:/m/1"))
    assert turn(first) == (REGISTERED, "second")


def test_one_that_slept_while_it_registered_is_the_one_and_the_other_leaves_it_at_that(clock, first, second, caplog):
    turn(second)
    first.registered("models:/m/1")
    with pytest.raises(TakenOverError), second.at_it():
        second.check()
    assert turn(second) == (REGISTERED, "first")
    assert "twice" not in caplog.text


def test_two_versions_are_told_of(clock, first, second, caplog):
    turn(second)
    second.check()
    first.registered("models:/m/1")
    second.registered("models:/m/2")
    assert "registered twice, as models:/m/2 by this worker and as models:/m/1 by another, run first" in caplog.text
    assert stored(second).told == "models:/m/1"


def test_what_a_dead_worker_registered_is_told_as_its_own(clock, first, second):
    turn(second)
    second.registered("models:/m/1", by="first")
    assert (stored(second).state, stored(second).by) == (REGISTERED, "first")


@pytest.mark.parametrize(
    ("error", "told"),
    [(FractureMaeError("no trial completed."), "no trial completed."), (ValueError("boom\nmore"), "ValueError: boom")],
)
def test_an_error_is_for_good_and_is_told_to_all(clock, first, second, third, error, told):
    with pytest.raises(type(error)), first.at_it():
        raise error
    assert [turn(each) for each in (second, third)] == [(FAILED, "first")] * 2
    assert stored(second).told == told
    assert clock.now == 0


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit("ended by SIGTERM"),
        requests.ConnectionError("refused"),
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_an_error_that_another_may_be_spared_hands_over_at_once(clock, first, second, caplog, error):
    with pytest.raises(type(error)), first.at_it():
        raise error
    assert stored(first).state == GIVEN_BACK
    assert "is not registered yet" in caplog.text
    assert turn(second) == (UNDER_WAY, "second")
    assert (clock.now, second.predecessor) == (0, "first")


def test_ctrl_c_does_not_wait_for_a_database_that_is_away(first, monkeypatch):
    tried = Mock(side_effect=OperationalError("SELECT 1", {}, psycopg.OperationalError("gone")))
    monkeypatch.setattr(patience, "_POLL", 0.0)
    first._lock.storage.patience = patience.Patience("The database", minutes=0.001)
    monkeypatch.setattr(type(first._lock), "__enter__", tried)
    with pytest.raises(KeyboardInterrupt), first.at_it():
        raise KeyboardInterrupt
    assert tried.call_count == 1


def test_what_nobody_else_does_the_same_command_does(tmp_path, first):
    with pytest.raises(KeyboardInterrupt), first.at_it():
        raise KeyboardInterrupt
    again = open_campaign(f"sqlite:///{tmp_path}/optuna.db", 50, "again", NOW)
    assert (again.record.number, again.record.target) == (1, 0)  # it is the same campaign, with no trials more
    assert conclude(again).by == "again"
    more = open_campaign(f"sqlite:///{tmp_path}/optuna.db", 50, "more", NOW)
    assert (more.record.number, more.record.target) == (2, 50)


def test_ctrl_c_ends_one_that_waits_and_changes_nothing(clock, first, second):
    live(first, clock, 60)
    clock.at(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = stored(first)
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        second.turn(interruption)
    assert clock.now == 5
    assert stored(first) == before


def test_ctrl_c_while_another_concludes_does_not_close_the_campaign(clock, campaigns, first):
    campaigns[1].stop()
    assert stored(first).state == UNDER_WAY


def test_a_campaign_that_was_stopped_is_not_concluded_by_the_others(clock, campaigns, second):
    campaigns[0].stop()
    assert turn(second) == (STOPPED, "first")


def test_one_that_did_not_open_the_campaign_leaves_its_conclusion_to_the_opener_for_a_while(clock, second):
    assert turn(second) == (UNDER_WAY, "second")
    assert clock.now == 6


def test_campaigns_that_an_earlier_version_concluded_or_did_not_are_understood(clock, campaigns, third, tmp_path):
    """As it left them: `concluded_by` is all that it told."""
    opener, second = campaigns
    concluded = asdict(opener.record) | {"concluded_by": "earlier"}
    opener.study.set_user_attr("campaign", concluded)
    assert turn(Concluder(second)) == (EARLIER, "earlier")
    following = open_campaign(f"sqlite:///{tmp_path}/optuna.db", 0, "following", NOW)
    assert following.record.number == 2
    assert turn(third) == (EARLIER, "following")
    assert turn(Concluder(following)) == (UNDER_WAY, "following")


def test_time_in_which_nobody_could_look_does_not_count(clock, campaigns):
    study, watch, silences = campaigns[0].study, Watch(), []
    for seconds in (1, 1, 3600, 1):  # 3600 as where a computer sleeps, or a database is away
        clock.now += seconds
        silences.append(watch.silence(study, "first"))
    assert silences == [0, 1, 3, 4]
    study.set_user_attr("sign of life", ["first", 7])
    assert watch.silence(study, "first") == 0


def test_the_sign_of_another_is_none(clock, campaigns):
    study, watch, silences = campaigns[0].study, Watch(), []
    for second in range(4):
        study.set_user_attr("sign of life", ["second", second])
        clock.now += 1
        silences.append(watch.silence(study, "first"))
    assert silences == [0, 1, 2, 3]
    assert watch.silence(study, "second") == 0


def test_a_worker_whose_heartbeat_is_slower_is_not_taken_for_dead(clock, first, second, monkeypatch):
    monkeypatch.setattr(first._study._storage, "get_heartbeat_interval", lambda: 30)
    turn(first)  # claimed anew, as after an outage
    assert turn(second) == (UNDER_WAY, "second")
    assert 90 < clock.now < 92


def test_signs_of_life_outlast_a_database_that_is_away(campaigns, monkeypatch, caplog):
    study = campaigns[0].study
    given, enough = [], threading.Event()

    def set_user_attr(name, sign):
        given.append(sign)
        if len(given) > 5:
            enough.set()
        if len(given) < 4:
            raise FractureMaeError("the database has been away for too long.")

    monkeypatch.setattr(study, "set_user_attr", set_user_attr)
    monkeypatch.setattr(study._storage, "get_heartbeat_interval", lambda: 0.01)
    with SignsOfLife(study, "first"):
        assert enough.wait(10)
    assert given[:6] == [["first", number] for number in range(6)]
    assert caplog.text.count("A sign of life could not be given (the database has been away for too long)") == 3
    last = len(given)
    assert not threading.Event().wait(0.05)
    assert len(given) == last


def test_where_the_study_cannot_be_told_the_version_is_and_nobody_takes_it_for_a_failure(first, monkeypatch, caplog):
    monkeypatch.setattr(ending, "write", Mock(side_effect=[ValueError("no study"), None]))
    with pytest.raises(ValueError, match="no study"), first.at_it():
        first.registered("models:/m/1")
    assert "models:/m/1 is registered, but the study could not be told" in caplog.text
    assert "not registered yet" not in caplog.text
    assert ending.write.call_args.args[-1].state == GIVEN_BACK  # to whoever finds what is registered


def test_a_campaign_without_trials_is_concluded(tmp_path):
    campaign: Campaign = open_campaign(f"sqlite:///{tmp_path}/optuna.db", 0, "one", NOW)
    assert conclude(campaign).told == "version of one"
