"""Tuning as a user does it: begun, interrupted, gone on with, evaluated."""

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from tests.workplace import SMALL, Workplace, given, wait_until

DATA_OPTIONS = SMALL
STUDY = {"encoder": "vit-mae-nano", "study_name": "fractures", "objective": "specificity_at_sensitivity"}


@pytest.mark.slow
def test_a_campaign_is_interrupted_goes_on_and_ends_in_a_classifier_that_can_be_evaluated(tmp_path):
    workplace = Workplace(tmp_path / "work").create(searched=True)
    storage = f"sqlite:///{workplace.root}/optuna.db"

    def states():
        return [trial.state.name for trial in optuna.load_study(study_name="fractures", storage=storage).trials]

    def under_way():  # read past Optuna, which would make the tables itself that the campaign is just making
        with closing(sqlite3.connect(f"file:{workplace.root}/optuna.db?mode=ro", uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM trials").fetchone()[0] > 3

    mlflow = str(Path(sys.executable).parent / "mlflow")
    command = [mlflow, "run", ".", "-e", "tune", "--experiment-name", "tuning"]
    process = workplace.start([*command, *given(DATA_OPTIONS | STUDY | {"n_trials": 5000})])
    wait_until(lambda: _is_true(under_way), process)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    process.wait(timeout=300)
    (stopped,) = sessions(workplace)  # MLflow itself calls it failed, whatever its command says of it
    assert stopped.data.tags["stopped"] == "True"
    assert "Stopped. The same command goes on" in (workplace.root / "output.txt").read_text()
    before = states()
    assert 3 < len(before) < 5000
    assert set(before) <= {"COMPLETE", "FAIL"}

    workplace.environment["MLFLOW_EXPERIMENT_NAME"] = "tuning"
    workplace.draws = True
    done = workplace.python("tune", **DATA_OPTIONS | STUDY | {"n_trials": 3})
    workplace.draws = False
    assert done.returncode == 0, done.stderr
    assert states() == [*before, "COMPLETE", "COMPLETE", "COMPLETE"]
    assert "registered as models:/fracture-classifier/1" in done.stdout
    _, tune = sessions(workplace)
    assert len(workplace.runs("tuning")) == 2  # trials do not crowd out other runs
    trials = workplace.runs("tuning-trials")
    assert len(trials) == len(before) + 3
    last = [run for run in trials if run.data.tags["mlflow.parentRunId"] == tune.info.run_id]
    assert [run.info.run_name for run in last] == [f"trial {len(before) + number}" for number in range(3)]
    (experiment,) = {run.info.experiment_id for run in trials}
    assert f"#/experiments/{experiment}/runs?searchFilter=" in tune.data.tags["mlflow.note.content"]
    assert f"/runs/{tune.info.run_id})" in last[0].data.tags["mlflow.note.content"]

    done = workplace.python("evaluate", **DATA_OPTIONS, n_draws=100, references="false")
    assert done.returncode == 0, done.stderr
    (version,) = workplace.store.search_model_versions("name = 'fracture-classifier'")
    assert version.tags["recipe"] == "tuned"
    assert version.tags["split.fingerprint"] == tune.data.tags["split.fingerprint"]


def sessions(workplace):
    return [run for run in workplace.runs("tuning") if run.data.tags.get("entry_point") == "tune"]


def _is_true(holds):
    try:
        return holds()
    except sqlite3.OperationalError:  # there is no file yet, or no table
        return False
