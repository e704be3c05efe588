import dataclasses
import shutil
import signal
import sqlite3
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
import sqlalchemy
import yaml

from fracture_mae.config import Evaluate, FinetuneMae
from fracture_mae.data.reading.cache_folder import cache_root
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking import ownership, runs
from fracture_mae.tracking.report import Report
from fracture_mae.training import learning_curves
from fracture_mae.training.schedule import Progress
from tests import builders
from tests.unit.tracking.store_runs import artifact, only_run, run_made_by_mlflow

REASON = runs.REASON_TAG


def test_a_run_started_directly(store):
    with runs.run("finetune_mae", FinetuneMae(epochs=3)) as run:
        assert store.get_run(run.id).info.status == "RUNNING"
    found = only_run(store)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "finetune_mae")
    assert store.get_experiment(found.info.experiment_id).name == "fracture-mae"
    assert (found.data.tags["entry_point"], found.data.tags["recipe"]) == ("finetune_mae", "default")
    values = FinetuneMae(epochs=3).model_dump()
    waiting = {"learning_rate", "beta2", "norm_pix_loss"}  # for the model that the training starts from
    assert found.data.params == {name: str(value) for name, value in values.items() if name not in waiting}
    assert yaml.safe_load(artifact(found, "config.yaml")) == values


def test_what_the_model_decides_is_logged_when_it_is_there(store):
    config = FinetuneMae(epochs=3)
    with runs.run("finetune_mae", config) as run:
        settled = config.settled("weights", norm_pix_loss=True)
        run.config(settled)
    found = only_run(store)
    assert found.data.params == {name: str(value) for name, value in settled.model_dump().items()}
    assert (found.data.params["learning_rate"], found.data.params["norm_pix_loss"]) == ("1.875e-05", "True")
    assert yaml.safe_load(artifact(found, "config.yaml")) == settled.model_dump()


def test_the_environment_names_the_experiment(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "wrists")
    with runs.run("evaluate", Evaluate()):
        pass
    assert store.get_experiment(only_run(store).info.experiment_id).name == "wrists"


def test_a_run_made_by_mlflow_keeps_its_name_and_parameters(store, monkeypatch):
    typed = {"learning_rate": "1e-4", "epochs": "auto", "seed": "0"}
    run_id = run_made_by_mlflow(store, monkeypatch, **typed)
    with runs.run("finetune_mae", FinetuneMae(**typed)) as run:
        assert run.id == run_id
        run.config(FinetuneMae(**typed).settled("random"))
    found = only_run(store)
    assert (found.info.status, found.info.run_name, found.info.experiment_id) == ("FINISHED", "mine", "0")
    assert found.data.params["learning_rate"] == "1e-4"  # as it was typed; MLflow refuses 0.0001 as a change
    assert found.data.params["epochs"] == "auto"  # nor can this be changed; config.yaml tells what was used
    assert set(found.data.params) == set(FinetuneMae.model_fields)  # each once
    assert yaml.safe_load(artifact(found, "config.yaml"))["epochs"] == FinetuneMae().epochs


def test_the_environment_names_the_experiment_by_its_id(store, monkeypatch):
    wrists = store.create_experiment("wrists")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", wrists)
    with runs.run("evaluate", Evaluate()):
        pass
    assert only_run(store).info.experiment_id == wrists
    assert store.get_experiment_by_name("fracture-mae") is None


def test_a_name_that_mlflow_made_up_gives_way_to_one_that_says_something(store, monkeypatch):
    run_id = run_made_by_mlflow(store, monkeypatch, name=None)
    assert runs.is_made_up(store.get_run(run_id).info.run_name)
    with runs.run("evaluate", Evaluate(), "evaluate (first)"):
        pass
    assert store.get_run(run_id).info.run_name == "evaluate (first)"


def test_a_run_that_fails_before_it_begins_is_named_by_its_entry_point(store, monkeypatch):
    run_id = run_made_by_mlflow(store, monkeypatch, name=None)
    runs.record_failure(FractureMaeError("no such option"))
    assert store.get_run(run_id).info.run_name == "evaluate"


