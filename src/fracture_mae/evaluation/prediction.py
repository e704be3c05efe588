"""Logits of a classifier for X-rays."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from fracture_mae.config import CopyOptions, DataOptions
from fracture_mae.data.copies.originals import is_original
from fracture_mae.data.types import PREDICTED, XRays
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import explanation
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.processes import collectives
from fracture_mae.training.batches import in_batches, to_device

ANSWERS = "answers.precision"  # tag of what `settle_arithmetic` says
SAME = 1e-3  # probabilities that differ by less are the same


def predict(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> pd.DataFrame:
    """One row per file: path, sha256, label, group, patient, source and float64 logit; above 0 means the positive class.

    Where a file became several squares, its logit is the mean of theirs. Several processes share the files, and each gets the whole
    table.
    """
    told = f"Classifying {xrays.name}"
    (logit,) = _asked(lambda pixels: (classifier(pixels),), classifier, xrays, told, batch_size, accelerator)
    return _table(xrays, logit)


def predict_with_maps(
    classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator
) -> tuple[pd.DataFrame, np.ndarray]:
    """As `predict`, and the maps of each of a file's k squares, see `explanation.maps`: float32 [n, k, rows, columns]."""
    told = f"Maps of {xrays.name}"
    logit, maps = _asked(
        lambda pixels: explanation.maps(classifier, pixels), classifier, xrays, told, batch_size, accelerator
    )
    return _table(xrays, logit), maps.reshape(len(xrays), -1, *maps.shape[1:])


@torch.inference_mode()
def _asked(
    ask: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    classifier: FractureClassifier,
    xrays: XRays,
    told: str,
    batch_size: int,
    accelerator: Accelerator,
) -> list[np.ndarray]:
    """What comes of all squares of the files, asked in batches: of each answer [n · k, …]."""
    to_device(classifier, accelerator.device).eval()
    own = xrays.subset(collectives.share(len(xrays))).squares()
    parts = []
    for batch in in_batches(own, batch_size, accelerator.device, told):
        with accelerator.autocast():
            parts.append([answer.cpu().numpy() for answer in ask(batch.pixels)])
    return [np.concatenate(part) for part in zip(*chain.from_iterable(collectives.gather(parts)), strict=True)]


def _table(xrays: XRays, logit: np.ndarray) -> pd.DataFrame:
    """Predictions from the logits of all squares."""
    return xrays.table[PREDICTED].assign(logit=logit.astype(np.float64).reshape(len(xrays), -1).mean(axis=1))


@torch.inference_mode()
def features(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> np.ndarray:
    """What the classifier's head reads: pooled features, float32 [n, hidden size], the mean over a file's squares. For one process."""
    to_device(classifier, accelerator.device).eval()
    found = []
    for batch in in_batches(xrays.squares(), batch_size, accelerator.device, f"Features, {xrays.name}"):
        with accelerator.autocast():
            found.append(classifier.features(batch.pixels).float().cpu().numpy())
    return mean_of_squares(np.concatenate(found), len(xrays))


def settle_arithmetic(
    classifier: FractureClassifier,
    decision: Decision,
    xrays: XRays,
    config: DataOptions,
    accelerator: Accelerator,
    exact: pd.DataFrame | None = None,
) -> str:
    """Let a classifier that is trained answer in bf16 only where that is asked for, or changes no probability by `SAME` or more.

    Args:
        decision: what makes its logits probabilities.
        xrays: on which that is tried.
        exact: its answers for these in fp32, see `predict`, where they are known already.

    Returns:
        In which arithmetic it answers from now on, and why.
    """
    classifier.bf16 = config.precision == "bf16"
    if accelerator.mixed_precision != "bf16" or classifier.bf16:
        return "bf16, asked for" if classifier.bf16 else "fp32"
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    exact = predict(classifier, xrays, **options) if exact is None else exact
    classifier.bf16 = True
    rounded = predict(classifier, xrays, **options)
    probabilities = [decision.probability(answers["logit"]) for answers in (exact, rounded)]
    change = float(np.abs(np.subtract(*probabilities)).max())
    classifier.bf16 = change < SAME
    if classifier.bf16:
        return f"bf16, which changes no probability of {len(xrays):,} {xrays.name} files by more than {change:.2g}"
    return f"fp32: bf16 changes a probability of {len(xrays):,} {xrays.name} files by {change:.2g}"


def mean_of_squares(features: np.ndarray, n: int) -> np.ndarray:
    """Features of all squares of n files [n · k, d], those of a file in a row → of each file [n, d]."""
    return features.reshape(n, -1, features.shape[-1]).mean(axis=1)


def weighed(predictions: pd.DataFrame, xrays: XRays, config: CopyOptions) -> pd.DataFrame:
    """Predictions for `xrays` with what each file counts; as they are where all count the same."""
    if (config.weight_by, config.copies) == ("file", "all"):
        return predictions
    return predictions.assign(weight=table_weight(xrays, config.weight_by, config.copies))


def table_weight(xrays: XRays, weight_by: str, copies: str) -> np.ndarray:
    """Weight of each file in tables per file: float64 [n], 0 for a copy that is left out.

    Args:
        weight_by: "file": each file 1; "group": each of an X-ray's n files 1/n.
        copies: "all", or "one": the original of each X-ray alone, see `is_original`.
    """
    counts = is_original(xrays.table) if copies == "one" else np.ones(len(xrays), dtype=bool)
    weight = np.zeros(len(xrays))
    weight[counts] = equal_group_weight(xrays.group[counts]) if weight_by == "group" else 1.0
    return weight
