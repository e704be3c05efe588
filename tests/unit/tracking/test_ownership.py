import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from fracture_mae.config import Evaluate
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking import ownership, runs
from tests.unit.tracking.store_runs import only_run, run_made_by_mlflow

REASON = runs.REASON_TAG


def left_running(store, host, process):
    """A run that nobody ended."""
    experiment = store.get_experiment_by_name("fracture-mae")
    number = experiment.experiment_id if experiment else store.create_experiment("fracture-mae")
    tags = {"process.host": host, "process.id": process} if host else {}
    return store.create_run(number, tags=tags).info.run_id


def process_id(pid, later=0.0):
    return f"{pid}@{psutil.Process(pid).create_time() + later:.2f}"


def test_runs_of_dead_processes_are_closed_and_no_others(store):
    here, me = socket.gethostname(), os.getpid()
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    zombie = process_id(killed.pid)
    killed.kill()
    while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    dead = [
        left_running(store, here, zombie),
        left_running(store, here, "999999999@1.00"),
        left_running(store, here, process_id(me, later=-3600)),  # the number was given to this process later
    ]
    alive = [
        left_running(store, here, process_id(me, later=1)),  # the clock was set meanwhile
        left_running(store, "another machine", "999999999@1.00"),
        left_running(store, None, None),  # MLflow has made it and its process is about to start
    ]
    with runs.run("evaluate", Evaluate()):
        pass
    killed.wait()
    for run_id in dead:
        found = store.get_run(run_id)
        assert (found.info.status, found.data.tags[REASON]) == ("FAILED", "its process was killed")
    assert {store.get_run(run_id).info.status for run_id in alive} == {"RUNNING"}


@pytest.mark.parametrize(
    ("machine", "dead"),
    [
        ("m b pid:[4026531836]", True),  # this one, as it runs
        ("m earlier pid:[4026531836]", True),  # before it was started anew
        ("m b pid:[4026532999]", False),  # a container on it, with numbers of its own
        ("m earlier pid:[4026532999]", False),
        ("other b2 pid:[4026531836]", False),  # another machine of the same name
        ("unknown b2 pid:[4026531836]", False),
        (None, True),  # of an earlier version
    ],
)
def test_only_processes_of_this_machine_are_judged(store, monkeypatch, machine, dead):
    monkeypatch.setattr(ownership, "_machine", lambda: "m b pid:[4026531836]")
    run_id = left_running(store, socket.gethostname(), "999999999@1.00")
    if machine:
        store.set_tag(run_id, "process.machine", machine)
    with runs.run("evaluate", Evaluate()):
        pass
    assert (store.get_run(run_id).info.status == "FAILED") == dead


def test_in_a_container_a_number_of_another_one_is_not_looked_up(monkeypatch):
    monkeypatch.setattr(ownership, "_machine", lambda: "m b pid:[4026532999]")
    tags = {"process.host": socket.gethostname(), "process.id": "999999999@1.00"}
    assert not ownership.is_dead(tags | {"process.machine": "m b pid:[4026532111]"})
    assert not ownership.is_dead(tags | {"process.machine": "m earlier pid:[4026532999]"})
    assert ownership.is_dead(tags | {"process.machine": "m b pid:[4026532999]"})


def test_the_words_for_this_machine_are_three():
    assert len(ownership.process_tags()["process.machine"].split(" ")) == 3


@pytest.mark.parametrize(("hours", "closed"), [(0.9, False), (1.1, True)])
def test_what_mlflow_made_and_no_process_began_is_closed_after_an_hour(store, hours, closed):
    made = store.create_run(
        "0",
        start_time=int((time.time() - 3600 * hours) * 1000),
        tags={"mlflow.source.name": ownership._name_of_project(), "mlflow.source.type": "PROJECT"},
    )
    of_others = store.create_run("0", start_time=1, tags={"mlflow.source.name": "x", "mlflow.source.type": "PROJECT"})
    with runs.run("evaluate", Evaluate()):
        pass
    assert (store.get_run(made.info.run_id).info.status == "FAILED") == closed
    assert store.get_run(of_others.info.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_nothing_is_written_into_a_run_that_has_ended(store, monkeypatch, status):
    run_id = run_made_by_mlflow(store, monkeypatch)
    store.set_terminated(run_id, status)
    before = store.get_run(run_id).to_dictionary()
    said = rf"has ended \({status}\).*unset MLFLOW_RUN_ID"
    with pytest.raises(FractureMaeError, match=said) as caught, runs.run("evaluate", Evaluate()):
        pass
    runs.record_failure(caught.value)  # as the command does with any error
    assert store.get_run(run_id).to_dictionary() == before


def test_nothing_is_written_into_a_run_that_another_process_writes(store, monkeypatch):
    run_id = run_made_by_mlflow(store, monkeypatch)
    for name, value in {
        "process.host": socket.gethostname(),
        "process.id": process_id(os.getppid()),
        "entry_point": "tune",
    }.items():
        store.set_tag(run_id, name, value)
    with pytest.raises(FractureMaeError, match="is written by another process"), runs.run("evaluate", Evaluate()):
        pass
    assert store.get_run(run_id).data.tags["entry_point"] == "tune"


def test_a_run_that_mlflow_made_is_taken_while_its_maker_waits(store, monkeypatch):
    run_id = run_made_by_mlflow(store, monkeypatch)
    for name, value in {"process.host": socket.gethostname(), "process.id": process_id(os.getppid())}.items():
        store.set_tag(run_id, name, value)
    with runs.run("evaluate", Evaluate()) as run:
        assert run.id == run_id
    assert store.get_run(run_id).data.tags["process.id"].startswith(f"{os.getpid()}@")


def test_a_run_id_of_another_store_is_told_of(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(FractureMaeError, match=r"not found.*unset MLFLOW_RUN_ID"), runs.run("evaluate", Evaluate()):
        pass
    runs.record_failure(FractureMaeError("x"))


def test_an_empty_variable_names_no_run(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    with runs.run("evaluate", Evaluate()):
        pass
    assert store.get_experiment(only_run(store).info.experiment_id).name == "fracture-mae"
