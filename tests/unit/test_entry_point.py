import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

import entrypoints
from fracture_mae.config import Evaluate
from fracture_mae.errors import FractureMaeError


class OutOfMemoryError(RuntimeError):
    """Stands for PyTorch's, which these tests do not import."""


@entrypoints.entry_point(Evaluate)
def command(config):
    if config.data_dir == "crash":
        raise ZeroDivisionError
    if config.data_dir == "large":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
    if config.data_dir != "synthetic":
        raise FractureMaeError(f"--data-dir {config.data_dir}: no X-rays")


MISTAKES = [
    (["--batch_sise", "8"], 2, "No such option '--batch-sise'. Did you mean '--batch-size'?"),
    (["--seed", "x"], 2, "--seed: found 'x', expected a whole number, at least 0, at most 2147483647"),
    (["--data-dir", "/x"], 1, "--data-dir /x: no X-rays"),
    (
        ["--data-dir", "large"],
        1,
        "the memory of the device does not suffice (CUDA out of memory). Take a smaller --batch-size; in training, "
        "--accumulation 2 and --checkpointing true need less of it, too.",
    ),
]


def test_the_config_reaches_the_function():
    result = CliRunner().invoke(command, ["--n_draws", "200"])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(("arguments", "status", "message"), MISTAKES)
def test_mistakes_are_sentences(monkeypatch, arguments, status, message):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == status
    assert result.output.splitlines()[-1] == f"Error: {message}"
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("arguments", "status", "message"), MISTAKES)
def test_mistakes_end_the_run_that_mlflow_made(store, monkeypatch, arguments, status, message):
    run_id = store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert CliRunner().invoke(command, arguments).exit_code == status
    run = store.get_run(run_id)
    assert run.info.status == "FAILED"
    _, _, reason = run.data.tags["failure_reason"].partition(": ")
    assert len(reason) > 20
    assert message.startswith(reason)


def test_bugs_keep_their_traceback():
    assert isinstance(CliRunner().invoke(command, ["--data-dir", "crash"]).exception, ZeroDivisionError)


@pytest.mark.parametrize(("terminal", "expected"), [(True, "shown"), (False, "hidden")])
def test_progress_bars_are_for_terminals(monkeypatch, terminal, expected):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    script = "import entrypoints; from tqdm import tqdm; print('hidden' if tqdm([], leave=False).disable else 'shown')"
    ours, theirs = pty.openpty()
    stderr = theirs if terminal else subprocess.PIPE
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    os.close(ours)
    os.close(theirs)
    assert done.stdout.strip() == expected


def test_a_line_in_a_log_is_there_at_once():
    script = "import entrypoints, os; print('epoch 1'); os._exit(0)"  # ends without writing out what is buffered
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", script], env=buffered, capture_output=True, text=True, check=True)
    assert done.stdout == "epoch 1\n"
