"""What a training has to show."""

import pandas as pd

from fracture_mae import plots
from fracture_mae.tracking.report import Report
from fracture_mae.training.schedule import Progress


def report(progress: Progress) -> Report:
    """The learning curves, the kept epoch and its metrics, how steps were computed, and which runs this one went on from."""
    history = pd.DataFrame(progress.history).rename_axis("epoch").reset_index()
    history["epoch"] += 1
    tags = {f"step.{name}": value for name, value in progress.computed_by.items()}
    if len(progress.run_ids) > 1:
        tags["resumed_from"] = ", ".join(progress.run_ids[:-1])
    return Report(
        metrics={f"kept/{name}": value for name, value in progress.kept.items()} | {"kept/epoch": progress.kept_epoch},
        tables={"learning_curves.csv": history},
        figures={"learning_curves.png": plots.learning_curves(history, progress.kept_epoch)},
        tags=tags,
    )
