import logging
import os

import mlflow
import psycopg
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from sqlalchemy.exc import OperationalError

from fracture_mae.config import Evaluate
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking import lineage, outages, registry, runs
from fracture_mae.tracking.runs_beside import RunsBeside
from tests.unit.tracking.store_runs import only_run

LOG = ('%s://%s:%s "%s %s %s" %s %s', "http", "h", 80, "POST", "/api/2.0/mlflow/runs/log-batch", "HTTP/1.1")


@pytest.fixture
def urllib3(monkeypatch):
    logger = logging.getLogger("urllib3.connectionpool")
    before, level = logger.filters[:], logger.level
    logger.filters[:] = []
    logger.setLevel(logging.NOTSET)  # as before any run of another test
    outages.tell()
    outages.tell()  # of each run, and told once
    yield logger
    logger.filters[:] = before
    logger.setLevel(level)


def test_an_outage_is_told_once_and_so_is_its_end(urllib3, caplog):
    path = "/api/2.0/mlflow/runs/log-batch"
    for _ in range(3):
        urllib3.warning("Retrying (%r) after connection broken by '%r': %s", 7, OSError("Connection refused"), path)
    urllib3.debug(*LOG, 503, 0)
    urllib3.debug("Retry: %s", path)
    urllib3.debug(*LOG, 200, 2)
    urllib3.debug(*LOG, 200, 2)
    first, second = (record.getMessage() for record in caplog.records)
    assert "does not answer (Connection refused)" in first
    assert "about 4 minutes" in first
    assert second.endswith("answers again.")


def test_a_server_whose_database_is_away_is_told_of_too(urllib3, caplog):
    urllib3.debug("Retry: %s", "/api/2.0/mlflow/runs/log-batch")
    assert "its database, or the store of its artifacts, is away" in caplog.text


def test_others_keep_their_own_words(urllib3, caplog):
    urllib3.warning("Retrying (%r) after connection broken by '%r': %s", 7, OSError("refused"), "/elsewhere")
    urllib3.debug("Retry: %s", "/elsewhere")
    assert [record.getMessage() for record in caplog.records] == [
        "Retrying (7) after connection broken by 'OSError('refused')': /elsewhere"
    ]


def unreachable():
    try:
        raise requests.ConnectionError("refused")
    except requests.ConnectionError as error:
        raise MlflowException(f"API request failed with exception {error}")  # noqa: B904, as MLflow does


def test_work_that_waited_in_vain_ends_in_a_sentence(store):
    with (
        pytest.raises(
            FractureMaeError, match=r"has been away for too long: .*refused.*the same command, which goes on"
        ),
        runs.run("evaluate", Evaluate()),
    ):
        unreachable()
    assert only_run(store).info.status == "FAILED"


def gone():
    raise MlflowException("Run with id=x not found", RESOURCE_DOES_NOT_EXIST)


ASKED = {
    "the tags of a run": (lambda: registry.run_tags("runs:/x/model"), {}),
    "what a run has logged": (lambda: lineage.logged("x"), None),
    "a table of a run": (lambda: lineage.read_table("x", "data/splits.csv"), None),
    "a parent": (lambda: RunsBeside(mlflow.active_run().info.run_id, "x", "a campaign").parent, "mine"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_out_of_reach_is_not_taken_for_absent(store, monkeypatch, asked):
    ask, nothing = ASKED[asked]
    found = MlflowClient.get_run

    def get_run(self, run_id):
        return answer() if run_id == "x" else found(self, run_id)

    monkeypatch.setattr(MlflowClient, "get_run", get_run)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **_: answer())
    with runs.run("evaluate", Evaluate()) as run:
        answer = unreachable
        with pytest.raises(MlflowException, match="refused"):
            ask()
        answer = gone
        found_absent = ask()
    assert found_absent == (run.id if nothing == "mine" else nothing)


def test_a_run_of_ones_own_that_is_out_of_reach_is_not_said_to_be_another_stores(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "x")
    monkeypatch.setattr(MlflowClient, "get_run", lambda *_: unreachable())
    with pytest.raises(FractureMaeError, match=r"no run can be started in .*refused"), runs.run("evaluate", Evaluate()):
        pass


def test_another_database_that_is_away_is_not_said_to_be_the_store(store):
    away = OperationalError("SELECT 1", {}, psycopg.OperationalError("refused"))
    with pytest.raises(FractureMaeError, match=r"^the study's$"), runs.run("evaluate", Evaluate()):
        raise FractureMaeError("the study's") from away


def test_other_errors_stay_what_they_are(store):
    with pytest.raises(ValueError, match="mine"), runs.run("evaluate", Evaluate()):
        raise ValueError("mine")


@pytest.mark.parametrize(("error", "retries"), [(KeyboardInterrupt(), "1"), (ValueError("mine"), None)])
def test_who_stops_a_command_need_not_wait(store, monkeypatch, error, retries):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    seen, end = [], MlflowClient.set_terminated

    def spied(*arguments, **options):
        seen.append(os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES"))
        return end(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "set_terminated", spied)
    with pytest.raises(type(error)), runs.run("evaluate", Evaluate()):
        raise error
    assert seen == [retries]