@pytest.mark.parametrize("name", ["mine", "main", "amusing-seal", "amusing-xray-598", "my-seal-598", "amusing-seal-v2"])
def test_other_names_are_the_users(name):
    assert runs.is_made_up("amusing-seal-598")
    assert not runs.is_made_up(name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FractureMaeError("no X-rays"), "FractureMaeError: no X-rays"),
        (ZeroDivisionError(), "ZeroDivisionError: ZeroDivisionError"),
        (KeyboardInterrupt(), "KeyboardInterrupt: interrupted"),
        (ValueError("x" * 9000), "ValueError: " + "x" * (1000 - len("ValueError: "))),
    ],
)
def test_failures_end_the_run_with_the_reason(store, error, reason):
    with pytest.raises(type(error)), runs.run("evaluate", Evaluate()):
        raise error
    found = only_run(store)
    assert (found.info.status, found.data.tags[REASON]) == ("FAILED", reason)
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("data_dir", "reason"),
    [
        ("/nowhere", "/nowhere: there is no such folder or CSV"),
        ("synthetic:n=4", "synthetic:n=4: 'n=4' is not understood"),
    ],
)
def test_xrays_that_are_not_there_fail_the_run_before_anything_is_read(store, data_dir, reason):
    with pytest.raises(FractureMaeError), runs.run("evaluate", Evaluate(data_dir=data_dir)):
        pytest.fail("the run went on")
    found = only_run(store)
    assert found.info.status == "FAILED"
    assert found.data.tags[REASON].startswith(f"FractureMaeError: --data-dir {reason}")


def test_xrays_are_not_made_before_they_are_read(store, tmp_path):
    (tmp_path / "xrays.csv").touch()
    for data_dir in ("synthetic", "synthetic:n_xrays=9", str(tmp_path), "xrays.csv"):
        with runs.run("evaluate", Evaluate(data_dir=data_dir)):
            pass
    assert not cache_root().exists()


def test_sigterm_ends_the_run_as_failed(store):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), runs.run("evaluate", Evaluate()):
        signal.raise_signal(signal.SIGTERM)
    found = only_run(store)
    assert (found.info.status, found.data.tags[REASON]) == ("FAILED", "SystemExit: ended by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_terminal_that_is_closed_ends_the_run_as_failed_unless_it_is_to_be_outlived(store, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit), runs.run("evaluate", Evaluate()):
            signal.raise_signal(signal.SIGHUP)
        assert only_run(store).data.tags[REASON] == "SystemExit: ended by SIGHUP"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with runs.run("evaluate", Evaluate()):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_failure_before_the_run_is_recorded_once(store, monkeypatch):
    runs.record_failure(FractureMaeError("started directly, so there is no run yet"))
    run_id = run_made_by_mlflow(store, monkeypatch)
    runs.record_failure(FractureMaeError("first"))
    runs.record_failure(FractureMaeError("second"))
    assert only_run(store).info.status == "FAILED"
    assert store.get_run(run_id).data.tags[REASON] == "FractureMaeError: first"


def test_a_run_that_cannot_be_closed_ends_with_what_ended_it(store, monkeypatch, caplog):
    def full(*_):
        raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("database or disk is full"))

    def fails():
        with runs.run("evaluate", Evaluate()):
            monkeypatch.setattr(mlflow.MlflowClient, "set_tag", full)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert "could not be closed as FAILED" in caplog.text


