"""Processes of one training: what starts them, what becomes of them when one dies, and what is said then."""

import json
import os
import re
import signal
import textwrap
import time

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import launching, ranks

SPEAKING = """
    import json, os, sys
    names = ["RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "FRACTURE_MAE_LEADER", "MLFLOW_RUN_ID"]
    open(f"{sys.argv[1]}/{os.environ['RANK']}.json", "w").write(json.dumps({name: os.environ.get(name) for name in names}))
"""
DYING = """
    import os, signal, sys, time
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    open(f"{sys.argv[1]}/waits", "w").close()
    time.sleep(60)
"""


def start(script, folder, n=2, **environment):
    file = folder / "script.py"
    file.write_text(textwrap.dedent(script))
    launching.start([str(file), str(folder)], n, environment)


def test_ranks_are_numbered_and_share_the_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before, handlers = dict(os.environ), [signal.getsignal(number) for number in launching._SIGNALS]
    start(SPEAKING, tmp_path, n=3, MLFLOW_RUN_ID="abc")
    expected = {
        "WORLD_SIZE": "3",
        "OMP_NUM_THREADS": "2",
        "FRACTURE_MAE_LEADER": str(os.getpid()),
        "MLFLOW_RUN_ID": "abc",
    }
    for rank in range(3):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"RANK": str(rank)} | expected
    left = {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}
    assert left == {name: value for name, value in before.items() if not name.startswith("TORCH")}
    assert [signal.getsignal(number) for number in launching._SIGNALS] == handlers


def test_if_one_is_killed_the_others_are_ended(tmp_path, capfd):
    started = time.monotonic()
    with pytest.raises(
        FractureMaeError, match=r"^rank 1 of 2 was ended by SIGKILL, as happens where memory runs out; .*"
    ):
        start(DYING, tmp_path)
    assert time.monotonic() - started < 50  # the other one would have slept for a minute
    assert capfd.readouterr().err == ""


def failure(tmp_path, number, exitcode, said=None):
    """As torchrun describes a rank that has ended; `said` is what it reported itself."""
    file = tmp_path / f"{number}.json"
    if said is not None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(ranks.ERROR_FILE, str(file))
            ranks.report(*said[:2], follows=said[2])
    return ProcessFailure(local_rank=number, pid=1000 + number, exitcode=exitcode, error_file=str(file))


LOST = (RuntimeError("Connection closed by peer"), "", True)
BUG = (ZeroDivisionError("division by zero"), "", False)
MISTAKE = (FractureMaeError("the loss became nan."), "the loss became nan.", False)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([(0, 1, LOST), (1, -9, None)], "rank 1 of 2 was ended by SIGKILL"),
        ([(1, -9, None), (0, -15, None)], "rank 1 of 2 was ended by SIGKILL"),
        ([(1, -11, None), (0, 1, LOST)], "rank 1 of 2 was ended by SIGSEGV; the others"),
        ([(0, 1, MISTAKE), (1, 1, MISTAKE)], "the loss became nan."),
        ([(1, 1, LOST), (0, 1, MISTAKE)], "the loss became nan."),
        ([(1, 1, BUG), (0, -9, None)], r"rank 1 of 2 failed \(ZeroDivisionError: division by zero\); the others"),
        ([(0, 1, LOST), (1, 1, BUG)], r"rank 1 of 2 failed \(ZeroDivisionError"),
        ([(0, 1, LOST), (1, 1, LOST)], r"rank 0 of 2 failed \(RuntimeError: Connection closed by peer\)"),
        ([(1, 3, None), (0, -15, None)], r"rank 1 of 2 failed \(exit status 3\)"),
    ],
)
def test_the_cause_is_told_and_not_what_followed(tmp_path, ended, expected):
    failures = {number: failure(tmp_path, number, exitcode, said) for number, exitcode, said in ended}
    assert re.match(expected, launching.what_happened(failures, 2))
