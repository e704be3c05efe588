"""A copy of the project in which commands run as a user types them, with a store and a cache of their own."""

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from fracture_mae.tracking.warm_processes import Forked, become
from tests.lighter import FOREIGN, TREES, undrawn

PROJECT = Path(__file__).resolve().parents[1]
DATA = "synthetic:n_xrays=60,size=96"
# Digits are compared, so nothing hangs on what the processor can do; threads are set in each workplace.
SMALL = {"data_dir": DATA, "image_size": "32", "precision": "fp32", "device": "cpu"}

_FIT_GATES = ("entrypoints.train_classifier", "entrypoints.tune")
_GROW_TREES = ("entrypoints.audit_data", "entrypoints.compare", "entrypoints.evaluate", "entrypoints.train_classifier")
# A process that has read the libraries, ten seconds' work, and forks another for each command.
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(["tests.libraries"])


def _heed_interrupts() -> None:
    """A shell starts what runs in the background deaf to Ctrl-C, and so would everything below it be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@cache
def empty_database() -> Path:
    """MLflow's, made once, because its tables take seconds."""
    folder = Path(tempfile.mkdtemp(prefix="fracture-mae-database-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.chdir(folder):
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@cache
def searched_xrays() -> Path:
    """A cache that holds the X-rays of DATA and which of them are copies, made once, because the search takes seconds.

    Squares, hashes and all else a command makes for itself.
    """
    from fracture_mae.data import loading

    folder = Path(tempfile.mkdtemp(prefix="fracture-mae-xrays-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(folder / "all"))
        loading.load(DATA, image_size=32)
    kept = folder / "cache"
    kept.mkdir()
    for part in (*folder.glob("all/synthetic"), *folder.glob("all/links-*")):
        part.rename(kept / part.name)
    return kept


class Workplace:
    """The files that `mlflow run` needs, in a folder that git knows nothing of.

    Args:
        draws: whether figures are drawn where no `mlflow run` is asked for, see `lighter`.
    """

    def __init__(self, root: Path, *, draws: bool = False):
        self.root, self.draws = root, draws
        # Without bytecode every command would compile the copy of the project anew.
        left_out = ("MLFLOW_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self.environment = inherited | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "FRACTURE_MAE_CACHE": str(root / "cache"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def create(self, *, database: bool = True, searched: bool = False) -> "Workplace":
        """Copy the files.

        database: whether there is one of MLflow's already, empty; else the first command makes it.
        searched: whether the X-rays of DATA are there already, and searched for copies; else the first command does that.
        """
        self.root.mkdir()
        if database:
            shutil.copy(empty_database(), self.root)
        if searched:
            shutil.copytree(searched_xrays(), self.root / "cache")
        for name in ("MLproject", "conda.yaml"):
            shutil.copy2(PROJECT / name, self.root)
        for name in ("entrypoints", "benchmarks", "src/fracture_mae"):
            shutil.copytree(PROJECT / name, self.root / name)
        return self

    @property
    def store(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.root}/mlflow.db")

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment, the oldest first."""
        found = self.store.get_experiment_by_name(experiment)
        return self.store.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])

    def mlflow(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
        """Run `mlflow ARGUMENTS` to its end."""
        return self._run(["mlflow", *arguments], cwd)

    def python(self, entry_point: str, **parameters: object) -> subprocess.CompletedProcess:
        """Run `python -m entrypoints.ENTRY_POINT --PARAMETER VALUE …` to its end, in a process that need not read the libraries."""
        command = command_of(entry_point, parameters)
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder, "stdout"), Path(folder, "stderr")
            returncode = self._fork(command, outputs).wait()
            return subprocess.CompletedProcess(command, returncode, *(each.read_text() for each in outputs))

    def start_python(self, entry_point: str, **parameters: object) -> Forked:
        """The same, but only started; all that it says in output.txt."""
        output = self.root / "output.txt"
        output.unlink(missing_ok=True)
        return self._fork(command_of(entry_point, parameters), [output, output])

    def start(self, command: list[str], **options: object) -> subprocess.Popen:
        """Start a command in a process group of its own, its output in output.txt."""
        with open(self.root / "output.txt", "w") as output:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
                **options,
            )

    def _fork(self, command: list[str], outputs: Sequence[Path]) -> Forked:
        return fork(command, self.root, self.environment, outputs, draws=self.draws)

    def _run(self, command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True, check=False
        )


def fork(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], outputs: Sequence[Path], *, draws: bool = True
) -> Forked:
    """Start `PYTHON -m MODULE …` of the project in `cwd`, stdout and stderr in files, in a process that need not read the libraries."""
    return Forked(_WARM.Process(target=_run_module, args=(command[2:], cwd, environment, outputs, draws)))


def _run_module(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], outputs: Sequence[Path], draws: bool
) -> None:
    """Become `python -m MODULE …` of the project in `cwd`, with these variables and outputs."""
    for stream, file in zip((sys.stdout, sys.stderr), outputs, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    for name in [each for each in sys.modules if each.partition(".")[0] == "fracture_mae"]:
        del sys.modules[name]  # MLflow has read it, as its plugin, from where it is installed
    module, *arguments = arguments
    sys.path[:0] = [str(cwd), str(cwd / "src")]
    sys.dont_write_bytecode = False  # the next command in this workplace need not compile it again
    if not draws:
        import_module("fracture_mae.plots").png = undrawn
        if module in _FIT_GATES:
            fitting = import_module("fracture_mae.evaluation.gate_fitting")
            fitting._FEWEST_FOREIGN = fitting._MOST_FOREIGN = FOREIGN
        if module in _GROW_TREES:
            import_module("fracture_mae.evaluation.references")._N_TREES = TREES
    become(module, arguments, cwd, environment)


def command_of(entry_point: str, parameters: dict[str, object]) -> list[str]:
    options = [word for name, value in parameters.items() for word in ("--" + name.replace("_", "-"), str(value))]
    return [sys.executable, "-m", f"entrypoints.{entry_point}", *options]


def given(parameters: dict[str, object]) -> list[str]:
    """`-P NAME=VALUE` for `mlflow run`."""
    return [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]


def wait_until(holds: Callable[[], object], process: subprocess.Popen | Forked, seconds: float = 300) -> None:
    """Wait while `process` runs, until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, f"ended with {process.returncode} before it came to that"
        assert time.monotonic() < end, f"did not come to that within {seconds} s"
        time.sleep(0.02)
