"""Tuning as a user does it: begun, interrupted, gone on with, evaluated, and logged to a server that goes away."""

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import requests

from tests.ports import free_port
from tests.workplace import SMALL, Workplace, fork, given, wait_until

DATA_OPTIONS = SMALL
N_SERVED = 8  # trials that are logged to a server
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


@pytest.mark.slow
def test_a_campaign_outlasts_a_server_of_runs_that_is_stopped_and_started_again(tmp_path):
    workplace = Workplace(tmp_path / "work").create(searched=True)
    address = f"http://127.0.0.1:{free_port()}"
    workplace.environment |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "tuning"}
    output = workplace.root / "output.txt"
    server = serve_runs(workplace, address)
    try:
        process = workplace.start_python("tune", **DATA_OPTIONS | STUDY | {"n_trials": N_SERVED, "n_folds": 2})
        wait_until(lambda: _is_true(lambda: n_trial_runs(workplace) > 0), process)
        stop(server)
        wait_until(lambda: f"The MLflow server at {address} does not answer" in output.read_text(), process)
        server = serve_runs(workplace, address)
        assert process.wait(timeout=300) == 0, output.read_text()
        told = output.read_text()
        assert f"The MLflow server at {address} answers again." in told
        assert "registered as models:/fracture-classifier/1, alias challenger" in told
        assert "Traceback" not in told
    finally:
        stop(server)
    (tune,) = workplace.runs("tuning")
    (version,) = workplace.store.search_model_versions("name = 'fracture-classifier'")
    assert (tune.info.status, version.run_id) == ("FINISHED", tune.info.run_id)
    trials = workplace.runs("tuning-trials")
    assert sorted(int(run.data.tags["trial.number"]) for run in trials) == list(range(N_SERVED))
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert all("objective/specificity" in run.data.metrics and run.data.params for run in trials)


def serve_runs(workplace, address):
    """`mlflow server` over the workplace's database, once it answers."""
    port = address.rpartition(":")[2]
    command = ["--host", "127.0.0.1", "--port", port, "--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db"]
    command = [sys.executable, "-m", "tests.mlflow_server", *command, "--artifacts-destination", "served"]
    environment = {name: value for name, value in workplace.environment.items() if not name.startswith("MLFLOW_T")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    outputs = [workplace.root / "server.txt"] * 2
    server = fork(command, workplace.root, environment, outputs)
    wait_until(lambda: _answers(f"{address}/health"), server)
    return server


def stop(server):
    server.terminate()
    assert server.wait(timeout=60) is not None


def n_trial_runs(workplace):
    """As the server's database has them."""
    with closing(sqlite3.connect(f"file:{workplace.root}/mlflow.db?mode=ro", uri=True)) as database:
        return database.execute("SELECT COUNT(*) FROM tags WHERE key = 'trial.number'").fetchone()[0]


def _answers(address):
    try:
        return requests.get(address, timeout=5).ok
    except requests.ConnectionError:
        return False


def sessions(workplace):
    return [run for run in workplace.runs("tuning") if run.data.tags.get("entry_point") == "tune"]


def _is_true(holds):
    try:
        return holds()
    except sqlite3.OperationalError:  # there is no file yet, or no table
        return False
