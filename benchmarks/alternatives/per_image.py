"""Evaluation one by one: a loop over images, and a bootstrap that calls scikit-learn for every metric of every draw."""

import numpy as np
import sklearn.metrics
import torch
from accelerate import Accelerator

from benchmarks import ours
from fracture_mae.data.types import XRays
from fracture_mae.models.classifier import FractureClassifier


@torch.no_grad()
def predict(classifier: FractureClassifier, xrays: XRays, accelerator: Accelerator) -> np.ndarray:
    """Logits float64 [n], an image at a time."""
    classifier.to(accelerator.device).eval()
    logits = []
    for position in range(len(xrays)):
        batch = ours.batch_of(xrays, np.array([position]), accelerator.device)
        with accelerator.autocast():
            logits.append(classifier(batch.pixels).item())
    return np.array(logits)


def bootstrap(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, *, n_draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the metrics at threshold 0.5, by drawing whole X-rays of each class with replacement.

    Args:
        label: 0/1 [n]; probability: [n]; group: [n], equal for the files of one X-ray.
    """
    rng = np.random.default_rng(seed)
    files_of = {name: np.flatnonzero(group == name) for name in np.unique(group)}
    classes = [np.unique(group[label == value]) for value in (0, 1)]
    step_random = []
    for _ in range(n_draws):
        chosen = np.concatenate([rng.choice(names, len(names)) for names in classes])
        rows = np.concatenate([files_of[name] for name in chosen])
        step_random.append(_metrics(label[rows], probability[rows]))
    return {
        name: tuple(float(end) for end in np.quantile([draw[name] for draw in step_random], [0.025, 0.975]))
        for name in step_random[0]
    }


def _metrics(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    decided = (probability >= 0.5).astype(int)
    return {
        "auroc": sklearn.metrics.roc_auc_score(label, probability),
        "average_precision": sklearn.metrics.average_precision_score(label, probability),
        "brier": sklearn.metrics.brier_score_loss(label, probability),
        "log_loss": sklearn.metrics.log_loss(label, probability, labels=[0, 1]),
        "accuracy": sklearn.metrics.accuracy_score(label, decided),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(label, decided),
        "sensitivity": sklearn.metrics.recall_score(label, decided, zero_division=0),
        "specificity": sklearn.metrics.recall_score(label, decided, pos_label=0, zero_division=0),
        "precision": sklearn.metrics.precision_score(label, decided, zero_division=0),
        "negative_predictive_value": sklearn.metrics.precision_score(label, decided, pos_label=0, zero_division=0),
        "f1": sklearn.metrics.f1_score(label, decided, zero_division=0),
        "mcc": sklearn.metrics.matthews_corrcoef(label, decided),
    }
