"""The real X-rays, laid out for tests and searched for copies once for all of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from fracture_mae.data import loading
from tests.workplace import PROJECT


def listing(source: Path) -> pd.DataFrame:
    """A row for each published file: its `image`, `label`, `published_name` and more."""
    return pd.read_csv(source / "listing.csv")


def contents(source: Path) -> pd.DataFrame:
    """The first row of each content; its place is its name in `nameless`."""
    return listing(source).drop_duplicates("image").reset_index(drop=True)


def prepare(source: Path, root: Path) -> None:
    """Make folders `published`, `nameless` and `cache` below `root`.

    In `nameless` each content stands once, called 0001.jpg, 0002.png, …; by these names, which tell nothing, they are searched for
    copies, and as links are remembered by the contents, all else that takes this cache goes by what was found so.
    """
    command = [sys.executable, source / "materialise.py", root / "published"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for row in contents(source).itertuples():
        file = root / "nameless" / row.label / f"{row.Index:04}{Path(row.image).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "images" / row.image, file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(root / "cache"))
        loading.load(str(root / "nameless"), image_size=32)


def start(workplace: Path, entry_point: str, *options: str) -> mlflow.entities.Run:
    """Run an entry point on the real X-rays; its finished MLflow run."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{workplace / 'mlflow.db'}",
        "FRACTURE_MAE_CACHE": str(workplace / "cache"),
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, "-m", f"entrypoints.{entry_point}", "--data-dir", str(workplace / "xrays"), *options]
    done = subprocess.run(command, env=environment, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("fracture-mae")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1)[0]
