"""A classifier that was judged, and the runs that made it, as cards and pages are written from."""

import pandas as pd

from fracture_mae.metrics.decision import Decision
from fracture_mae.stages.model_card.facts import Facts
from fracture_mae.tracking import registry

NAME = registry.CLASSIFIER
DECISION = Decision(("not fractured", "fractured"), threshold=0.47, split_fingerprint="5" * 16)
SOURCES = {
    "source": ["mean of sources", "all, pooled"],
    "auroc": [0.61, 0.7],
    "auroc_low": [0.4, 0.6],
    "auroc_high": [0.8, 0.8],
}
HELD_OUT = pd.DataFrame({"model": "classifier", **SOURCES})
COMPARED = pd.DataFrame(
    {
        "model": ["classifier", "gradient histograms"],
        "estimate": [0.5, 0.58],
        "low": [0.4, 0.5],
        "high": [0.6, 0.7],
        "source": "all",
        "n_groups": 6,
        "n_positive": 3,
        "n_files": 6,
    }
)
DIFFERENCES = pd.DataFrame(
    {"classifier minus": ["gradient histograms"], "estimate": -0.08, "low": -0.2, "high": 0.04, "source": "all"}
)
OF_MAE = {
    "model": "preset vit-mae-nano, random weights",
    "entry_point": "finetune_mae",
    "recipe": "default",
    "data": "films",
}
OF_CLASSIFIER = {"encoder": "models:/xray-mae/1", "entry_point": "train_classifier", "data": "films", "leakage": "0%"}


def facts(loaded, dataset, report):
    return Facts(loaded, dataset, report, "a" * 32, "#/experiments/1/runs/" + "a" * 32)
