"""Processes that are killed outright: the next run works, closes the dead one, and training goes on where it was."""

import signal

import psutil
import pytest

from tests.workplace import SMALL, Workplace, wait_until

pytestmark = pytest.mark.slow
EPOCHS = 6


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("killed") / "project").create(searched=True)


def kill_when(workplace, entry_point, parameters, sign):
    """Start an entry point, kill it and all its helpers and steps once there is a new file or folder `sign`; its run."""
    before = set(workplace.root.glob(sign))
    process = workplace.start_python(entry_point, **parameters)
    wait_until(lambda: set(workplace.root.glob(sign)) - before, process)
    for part in [*psutil.Process(process.pid).children(recursive=True), process]:  # steps have sessions of their own
        part.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run = last_run(workplace, entry_point)
    assert run.info.status == "RUNNING"
    return run


def finish(workplace, entry_point, parameters):
    done = workplace.python(entry_point, **parameters)
    assert done.returncode == 0, done.stderr
    return last_run(workplace, entry_point)


def last_run(workplace, entry_point):
    return [run for run in workplace.runs("fracture-mae") if run.data.tags.get("entry_point") == entry_point][-1]


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


def test_a_killed_evaluation_can_be_run_again(workplace):
    parameters = SMALL | {"references": False, "n_draws": 100}
    dead = kill_when(workplace, "evaluate", parameters, "mlruns/*/*/artifacts/data/splits.csv")
    run = finish(workplace, "evaluate", parameters)
    assert_closed(workplace, dead)
    assert run.info.status == "FINISHED"


def test_what_a_killed_chain_had_trained_is_gone_on_with(workplace):
    training = {"model": "vit-mae-nano", "seed": 1}
    dead = kill_when(workplace, "main", SMALL | training | {"mae_epochs": EPOCHS}, "cache/checkpoints/*/epoch-000002")
    dead_step = last_run(workplace, "finetune_mae")
    run = finish(workplace, "finetune_mae", SMALL | training | {"epochs": EPOCHS, "n_figures": 2})
    assert_closed(workplace, dead)
    assert_closed(workplace, dead_step)
    assert (run.info.status, run.data.tags["resumed_from"]) == ("FINISHED", dead_step.info.run_id)
