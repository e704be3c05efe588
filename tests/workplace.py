"""A copy of the project in which commands run as a user types them, with a store and a cache of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

PROJECT = Path(__file__).resolve().parents[1]
DATA = "synthetic:n_xrays=60,size=96"
# Digits are compared, so nothing hangs on what the processor can do; threads are set in each workplace.
SMALL = {"data_dir": DATA, "image_size": "32", "precision": "fp32", "device": "cpu"}


def _heed_interrupts() -> None:
    """A shell starts what runs in the background deaf to Ctrl-C, and so would everything below it be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Workplace:
    """The files that `mlflow run` needs, in a folder that git knows nothing of."""

    def __init__(self, root: Path):
        self.root = root
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_"))}
        self.environment = inherited | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "FRACTURE_MAE_CACHE": str(root / "cache"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def create(self) -> "Workplace":
        self.root.mkdir()
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
        """Run `python -m entrypoints.ENTRY_POINT --PARAMETER VALUE …` to its end."""
        return self._run(command_of(entry_point, parameters))

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

    def _run(self, command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True, check=False
        )


def command_of(entry_point: str, parameters: dict[str, object]) -> list[str]:
    options = [word for name, value in parameters.items() for word in ("--" + name.replace("_", "-"), str(value))]
    return [sys.executable, "-m", f"entrypoints.{entry_point}", *options]


def given(parameters: dict[str, object]) -> list[str]:
    """`-P NAME=VALUE` for `mlflow run`."""
    return [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]


def wait_until(holds: Callable[[], object], process: subprocess.Popen, seconds: float = 300) -> None:
    """Wait while `process` runs, until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, f"ended with {process.returncode} before it came to that"
        assert time.monotonic() < end, f"did not come to that within {seconds} s"
        time.sleep(0.02)
