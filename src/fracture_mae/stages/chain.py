"""Steps of a chain as MLflow project runs, children of one parent."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from fracture_mae.config import Main
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking.runs import REASON_TAG, Run

PROJECT = Path(__file__).resolve().parents[3]


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

    def run(self, entry_point: str, parameters: Mapping[str, Any]) -> Step:
        """Run an entry point to its end.

        Raises:
            FractureMaeError: the step failed; its own run holds the reason.
        """
        client = MlflowClient()
        experiment_id = client.get_run(self.parent.id).info.experiment_id
        submitted = mlflow.projects.run(
            str(PROJECT),
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


def name_of(config: Main) -> str:
    """A name for the parent that tells chains apart in a list of runs."""
    is_made = config.data_dir.partition(":")[0] == "synthetic"
    data = config.data_dir if is_made else Path(config.data_dir).name
    return f"main ({config.model}, {config.recipe}, {data})"


def summary(mae: Step, judged: Step) -> str:
    """The results of a chain as a table to print."""
    lines = [
        f"{'validation, masked MSE relative to the mean of the visible pixels':<68}"
        f"{mae.metrics['baseline/validation/relative_masked_mse']:.3f} → {mae.metrics['validation/relative_masked_mse']:.3f}",
        "test, each X-ray once:",
    ]
    for name in ("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity"):
        value, low, high = (judged.metrics.get(f"test/xray/{name}{end}", float("nan")) for end in ("", "_low", "_high"))
        lines.append(f"  {name.replace('_', ' '):<66}{value:.3f}  [{low:.3f}, {high:.3f}]")
    for model in ("file_and_border_properties", "gradient_histograms"):
        value = judged.metrics.get(f"test/xray/auroc/all/{model}", float("nan"))
        lines.append(f"  {'auroc of the reference: ' + model.replace('_', ' '):<66}{value:.3f}")
    lines.append(f"shortcut warning: {judged.tags.get('shortcut_warning', 'not tested')}")
    return "\n".join([*lines, f"{judged.tags['classifier']}: {judged.tags['promotion']}"])
