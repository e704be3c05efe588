import errno
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import entrypoints
from fracture_mae.config import Evaluate
from fracture_mae.data.reading.cache_folder import cache_root, shortage
from fracture_mae.errors import FractureMaeError


class OutOfMemoryError(RuntimeError):
    """Stands for PyTorch's, which these tests do not import."""


@entrypoints.entry_point(Evaluate)
def command(config):
    if config.data_dir == "crash":
        raise ZeroDivisionError
    if config.data_dir == "large":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
    if config.data_dir == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
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


def said_by(script, **variables):
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_any_terminal_will_do():
    script = "import entrypoints; from tqdm import tqdm; tqdm.write('0.1 → 0.2'); print('ü'); import matplotlib"
    kernels = "module://matplotlib_inline.backend_inline"
    assert said_by(script, PYTHONIOENCODING="ascii", MPLBACKEND=kernels) == "0.1 ? 0.2\n?\n"


def test_names_of_files_are_read_where_the_terminal_knows_ascii_alone(tmp_path):
    (tmp_path / "entrypoints").symlink_to(Path(entrypoints.__file__).parent)
    command = [sys.executable, "-m", "entrypoints.roll_back", "--version", "ü"]
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, env=os.environ | ascii_alone, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, "found 'ü'" in done.stderr.decode()) == (2, True)


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("1000 requested and 12 written"),
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 48397696 vs 48397588"),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    sqlite3.OperationalError("database or disk is full"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_told_with_the_ways_out(error, tmp_path, monkeypatch):
    told = str(shortage(error))
    assert told.startswith("no room is left to write (")
    assert f"cache ({os.environ['FRACTURE_MAE_CACHE']})" in told
    assert "FRACTURE_MAE_CACHE" in told
    assert "TMPDIR" in told


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_cache_that_may_not_be_written_is_told(number, tmp_path):
    inside = tmp_path / "cache" / "images" / "224.u8"
    told = str(shortage(OSError(number, os.strerror(number), str(inside))))
    assert told.startswith(f"the cache folder {tmp_path}/cache cannot be used: {inside}: ")
    assert "in the variable FRACTURE_MAE_CACHE" in told
    told = str(shortage(OSError(number, os.strerror(number), "/data/x.csv")))
    assert told.startswith("/data/x.csv may not be read or written: ")


def test_any_other_error_is_no_shortage():
    for error in (ValueError("28"), OSError("x"), OSError(errno.ENOENT, "none", "x"), ZeroDivisionError()):
        assert shortage(error) is None


def test_a_command_says_so_in_a_sentence():
    result = CliRunner().invoke(command, ["--data-dir", "full"])
    assert result.exit_code == 1
    assert result.output.startswith(
        "Error: no room is left to write ([Errno 28] No space left on device). Free now: cache"
    )
    assert "Traceback" not in result.output


def test_a_user_without_a_home_is_told(monkeypatch):
    def none(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FRACTURE_MAE_CACHE")
    monkeypatch.setattr(Path, "expanduser", none)
    with pytest.raises(FractureMaeError, match=r"no home.*FRACTURE_MAE_CACHE"):
        cache_root()


def test_a_line_in_a_log_is_there_at_once():
    script = "import entrypoints, os; print('epoch 1'); os._exit(0)"  # ends without writing out what is buffered
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", script], env=buffered, capture_output=True, text=True, check=True)
    assert done.stdout == "epoch 1\n"


def test_what_the_libraries_are_is_not_searched_for_garbage():
    """Neither while they are read nor when the process ends, once all else that is to be done then is done."""
    script = """if True:
        import atexit, gc
        atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 10_000))  # the first is the last to be called
        import entrypoints
        atexit.register(lambda: print(gc.get_freeze_count()))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "10000", "True"]
