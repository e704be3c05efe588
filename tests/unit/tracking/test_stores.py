"""A store that cannot be used is told of in a sentence, and soon."""

import errno
import http.server
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import fracture_mae
from fracture_mae.config import Evaluate
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking import runs, stores

ODD = "a #1?%20 b ü&=+"  # a folder whose name means something in addresses


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(stores, "_SECONDS", 1)


def refused(uri):
    """What is said of a store, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(FractureMaeError) as caught:
        stores.reach(uri)
    return str(caught.value), time.monotonic() - begun


def test_a_database_that_is_there_or_can_be_made_is_taken(store, tmp_path):
    stores.reach(mlflow.get_tracking_uri())
    stores.reach(f"sqlite:///{tmp_path}/new.db")
    stores.reach("sqlite://")
    assert not (tmp_path / "new.db").exists()


AT_ONCE = """
import pathlib, sys, time
import mlflow
from fracture_mae.tracking import stores
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path("go").exists():
    time.sleep(0.001)
stores.open_first("sqlite:///mlflow.db")
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.MlflowClient().create_experiment(sys.argv[1])
"""


@pytest.mark.slow
def test_processes_that_begin_at_once_at_a_new_database(tmp_path):
    names = ["first", "second", "third"]
    environment = os.environ | {"PYTHONPATH": str(Path(fracture_mae.__file__).parents[1])}
    command = [sys.executable, "-c", AT_ONCE]
    started = [
        subprocess.Popen([*command, name], cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for name in names
    ]
    end = time.monotonic() + 120
    while not all((tmp_path / name).exists() for name in names) and time.monotonic() < end:
        time.sleep(0.05)
    (tmp_path / "go").touch()
    said = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert {each.name for each in client.search_experiments()} == {"Default", *names}


def test_a_locked_database(store, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        said, seconds = refused(f"sqlite:///{tmp_path}/mlflow.db")
    assert f"{tmp_path}/mlflow.db, is locked by another process" in said
    assert seconds < 15


def test_a_database_that_may_only_be_read(store, tmp_path):
    said, seconds = refused(f"sqlite:///file:{tmp_path}/mlflow.db?mode=ro&uri=true")
    assert "can be read, but not written, by this user (attempt to write a readonly database)" in said
    assert seconds < 5


def test_no_database(tmp_path):
    (tmp_path / "text.db").write_text("no database, but some text " * 100)
    said, _ = refused(f"sqlite:///{tmp_path}/text.db")
    assert "file is not a database. Nothing was changed there; it may hold your runs" in said
    said, _ = refused(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert f"Make {tmp_path}/none" in said


def test_a_folder_that_may_only_be_read(tmp_path, monkeypatch):
    def none(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(stores, "TemporaryFile", none)
    said, _ = refused(f"sqlite:///{tmp_path}/mlflow.db")
    assert f"nothing can be written into {tmp_path} (Permission denied)" in said


def test_a_relative_database_is_told_with_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stores.address("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"
    assert stores.sqlite_file("sqlite:///x.db") == tmp_path / "x.db"


def test_a_path_with_letters_that_mean_something(tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    uri = stores.sqlite_uri(folder / "mlflow.db")
    assert stores.sqlite_file(uri) == folder / "mlflow.db"
    assert stores.local_folder((folder / "artifacts").as_uri()) == folder / "artifacts"


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql+psycopg2", "mysql+nodriver"])
def test_a_database_server_that_is_down(scheme):
    said, seconds = refused(f"{scheme}://me:secret@127.0.0.1:9/runs")
    assert "does not answer" in said
    assert "secret" not in said
    assert seconds < 15


@pytest.fixture
def deaf():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_database_server_that_never_answers(deaf):
    said, seconds = refused(f"postgresql+psycopg://{deaf}/runs")
    assert "does not answer" in said
    assert seconds < 15


def test_a_server_that_is_down(monkeypatch):
    said, seconds = refused("http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer as one" in said
    assert "Connection refused" in said
    assert seconds < 15
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ  # a training is as patient as ever


def test_something_else_at_a_servers_address():
    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(404)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said, seconds = refused(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "does not answer as one" in said
    assert seconds < 15


@pytest.mark.parametrize("form", ["file://{}", "{}", "file:{}"])
def test_a_folder_of_files(tmp_path, form):
    said, _ = refused(form.format(tmp_path / "mlruns"))
    target = f"sqlite:///{tmp_path}/mlflow.db"
    assert f"mlflow migrate-filestore --source {tmp_path}/mlruns --target {target}" in said


def started(**variables):
    with runs.run("evaluate", Evaluate()) as run:
        return run.id


def test_a_deleted_experiment(store, tmp_path):
    run_id = started()
    number = store.get_run(run_id).info.experiment_id
    store.delete_experiment(number)
    with pytest.raises(FractureMaeError, match=rf"was deleted.*mlflow.db mlflow experiments restore -x {number}\."):
        started()
    store.restore_experiment(number)
    started()


def test_an_experiment_whose_folder_was_moved(store, tmp_path):
    number = store.get_run(started()).info.experiment_id
    folder = stores.local_folder(store.get_experiment(number).artifact_location)
    assert folder.is_dir()
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FractureMaeError, match=rf"keeps its artifacts in {folder}, and that folder is gone"):
        started()
    assert not folder.exists()
    moved.rename(folder)
    started()


def test_artifacts_stay_in_a_folder_whose_name_reads_as_an_address(store, tmp_path, monkeypatch):
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    with runs.run("evaluate", Evaluate()) as run:
        run.json({"a": 1}, "a.json")
        assert run.place_of("a.json").startswith(f"{folder}/mlruns/fracture-mae/{run.id}/")
        assert mlflow.artifacts.load_dict(f"runs:/{run.id}/a.json") == {"a": 1}
    assert [each.name for each in tmp_path.iterdir() if each.is_dir() and each.name.startswith("a ")] == [ODD]


def test_the_ui_shows_the_store_that_was_used(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "sqlite:///my runs.db")
    assert stores.ui().startswith(f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/my runs.db' ")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://runs.example:80")
    assert stores.ui() == "http://runs.example:80"
