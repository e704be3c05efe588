"""Two processes with a thread each against one with two threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import ours
from benchmarks.results import Outcome, Result, Skipped
from benchmarks.workload import Workload
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.tracking import runs
from fracture_mae.tracking.stores import sqlite_uri

KEY, NAME = "processes", "two processes against one"
_EPOCHS = 2  # the second is measured: what happens once is over by then


def processes(workload: Workload) -> Outcome:
    """Both train the same X-rays as `finetune_mae`, started as a user would."""
    obstacle = _obstacle(workload)
    if obstacle:
        return Outcome([Skipped(KEY, NAME, obstacle)])
    folder = workload.temporary()
    network, xrays = folder / "network", folder / "xrays.csv"
    mae_model.save(workload.mae, network)
    _split_file(workload).to_csv(xrays, index=False)
    command = finetuning_command(workload, network, xrays)
    with runs.temporary_store(folder):
        found = workload.measure(
            {
                "ours": lambda: images_per_second([*command, "--nproc", "2"], folder, threads=1),
                "alternative": lambda: images_per_second(command, folder, threads=2),
            },
            warm_up=False,
        )
    result = Result(
        KEY,
        NAME,
        "--nproc 2 with a thread each · one process with two threads",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar(0.9),
    )
    return Outcome([result])


def _obstacle(workload: Workload) -> str:
    """Why it cannot be measured here; empty if it can."""
    if workload.device.type != "cpu":
        return "it is measured on processors alone"
    if (os.cpu_count() or 1) < 2:
        return "there is one core"
    if not (ours.project_folder() / "entrypoints").is_dir():
        return f"there are no entry points in {ours.project_folder()}"
    return ""


def finetuning_command(workload: Workload, network: Path, xrays: Path) -> list[str]:
    """The command that fine-tunes the model in a folder on the X-rays in a CSV."""
    config = workload.config
    options = {
        "data-dir": xrays,
        "positive-label": config.positive_label,
        "split": "published",
        "group-by": "column",
        "model": network,
        "image-size": workload.mae.image_size,
        "epochs": _EPOCHS,
        "batch-size": config.batch_size,
        "precision": config.precision,
        "device": "cpu",
        "resume": "never",
        "n-figures": 0,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "entrypoints.finetune_mae", *words]


def images_per_second(command: list[str], folder: Path, threads: int) -> float:
    """Run a fine-tuning to its end; the training speed of its last epoch, data loading included.

    Args:
        folder: of the temporary store that is tracked in.
        threads: of each process.

    Raises:
        FractureMaeError: it failed.
    """
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
    }
    environment = inherited | {
        "MLFLOW_TRACKING_URI": sqlite_uri(folder / "mlflow.db"),
        "MLFLOW_EXPERIMENT_NAME": runs.EXPERIMENT,
        "OMP_NUM_THREADS": str(threads),
        "TQDM_DISABLE": "1",
    }
    done = subprocess.run(
        command, cwd=ours.project_folder(), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise FractureMaeError(
            f"fine-tuning in a process of its own failed: {reason} The command was: {' '.join(command)}"
        )
    curves = max(folder.rglob("learning_curves.csv"), key=lambda file: file.stat().st_mtime_ns)
    return float(pd.read_csv(curves)["train/images_per_second"].iloc[-1])


def _split_file(workload: Workload) -> pd.DataFrame:
    """The X-rays as a CSV that `data_dir` takes; of those for validation, half are for test."""
    dataset = workload.dataset
    validation = dataset.validation.table
    half = np.arange(len(validation)) < len(validation) // 2
    parts = {"train": dataset.train.table, "validation": validation[half], "test": validation[~half]}
    table = pd.concat([part.assign(split=name) for name, part in parts.items()])
    return table[["path", "label_name", "group", "split"]].rename(columns={"label_name": "label"})
