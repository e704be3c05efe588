"""An MLflow store of a test's own."""

import shutil

import mlflow
import pytest
from mlflow import MlflowClient

from tests.workplace import empty_database


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store in the working folder, `tmp_path`; yields its client."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # of an earlier test
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database(), tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
