"""The thread from real X-rays to a judged classifier, each step as a user starts it."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.evaluation.prediction import mean_of_squares
from fracture_mae.models import classifier, gate
from fracture_mae.models.gate import Gate
from fracture_mae.models.pixels import to_unit
from tests import foreign
from tests.real_xrays import start

pytestmark = [pytest.mark.data, pytest.mark.slow]


def folder_of(workplace: Path, trained: mlflow.entities.Run) -> Path:
    """Where the classifier that a run has registered lies."""
    client = mlflow.MlflowClient(f"sqlite:///{workplace / 'mlflow.db'}")
    _, name, version = trained.data.tags["registered"].split("/")
    model = client.get_logged_model(client.get_model_version(name, version).source.removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "network"


def shares_refused(folder: Path) -> dict[str, float]:
    """Kind of foreign pictures → share that a classifier's gate refuses."""
    network, _ = classifier.load(folder)
    made = Gate.load(folder)
    kinds = foreign.kinds()
    shares = {}
    for kind, pictures in kinds.items():
        squares = np.stack([preprocess(each, network.image_size, network.preprocess)[0] for each in pictures])
        with torch.inference_mode():
            seen = network.features(to_unit(torch.from_numpy(squares.reshape(-1, *squares.shape[2:])))).numpy()
        described = gate.describe(squares, mean_of_squares(seen, len(squares)), network.preprocess)
        shares[kind] = float((~made.accepts(made.distance(described))).mean())
    return shares


def test_from_xrays_to_a_judged_classifier(real_workplace):
    size = (
        "--image-size",
        "64",
        "--preprocess",
        "letterbox",
    )  # a third of the time of the default, which other tests look at
    tuned = start(real_workplace, "finetune_mae", "--model", "vit-mae-nano", *size, "--epochs", "8")
    metrics = tuned.data.metrics
    assert metrics["validation/masked_mse"] < 0.8 * metrics["baseline/validation/masked_mse"]
    assert metrics["validation/relative_masked_mse"] < 0.9  # better than the mean of the visible pixels
    assert tuned.data.tags["leakage"] == "0%"

    trained = start(real_workplace, "train_classifier", "--epochs", "2")
    assert trained.data.tags["encoder.split"] == "the same"

    judged = start(real_workplace, "evaluate", "--n-draws", "200")
    assert {
        "test/xray/auroc",
        "test/image/auroc",
        "test/xray/auroc_low",
        "test/xray/auroc/all/gradient_histograms",
    } <= set(judged.data.metrics)
    low, shortcut = (
        judged.data.metrics[f"test/xray/{name}"] for name in ("auroc_low", "auroc/all/file_and_border_properties")
    )
    assert judged.data.tags["promotion"].startswith("promoted to champion") == (low > max(0.5, shortcut))
    folder = Path(
        mlflow.artifacts.download_artifacts(
            judged.info.artifact_uri, tracking_uri=f"sqlite:///{real_workplace / 'mlflow.db'}"
        )
    )
    # Of 64 pixels and two epochs; docs/evaluation.md tells what a gate at 128 pixels refuses.
    assert (
        judged.data.metrics["test/refused_share"] <= 0.1
    )  # 1 % is promised on average, and rotated copies come together
    refused = shares_refused(folder_of(real_workplace, trained))
    assert refused["blank"] >= 0.8
    assert sum(refused.values()) >= 0.8 * len(refused), refused
    confusion = json.loads((folder / "test/xray/confusion_matrix.json").read_text())
    assert sum(map(sum, confusion["matrix"])) == judged.data.metrics["test/n_xrays"]
