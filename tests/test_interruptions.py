"""Processes that are killed outright: the next run works, closes the dead one, and training goes on where it was."""

import os
import signal

import pytest

from tests.workplace import SMALL, Workplace, command_of, wait_until

pytestmark = pytest.mark.slow
EPOCHS = 6


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("killed") / "project").create()


def kill_when(workplace, entry_point, parameters, sign):
    """Start an entry point, kill it and all its helpers once there is a new file or folder `sign`; its run."""
    before = set(workplace.root.glob(sign))
    process = workplace.start(command_of(entry_point, parameters))
    wait_until(lambda: set(workplace.root.glob(sign)) - before, process)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run = workplace.runs("fracture-mae")[-1]
    assert (run.info.status, run.data.tags["entry_point"]) == ("RUNNING", entry_point)
    return run


def finish(workplace, entry_point, parameters):
    done = workplace.python(entry_point, **parameters)
    assert done.returncode == 0, done.stderr
    return workplace.runs("fracture-mae")[-1]


def assert_closed(workplace, run):
    found = workplace.store.get_run(run.info.run_id)
    assert (found.info.status, found.data.tags["failure_reason"]) == ("FAILED", "its process was killed")


@pytest.mark.parametrize(
    ("entry_point", "parameters"),
    [
        ("finetune_mae", {"model": "vit-mae-nano", "epochs": EPOCHS, "n_figures": 2}),
        ("train_classifier", {"encoder": "models:/xray-mae/latest", "epochs": EPOCHS}),
    ],
)
def test_a_killed_training_is_resumed(workplace, entry_point, parameters):
    parameters = SMALL | parameters
    dead = kill_when(workplace, entry_point, parameters, "cache/checkpoints/*/epoch-000002")
    run = finish(workplace, entry_point, parameters)
    assert_closed(workplace, dead)
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed_from"] == dead.info.run_id
    history = workplace.store.get_metric_history(run.info.run_id, "train/learning_rate")
    assert [point.step for point in history] == list(range(1, EPOCHS + 1))  # those before the kill too, each once
    assert not list(workplace.root.glob("cache/checkpoints/*/epoch-*"))


@pytest.mark.parametrize(
    ("entry_point", "parameters"),
    [
        ("reconstruct_baseline", {"model": "vit-mae-nano", "n_figures": 0}),
        ("evaluate", {"references": False, "n_draws": 100}),
    ],
)
def test_a_killed_step_can_be_run_again(workplace, entry_point, parameters):
    parameters = SMALL | parameters
    dead = kill_when(workplace, entry_point, parameters, "mlruns/*/*/artifacts/data/splits.csv")
    run = finish(workplace, entry_point, parameters)
    assert_closed(workplace, dead)
    assert run.info.status == "FINISHED"