def test_artifacts_that_only_a_server_can_take_are_refused(store, monkeypatch):
    store.create_experiment("made by the UI", artifact_location="mlflow-artifacts:/1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "made by the UI")
    with pytest.raises(FractureMaeError, match="set MLFLOW_TRACKING_URI"), runs.run("evaluate", Evaluate()):
        pass
    assert not store.search_runs([each.experiment_id for each in store.search_experiments()])


def test_a_damaged_database_is_named(store, tmp_path):
    (tmp_path / "half.db").write_bytes((tmp_path / "mlflow.db").read_bytes()[:5000])
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/half.db")
    expected = r"half\.db, cannot be used: database disk image is malformed\. Nothing was changed there"
    with pytest.raises(FractureMaeError, match=expected), runs.run("evaluate", Evaluate()):
        pass


@pytest.mark.parametrize(("n_alike", "logged"), [(19, False), (20, True)])
def test_a_group_that_holds_many_files_can_be_looked_at(store, n_alike, logged):
    train = builders.xrays("train", [0, 1] * 20, ["alike"] * n_alike + list(range(40 - n_alike)))
    made = builders.dataset()
    index = train.table.assign(split="train", row=range(40))
    with runs.run("evaluate", Evaluate()) as run:
        run.dataset(dataclasses.replace(made, train=train, index=index))
    figures = [each.path for each in store.list_artifacts(only_run(store).info.run_id, "data")]
    assert ("data/large_group_1.png" in figures) == logged


def test_data_are_logged_with_what_tells_them_apart(store, dataset):
    with runs.run("evaluate", Evaluate()) as run:
        run.dataset(dataset)
    found = only_run(store)
    inputs = {each.tags[0].value: each.dataset.name for each in found.inputs.dataset_inputs}
    assert inputs == {"training": "made-train", "validation": "made-validation", "test": "made-test"}
    assert (found.data.metrics["train/n_images"], found.data.metrics["train/n_xrays"]) == (9, 6)
    tags = {"data": "made", "data.fingerprint": "f" * 16, "split.fingerprint": "5" * 16, "leakage": "0%"}
    assert found.data.tags.items() >= (tags | {"data.rejected": "0", "group_by": "content"}).items()
    assert artifact(found, "data/splits.csv").count("\n") == 1 + 9 + 6 + 6
    assert artifact(found, "data/links.csv").startswith("a,b,method,inliers,")


def test_findings_are_logged_below_their_folder(store):
    findings = Report(
        metrics={"test/auroc": 0.5},
        tables={"test/table.csv": pd.DataFrame({"a": [1], "b": ["x"]})},
        documents={"test/document.json": {"Ä": 1}},
    )
    with runs.run("evaluate", Evaluate()) as run:
        run.report(findings, "best/")
    found = only_run(store)
    assert found.data.metrics == {"test/auroc": 0.5}
    assert artifact(found, "best/test/table.csv") == "a,b\n1,x\n"
    assert mlflow.artifacts.load_dict(f"{found.info.artifact_uri}/best/test/document.json") == {"Ä": 1}


def test_training_logs_curves_the_kept_epoch_and_where_it_went_on(store):
    rows = [{"train/loss": 0.5, "validation/auroc": 0.7}, {"train/loss": 0.4, "validation/auroc": 0.6}]
    with runs.run("finetune_mae", FinetuneMae()) as run:
        run.report(learning_curves.report(Progress(history=rows, kept_epoch=1, run_ids=["first", "second", run.id])))
    found = only_run(store)
    assert found.data.metrics == {"kept/epoch": 1, "kept/train/loss": 0.5, "kept/validation/auroc": 0.7}
    assert found.data.tags["resumed_from"] == "first, second"
    assert artifact(found, "learning_curves.csv").splitlines()[1:] == ["1,0.5,0.7", "2,0.4,0.6"]
    assert "learning_curves.png" in {file.path for file in store.list_artifacts(found.info.run_id)}


def test_a_child_run_lies_below_its_parent_and_gives_way_to_it(store, monkeypatch):
    parent_id = run_made_by_mlflow(store, monkeypatch)
    with runs.run("evaluate", Evaluate()) as parent:
        with parent.child("fold 1") as child:
            child.metrics({"m": 1})
            child.table(pd.DataFrame({"a": [1]}), "of_child.csv")
        parent.table(pd.DataFrame({"a": [2]}), "of_parent.csv")
    found, above = store.get_run(child.id), store.get_run(parent_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "fold 1")
    assert found.data.tags["mlflow.parentRunId"] == parent_id == parent.id
    assert found.info.experiment_id == above.info.experiment_id
    assert (found.data.metrics, above.data.metrics) == ({"m": 1.0}, {})
    assert artifact(found, "of_child.csv") == "a\n1\n"
    assert artifact(above, "of_parent.csv") == "a\n2\n"
    assert above.info.status == "FINISHED"


def test_a_failing_child_fails_its_parent_too(store):
    with (
        pytest.raises(FractureMaeError),
        runs.run("evaluate", Evaluate()) as parent,
        parent.child("fold 1") as child,
    ):
        raise FractureMaeError("no X-rays")
    for run in (child, parent):
        found = store.get_run(run.id)
        assert (found.info.status, found.data.tags[REASON]) == ("FAILED", "FractureMaeError: no X-rays")


def test_a_child_of_a_killed_process_is_closed_with_its_parent(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with runs.run("evaluate", Evaluate()) as parent, parent.child("fold 1") as child:
        tags = {
            ownership._PROCESS_TAG: f"{dead.pid}@1.00",
            ownership._HOST_TAG: store.get_run(child.id).data.tags[ownership._HOST_TAG],
        }
        killed = store.create_run(store.get_run(parent.id).info.experiment_id, tags=tags)
        ownership.close_dead_runs(store)
        assert store.get_run(child.id).info.status == "RUNNING"
    assert store.get_run(killed.info.run_id).info.status == "FAILED"


def test_a_temporary_store_takes_what_is_tracked_meanwhile(store, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(tmp_path / "mlflow.db", folder)
    with runs.run("evaluate", Evaluate()) as run:
        with runs.temporary_store(folder) as other:
            other.metrics({"speed": 1})
            assert runs.database_folder() == folder
        assert runs.database_folder() == tmp_path
        run.json({"speed": 2}, "after.json")
    found = only_run(store)
    assert "speed" not in found.data.metrics
    assert yaml.safe_load(artifact(found, "after.json")) == {"speed": 2}
    elsewhere = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = elsewhere.get_experiment_by_name(runs.EXPERIMENT)
    assert experiment.artifact_location == f"file://{folder}/artifacts"
    assert elsewhere.search_runs([experiment.experiment_id])[0].data.metrics == {"speed": 1}


def test_a_process_that_is_not_the_first_leaves_mlflow_alone(store, dataset, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with runs.run("finetune_mae", FinetuneMae()) as run, run.child("fold 1") as child:
        assert run.id == child.id == ""
        for each in (run, child):
            each.metrics({"m": 1.0}, 1)
            each.dataset(dataset)
            each.report(Report(metrics={"m": 0.5}))
    assert mlflow.active_run() is None
    assert not store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])


def test_a_silent_run_takes_all_that_a_run_takes():
    public = {name for name, value in vars(runs.Run).items() if callable(value) and not name.startswith("_")}
    assert public <= set(vars(runs.SilentRun))


def test_a_rank_leaves_to_its_leader_what_is_the_leaders(store, monkeypatch):
    run_id = run_made_by_mlflow(store, monkeypatch)
    monkeypatch.setenv("FRACTURE_MAE_LEADER", "1")
    with runs.run("finetune_mae", FinetuneMae()) as run:
        run.metrics({"m": 1.0})
        assert run.id == run_id
    found = only_run(store)
    assert (found.data.params, found.data.metrics) == ({}, {"m": 1.0})
    assert "process.id" not in found.data.tags  # it would be taken for dead when this rank is, and its leader lives


def test_how_steps_were_computed_stands_in_the_tags(store):
    with runs.run("finetune_mae", FinetuneMae()) as run:
        run.report(
            learning_curves.report(
                Progress([{"train/loss": 0.5}], 1, computed_by={"attention": "sdpa", "compile": "false"})
            )
        )
    tags = only_run(store).data.tags
    assert (tags["step.attention"], tags["step.compile"]) == ("sdpa", "false")


class InterruptedCursor(sqlite3.Cursor):
    """Ctrl-C while its rows are fetched, by which its connection is lost."""

    interrupted = False

    def fetchall(self):
        self.interrupted = True
        raise KeyboardInterrupt

    def close(self):
        if self.interrupted:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


class InterruptedConnection(sqlite3.Connection):
    def cursor(self, factory=InterruptedCursor):
        return super().cursor(factory)


def interrupted_query():
    database = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(":memory:", factory=InterruptedConnection)
    )
    with database.connect() as connection, connection.execute(sqlalchemy.text("SELECT 1")) as rows:
        rows.all()


def test_ctrl_c_within_a_query_shows_no_traceback(store, caplog):
    with pytest.raises(KeyboardInterrupt), runs.run("finetune_mae", FinetuneMae()):
        interrupted_query()
    assert "Traceback" not in caplog.text
    assert only_run(store).data.tags[REASON] == "KeyboardInterrupt: interrupted"
