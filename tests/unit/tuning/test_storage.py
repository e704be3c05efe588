import threading

import optuna
import psycopg
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import patience
from fracture_mae.processes.patience import Patience
from fracture_mae.tuning.study import Lock, open_storage


def gone(orig=None):
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, orig or psycopg.OperationalError("Connection refused"))


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "_POLL", 0.01)
    monkeypatch.setattr(patience, "_SETTLING", 0.0)
    opened = open_storage(f"sqlite:///{tmp_path}/optuna.db", heartbeat=30)
    opened.patience = Patience("The database", minutes=0.5)
    return opened


def failing(times, error):
    """What fails so many times, and then gives "done"."""
    left = [error] * times

    def call():
        if left:
            raise left.pop()
        return "done"

    return call


def wrapped():
    error = StorageInternalError("the commit failed")
    error.__cause__ = gone()
    return error


@pytest.mark.parametrize("error", [gone(), wrapped(), gone(psycopg.errors.AdminShutdown("stop"))])
def test_a_database_that_is_away_is_asked_again(storage, error):
    assert storage.patiently(failing(3, error)) == "done"


@pytest.mark.parametrize(
    "error",
    [gone(psycopg.errors.DiskFull("full")), gone(ValueError("database is locked")), StorageInternalError("long")],
)
def test_other_errors_are_raised_at_once(storage, error):
    with pytest.raises(type(error)):
        storage.patiently(failing(1, error))


def test_it_ends_in_a_sentence(storage):
    storage.patience = Patience("The database", minutes=0)
    with pytest.raises(
        FractureMaeError, match=r"has been away for too long: Connection refused.*the same command goes on"
    ):
        storage.patiently(failing(1, wrapped()))


def test_when_a_command_starts_it_is_an_error_at_once(storage):
    storage.patience = None
    with pytest.raises(sqlalchemy.exc.OperationalError):
        storage.patiently(failing(1, gone()))


def test_whoever_holds_a_lock_is_told_at_once(storage):
    storage.holder = threading.get_ident()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        storage.patiently(failing(1, gone()))


def test_an_end_that_was_told_before_the_connection_broke_is_not_told_twice(storage, monkeypatch):
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "one")
    trial = storage.create_new_trial(study)
    told, tell = [], RDBStorage.set_trial_state_values

    def and_breaks(self, *arguments):
        told.append(tell(self, *arguments))
        if len(told) == 1:
            raise gone()
        return told[-1]

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", and_breaks)
    assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):  # by another
        storage.set_trial_state_values(trial, TrialState.FAIL)


def test_a_lock_without_a_server_has_nothing_to_check(storage):
    with Lock(storage, "study") as lock:
        lock.check()
