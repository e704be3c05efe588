"""Steps of a chain as MLflow project runs, children of one parent."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.projects.backend import loader

from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking.plugin import install_backend, put_on_path
from fracture_mae.tracking.runs import REASON_TAG, Run

PROJECT = Path(__file__).resolve().parents[3]


@contextmanager
def _address_of(project: Path) -> Iterator[str]:
    """A folder as MLflow takes it: behind a `#` it would look for a part of a git repository, so that a link stands for such a one."""
    if "#" not in str(project):
        yield str(project)
        return
    with TemporaryDirectory() as folder:
        link = Path(folder, project.name.replace("#", "-"))
        link.symlink_to(project, target_is_directory=True)
        yield str(link)


@dataclass(frozen=True)
class Step:
    """A finished step: its MLflow run's tags and last metrics."""

    tags: dict[str, str]
    metrics: dict[str, float]

    @property
    def registered(self) -> str:
        """URI of the model version that the step registered."""
        return self.tags["registered"]


class Chain:
    """Runs entry points of this project one after the other, below the active run.

    Args:
        parent: the active run.
        env_manager: MLflow's environment manager for the steps.
    """

    def __init__(self, parent: Run, env_manager: str):
        self.parent = parent
        self.env_manager = env_manager
        install_backend(loader)  # which MLflow's own environments lack, where this project is not installed

    def run(self, entry_point: str, parameters: Mapping[str, Any]) -> Step:
        """Run an entry point to its end.

        Raises:
            FractureMaeError: the step failed; its own run holds the reason.
        """
        client = MlflowClient()
        experiment_id = client.get_run(self.parent.id).info.experiment_id
        put_on_path(Path(sys.executable).parent)  # where `mlflow` is, also if this environment was not activated
        with _address_of(PROJECT) as project:
            submitted = mlflow.projects.run(
                project,
                entry_point,
                parameters=dict(parameters),
                experiment_id=experiment_id,
                env_manager=self.env_manager,
                run_name=entry_point,
                synchronous=False,
            )
            try:
                finished = submitted.wait()
            except BaseException:  # MLflow runs a step in a session of its own, which Ctrl-C and SIGTERM do not reach
                submitted.cancel()
                raise
        data = client.get_run(submitted.run_id).data
        if not finished:
            reason = data.tags.get(REASON_TAG, "see its output above")
            raise FractureMaeError(f"the step {entry_point} failed (run {submitted.run_id}): {reason}")
        return Step(data.tags, data.metrics)
