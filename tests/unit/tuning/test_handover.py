"""A worker's session whose end another has a hand in: one that dies while it concludes the campaign, or that waits for it."""

from datetime import datetime
from unittest.mock import Mock

import optuna
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.tuning import concluder
from fracture_mae.tuning.concluder import Concluder
from fracture_mae.tuning.register_best import Conclusion
from fracture_mae.tuning.trial_runs import TrialRuns

LONG_AGO = datetime(2020, 1, 1)


@pytest.fixture
def late(session, monkeypatch):
    """Runs a session of a process that was started before the campaign ended."""

    def run_session(**options):
        with monkeypatch.context() as context:
            context.setattr("fracture_mae.tuning.worker._process_start", lambda: LONG_AGO)
            return session(**options)

    return run_session


@pytest.fixture
def ending_with(session, monkeypatch):
    """Runs a session in which the call of a class's method ends with an error."""

    def run_session(error, owner, method, **options):
        with monkeypatch.context() as context:
            context.setattr(owner, method, Mock(side_effect=error))
            session(**options)

    return run_session


class Dead(BaseException):
    """What a process that is killed does: nothing more."""


@pytest.fixture
def killed(ending_with, monkeypatch):
    """Runs a session whose process is killed where it calls a method of a class; others take it for dead at once."""
    monkeypatch.setattr(concluder, "GRACE", 0)

    def run_session(owner, method, **options):
        monkeypatch.setattr(Concluder, "_give_up", lambda *_: None)
        with pytest.raises(Dead):
            ending_with(Dead(), owner, method, **options)

    return run_session


@pytest.mark.parametrize("begun", [(TrialRuns, "write_missing"), (Concluder, "check")])
def test_where_the_worker_that_concludes_is_killed_another_registers_the_best(
    session, killed, store, registered, tmp_path, begun, caplog
):
    killed(*begun, n_trials=2)
    assert registered == []
    _, text = session(n_trials=2)
    assert "registered as models:/fracture-classifier/1, alias challenger" in text
    assert "This worker takes over." in caplog.text
    assert len(registered) == 1
    assert len(optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/optuna.db").trials) == 2


def test_what_the_killed_worker_had_registered_already_is_not_registered_again(session, killed, store, registered):
    killed(Concluder, "registered", n_trials=2)
    run, text = session(n_trials=2)
    assert "study study: 2 trials, the best is number" in text
    assert "registered as models:/fracture-classifier/1 by another worker, run " in text
    assert len(registered) == 1
    assert run.info.status == "FINISHED"
    assert run.data.tags["study.registered"] == "models:/fracture-classifier/1"
    assert "registered" not in run.data.tags
    _, text = session(n_trials=1)  # the next campaign
    assert "registered as models:/fracture-classifier/1, alias challenger" in text


def test_who_comes_late_tells_what_came_of_the_campaign(session, late, registered):
    session(n_trials=2)
    _, text = late(n_trials=2)
    assert text.startswith("study study: 2 trials, the best is number ")
    assert "registered as models:/fracture-classifier/1 by another worker, run " in text
    assert len(registered) == 1


def test_an_error_of_the_conclusion_is_told_by_all_and_not_tried_again(session, late, ending_with, registered):
    with pytest.raises(ValueError, match="boom"):
        ending_with(ValueError("boom"), Conclusion, "register", n_trials=2)
    with pytest.raises(FractureMaeError, match=r"ValueError: boom\. So ended .* run "):
        late(n_trials=2)
    assert registered == []
    _, text = session(n_trials=0)
    assert "registered as models:/fracture-classifier/1" in text


def test_ctrl_c_while_it_waits_ends_a_worker_well(session, registered, monkeypatch):
    monkeypatch.setattr(Concluder, "turn", Mock(side_effect=KeyboardInterrupt))
    run, text = session(n_trials=2)
    assert (run.info.status, run.data.tags["stopped"]) == ("FINISHED", "True")
    assert "Stopped before the best was registered: that is left to another worker" in text
    assert registered == []
