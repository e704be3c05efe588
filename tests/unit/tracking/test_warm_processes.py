"""Commands that are forks of one process, started in a Python of their own: a fork server is there once for each."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fracture_mae.tracking import warm_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
SRC = Path(warm_processes.__file__).parents[2]
LIBRARY = """
import os, pathlib
with open("read.txt", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
# Says what a command sees of itself, and ends as told.
COMMAND = """
import json, os, signal, sys, time
import library
ignored = [each.name for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_IGN]
seen = {"name": __name__, "argv": sys.argv[1:], "file": os.path.basename(sys.argv[0]), "cwd": os.getcwd(),
        "leads": os.getsid(0) == os.getpid(), "variable": os.environ.get("NAMED"), "gone": os.environ.get("GONE"),
        "pid": os.getpid(), "parent": os.getppid(), "ignored": ignored}
print(json.dumps(seen), flush=True)
if "wait" in sys.argv:
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""
STARTING = """
import json, os
from pathlib import Path
from fracture_mae.tracking import warm_processes
if __name__ == "__main__":
    warm_processes._LIBRARIES[:] = ["library"]
    os.environ["GONE"] = "1"
    warm_processes.start()
    del os.environ["GONE"]
"""


@pytest.fixture
def python(tmp_path):
    """Start a script beside which there are a library and a command, in a session of its own."""
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "elsewhere").mkdir()

    def start(script, **options):
        # As from a terminal: who starts tests may itself be deaf to Ctrl-C.
        (tmp_path / "script.py").write_text(STARTING + textwrap.indent(script, "    "))
        environment = os.environ | {"PYTHONPATH": f"{SRC}:{tmp_path}"}
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} | options
        return subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **heard,
        )

    return start


def answers(process):
    said, errors = process.communicate(timeout=60)
    assert errors == ""
    return [json.loads(line) for line in said.splitlines()]


def test_libraries_are_read_once_and_each_command_is_a_process_of_its_own(python, tmp_path):
    process = python("""
for ending in (0, 3):
    command = warm_processes.run("command", [str(ending), "a 'b c"], Path("elsewhere"), {"NAMED": "x"})
    print([command.wait(), command.poll(), command.pid])
""")
    first, first_end, second, second_end = answers(process)
    (reader,) = (tmp_path / "read.txt").read_text().split()
    assert {first["parent"], second["parent"]} == {int(reader)}
    assert first_end == [0, 0, first["pid"]]
    assert second_end == [3, 3, second["pid"]]
    assert (first["name"], first["file"], first["argv"]) == ("__main__", "command.py", ["0", "a 'b c"])
    assert first["cwd"] == str(tmp_path / "elsewhere")
    assert (first["variable"], first["gone"]) == (
        "x",
        None,
    )  # what is set when it begins, not when the libraries were read
    assert first["leads"]
    under_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert first["ignored"] == (["SIGHUP"] if under_nohup else [])


def test_what_does_not_end_the_starter_does_not_end_a_command(python):
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    (seen,) = answers(python('warm_processes.run("command", ["0"], Path("."), {}).wait()', **ignoring))
    assert "SIGHUP" in seen["ignored"]
    assert "SIGTERM" not in seen["ignored"]


def test_ctrl_c_is_the_starters_to_act_on(python, tmp_path):
    process = python("""
command = warm_processes.run("command", ["0", "wait"], Path("."), {})
try:
    command.wait()
except KeyboardInterrupt:
    print(json.dumps([command.wait(timeout=0.2), command.terminate(), command.wait()]), flush=True)
""")
    seen = json.loads(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of the foreground's processes
    ((before, _, after),) = answers(process)
    assert before is None  # it runs on
    assert after == -signal.SIGTERM
    assert not Path("/proc", str(seen["pid"])).exists()


def test_ctrl_c_while_libraries_are_read_shows_nothing_and_starts_nothing(python, tmp_path):
    (tmp_path / "library.py").write_text("import time\nopen('reading', 'w')\ntime.sleep(2)")
    process = python("""
try:
    warm_processes.run("command", ["0"], Path("."), {})
except KeyboardInterrupt:
    print("[130]")
""")
    end = time.monotonic() + 30
    while not (tmp_path / "reading").exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert answers(process) == [[130]]


def test_nothing_is_left_behind_where_the_starter_is_killed(python, tmp_path):
    process = python("""
warm_processes.run("command", ["0"], Path("."), {}).wait()
import time
time.sleep(60)
""")
    process.stdout.readline()
    process.kill()
    said, _ = process.communicate(timeout=30)  # returns when no process has its outputs open any more
    assert said == ""


def test_elsewhere_than_on_linux_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(warm_processes.sys, "platform", "darwin")
    warm_processes.start()
    assert not warm_processes.started()


def test_reading_the_libraries_does_not_begin_cuda():
    """A process that has begun it cannot be forked: CUDA fails in every fork."""
    asked = """
import torch
asked = []
for name in ("is_available", "device_count", "current_device", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name))
import fracture_mae.tracking.libraries
assert not asked, asked
"""
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=120)
