import inspect
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import click
import mlflow.cli
import pytest
from click.testing import CliRunner
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.projects.backend import loader
from mlflow.projects.backend.local import LocalBackend

from fracture_mae.tracking import command_checks, ownership, plugin, warm_processes
from fracture_mae.tracking.plugin import (
    ExperimentProvider,
    experiment_named,
    install_backend,
    is_this_project,
    resolved,
)
from tests.workplace import PROJECT

MANAGER, RUN_ID = "ENV_MANAGER", "_mlflow_local_backend_run_id"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    monkeypatch.setenv("PATH", os.environ["PATH"])


@pytest.fixture
def another_project(tmp_path):
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "MLproject").write_text("name: another\nentry_points: {main: {command: 'true'}}\n")
    return str(tmp_path / "another")


def is_in_context(command, uri=str(PROJECT), **params):
    with click.Context(command, info_name="run") as context:
        context.params = {"uri": uri, "env_manager": None, **params}
        return ExperimentProvider().in_context()


def run_by(local, uri, manager, **params):
    """Run an entry point of a project by the backend that is made of `local`."""
    fake = SimpleNamespace(MLFLOW_BACKENDS={"local": local})
    install_backend(fake)
    config = {MANAGER: manager}
    return fake.MLFLOW_BACKENDS["local"]().run(uri, "main", params, None, config, mlflow.get_tracking_uri(), "0")


class Recording:
    """In place of MLflow's local backend: what it would be given."""

    def run(self, project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id):
        return params, backend_config


class Failing:
    def run(self, project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id):
        raise MlflowException("there is no conda")


def test_only_mlflow_run_of_this_project_has_its_experiment(another_project, tmp_path):
    assert is_in_context(mlflow.cli.run)
    assert not is_in_context(mlflow.cli.run, another_project)
    assert not is_in_context(mlflow.cli.run, str(tmp_path))  # there is no MLproject
    assert not is_in_context(mlflow.cli.run, "https://example.org/fracture-mae.git")
    assert not is_in_context(click.Command("run", callback=lambda: None))
    assert not is_in_context(mlflow.cli.server)
    assert not ExperimentProvider().in_context()  # a notebook, or any other program


@pytest.mark.parametrize("text", ["", "name", "name: [", "- fracture-mae", "name: fracture-mae-2"])
def test_a_project_is_known_by_its_name(tmp_path, text):
    (tmp_path / "MLproject").write_text(text)
    assert not is_this_project(str(tmp_path))
    (tmp_path / "MLproject").write_text("name: fracture-mae")
    assert is_this_project(str(tmp_path))


def test_mlflow_has_loaded_the_plugin_and_its_backend_is_the_one_that_is_known():
    assert issubclass(loader.MLFLOW_BACKENDS["local"], LocalBackend)
    assert loader.MLFLOW_BACKENDS["local"] is not LocalBackend
    assert tuple(inspect.signature(LocalBackend.run).parameters) == plugin._RUN_OF_A_BACKEND
    assert (mlflow.projects.utils.PROJECT_ENV_MANAGER, mlflow.projects.utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG) == (
        MANAGER,
        RUN_ID,
    )


@pytest.mark.parametrize("manager", ["local", "uv", "virtualenv", "conda"])
def test_a_manager_that_is_named_is_taken(store, manager):
    _, config = run_by(Recording, str(PROJECT), manager)
    assert config[MANAGER] == manager


def test_no_manager_means_the_environment_that_mlflow_is_in(store, another_project, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    assert run_by(Recording, another_project, None) == ({}, {MANAGER: None})
    assert os.environ["PATH"] == "/usr/bin"
    _, config = run_by(Recording, str(PROJECT), None)
    assert config[MANAGER] == "local"
    assert os.environ["PATH"] == f"{os.path.dirname(sys.executable)}:/usr/bin"
    (run,) = store.search_runs(["0"])
    assert config[RUN_ID] == run.info.run_id


def test_nothing_is_logged_as_it_was_typed_but_the_data(store):
    params, _ = run_by(Recording, str(PROJECT), None, data_dir="synthetic", epochs="auto", learning_rate="1e-4")
    assert params == {"data_dir": "synthetic", "epochs": "auto", "learning_rate": "1e-4"}
    (run,) = store.search_runs(["0"])
    assert run.data.params == {"data_dir": "synthetic"}


def test_a_run_that_cannot_be_started_ends_as_failed(store):
    with pytest.raises(MlflowException, match="there is no conda"):
        run_by(Failing, str(PROJECT), "conda")
    (run,) = store.search_runs(["0"])
    assert (run.info.status, run.info.run_name) == ("FAILED", "main")
    assert run.data.tags["failure_reason"] == "MlflowException: there is no conda"


def test_a_step_of_a_chain_is_a_fork_of_the_process_that_has_read_the_libraries(store, monkeypatch):
    calls = []
    monkeypatch.setattr(warm_processes, "started", lambda: True)
    monkeypatch.setattr(warm_processes, "run", lambda *given: calls.append(given) or SimpleNamespace(wait=lambda: 3))
    submitted = run_by(LocalBackend, str(PROJECT), "local", data_dir="/data/a 'b $c", seed=3)
    ((module, arguments, cwd, variables),) = calls
    assert (module, cwd) == ("entrypoints.main", PROJECT)
    assert arguments == ["--data-dir", "/data/a 'b $c", "--seed", "3"]
    assert variables["MLFLOW_RUN_ID"] == submitted.run_id
    assert variables["MLFLOW_EXPERIMENT_ID"] == "0"
    assert store.get_run(submitted.run_id).data.tags["mlflow.project.entryPoint"] == "main"
    assert submitted.wait() is False  # its exit status was not 0


def test_an_environment_of_mlflow_is_its_own_to_start(store, monkeypatch):
    monkeypatch.setattr(warm_processes, "started", lambda: True)
    _, settings = run_by(Recording, str(PROJECT), "uv")
    assert settings[MANAGER] == "uv"


def test_what_the_user_names_is_kept_where_a_run_cannot_be_started(store):
    context = click.Context(mlflow.cli.run)
    context.params = {"run_name": "mine"}
    with context, pytest.raises(MlflowException):
        run_by(Failing, str(PROJECT), "conda")
    (run,) = store.search_runs(["0"])
    assert run.info.run_name == "mine"


class OfAnotherShape:
    def run(self, project):
        pass


@pytest.mark.parametrize("fake", [SimpleNamespace(), SimpleNamespace(MLFLOW_BACKENDS={"local": OfAnotherShape})])
def test_without_the_backend_that_is_known_mlflow_is_left_alone_and_a_sentence_says_so(fake, monkeypatch, capsys):
    install_backend(fake)
    assert getattr(fake, "MLFLOW_BACKENDS", {"local": OfAnotherShape}) == {"local": OfAnotherShape}
    monkeypatch.setitem(sys.modules, "mlflow.projects.backend.loader", fake)
    assert is_in_context(mlflow.cli.run)
    assert "looks for conda where no manager is named: add --env-manager local." in capsys.readouterr().err
    assert is_in_context(mlflow.cli.run, env_manager="uv")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("synthetic", "synthetic"),
        ("synthetic:n_xrays=60,size=96", "synthetic:n_xrays=60,size=96"),
        ("", ""),
        ("xrays", "{here}/xrays"),
        ("./synthetic", "{here}/synthetic"),
        ("../it's $HOME.csv", "{above}/it's $HOME.csv"),
        ("~/xrays", "{home}/xrays"),
        ("/data/xrays", "/data/xrays"),
    ],
)
def test_relative_data_are_looked_for_where_the_user_is(typed, taken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    expected = taken.format(here=tmp_path, above=tmp_path.parent, home="/home/me")
    assert resolved({"data-dir": typed, "model": "a/b"}) == {"data_dir": expected, "model": "a/b"}
    assert resolved({"unlabelled_dir": typed})["unlabelled_dir"] == expected
    assert resolved({"unlabelled-dir": "none"}) == {"unlabelled_dir": "none"}
    boxes = "auto" if taken.startswith("synthetic") else typed
    assert resolved({"boxes": boxes}) == {"boxes": "auto" if boxes == "auto" else expected}
    assert resolved(None) == {}


def test_an_experiment_is_made_once_though_two_processes_ask_at_once(store, monkeypatch):
    made = experiment_named("one", "/elsewhere")
    assert experiment_named("one") == made
    assert store.get_experiment(made).artifact_location.endswith("/elsewhere")
    find = mlflow.MlflowClient.get_experiment_by_name
    looks = []

    def look(client, name):  # the other process makes it right after the first look
        looks.append(name)
        return None if len(looks) == 1 else find(client, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", look)
    assert experiment_named("one") == made


def command_of(callback, *options):
    parameters = [click.Option([f"--{name}"]) for name in options]
    return click.Command("command", callback=callback, params=parameters)


def test_mlflow_run_looks_at_the_store_before_it_begins(store, another_project):
    begun = []
    command = command_of(lambda **_: begun.append(1), "uri", "experiment_id", "experiment_name")
    command_checks.before_running_or_showing(SimpleNamespace(run=command))
    number = experiment_named("fracture-mae")
    assert CliRunner().invoke(command, ["--uri", str(PROJECT)]).exit_code == 0
    store.delete_experiment(number)
    for named in ([], ["--experiment_id", number], ["--experiment_name", "fracture-mae"]):
        result = CliRunner().invoke(command, ["--uri", str(PROJECT), *named])
        assert result.exit_code == 1
        assert f"mlflow experiments restore -x {number}" in result.output
    assert CliRunner().invoke(command, ["--uri", another_project]).exit_code == 0
    mlflow.set_tracking_uri("file:///nowhere")
    assert "mlflow migrate-filestore" in CliRunner().invoke(command, ["--uri", str(PROJECT)]).output
    assert len(begun) == 2


@pytest.mark.parametrize(
    ("before", "name", "given"),
    [
        (command_checks.before_running_or_showing, "run", ["--uri", str(PROJECT)]),
        (command_checks.before_serving, "serve", ["--model_uri", "models:/fracture-classifier/1"]),
    ],
)
def test_mlflow_begins_anew_where_names_of_files_are_ascii(before, name, given, store, another_project, monkeypatch):
    command = command_of(lambda **_: None, given[0].strip("-"), "experiment_id", "experiment_name")
    before(SimpleNamespace(**{name: command}))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    begun = []
    monkeypatch.setattr(os, "execv", lambda *given: begun.append((*given, os.environ["PYTHONUTF8"])))
    CliRunner().invoke(command, given)
    assert begun == [(sys.executable, sys.orig_argv, "1")]
    CliRunner().invoke(command, [given[0], another_project])
    assert len(begun) == 1


def test_mlflow_serve_says_where_a_model_was_looked_for(store, tmp_path, monkeypatch):
    command = command_of(lambda **_: None, "model_uri")
    command_checks.before_serving(SimpleNamespace(serve=command))
    uri = "models:/fracture-classifier@champion"
    result = CliRunner().invoke(command, ["--model_uri", uri])
    assert f"Error: {uri} is not registered in sqlite:///{tmp_path}/mlflow.db" in result.output
    assert CliRunner().invoke(command, ["--model_uri", "models:/another/1"]).exit_code == 0
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere.db")
    result = CliRunner().invoke(command, ["--model_uri", uri])
    assert f"Error: there is no database of models at {tmp_path}/elsewhere.db" in result.output
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize(("said", "shown"), [("returned non zero return code. Return code = 1", True), ("x", False)])
def test_a_server_that_ended_has_said_why_itself(said, shown):
    def fails(**_):
        raise Exception(said)

    command = command_of(fails, "model_uri")
    command_checks.before_serving(SimpleNamespace(serve=command))
    result = CliRunner().invoke(command, ["--model_uri", "folder"])
    assert ("Error: the server has ended" in result.output) == shown


def test_mlflow_ui_waits_for_whoever_makes_the_database(tmp_path):
    (tmp_path / "MLproject").write_text("name: fracture-mae\n")
    file, begun = tmp_path / "mlflow.db", []
    command = command_of(lambda **_: begun.append(file.exists()), "backend_store_uri")
    command_checks.before_running_or_showing(SimpleNamespace(server=command))
    asked = ["--backend_store_uri", f"sqlite:///{file}"]
    with FileLock(f"{file}.open.lock"):
        waiting = threading.Thread(target=CliRunner().invoke, args=(command, asked))
        waiting.start()
        waiting.join(timeout=1)
        assert waiting.is_alive()
        assert not file.exists()
    waiting.join(timeout=60)
    assert begun == [True]


def test_mlflow_ui_of_other_stores_is_left_alone(tmp_path):
    begun = []
    command = command_of(lambda **_: begun.append(1), "backend_store_uri")
    command_checks.before_running_or_showing(SimpleNamespace(server=command))
    for given in ([], ["--backend_store_uri", f"sqlite:///{tmp_path}/mlflow.db"], ["--backend_store_uri", "mlruns"]):
        assert CliRunner().invoke(command, given).exit_code == 0
    assert len(begun) == 3
    (tmp_path / "MLproject").write_text("name: fracture-mae\n")
    (tmp_path / "mlflow.db").write_bytes(b"no database")  # of which MLflow's server has its own words
    assert CliRunner().invoke(command, ["--backend_store_uri", f"sqlite:///{tmp_path}/mlflow.db"]).exit_code == 0
    assert len(begun) == 4
    assert not (tmp_path / "mlruns").exists()


def test_a_command_of_another_shape_is_left_alone():
    command_checks.before_running_or_showing(SimpleNamespace())
    command_checks.before_serving(SimpleNamespace(serve=print))


def test_a_run_is_its_makers_until_the_entry_point_takes_it(store):
    _, settings = run_by(Recording, str(PROJECT), None)
    tags = store.get_run(settings[RUN_ID]).data.tags
    assert tags["process.id"].startswith(f"{os.getpid()}@")
    assert not ownership.is_dead(tags)


def test_loading_it_imports_nothing_heavy():
    script = "import sys, fracture_mae.tracking.plugin; print(sorted({'mlflow', 'torch', 'pandas', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
