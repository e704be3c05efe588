"""What a head begins as: random numbers, or a linear probe of the encoder as it is before anything is trained."""

import logging

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from fracture_mae.config import TrainClassifier
from fracture_mae.data.types import XRays
from fracture_mae.evaluation import frozen_features, linear_probe
from fracture_mae.evaluation.linear_probe import Line
from fracture_mae.evaluation.matching import Matching
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.processes import collectives

logger = logging.getLogger(__name__)
_READ = "read"
_FEWEST = 2
_MOST = 10_000  # files that a line is fitted on; it has some thousand numbers, and is where training begins, not where it ends
_TOO_FEW = (
    "The head begins at random: a linear probe (head_init=probe) chooses its penalty on inner folds, which takes training X-rays of %d "
    "patients or more with each label, and one has %d."
)


def start_from_probe(
    classifier: FractureClassifier,
    train: XRays,
    loss_weight: np.ndarray,
    config: TrainClassifier,
    *,
    accelerator: Accelerator,
    matching: Matching | None = None,
) -> Line | None:
    """Give the head of `classifier` the weights of a logistic regression on what it reads of the training X-rays.

    A random head sends gradients of random directions into a pretrained encoder, which distort what it knows before the head has
    learnt to read it, most of all for X-rays unlike those of the training (Kumar et al., "Fine-Tuning can Distort Pretrained
    Features and Underperform Out-of-Distribution", ICLR 2022). The penalty is chosen on inner folds of whole sources where there
    are enough of them. Classes count the same while it is fitted; the intercept is then moved to the odds under which the head is
    trained.

    Args:
        loss_weight: float64 [n], what each training file weighs in an epoch, however it is drawn.
        matching: of the training files, see `classifier.matched`.

    Returns:
        The line, for the layer-normalised features; None where a label has fewer than two patients, so that no penalty can be chosen:
        then the head stays as it is, and a warning says so.
    """
    fewest = int(train.table.groupby("label")["patient"].nunique().min())
    if fewest < _FEWEST:
        logger.warning(_TOO_FEW, _FEWEST, fewest)
        return None
    line = collectives.from_first(lambda: _probe(classifier, train, config, accelerator, matching))
    negatives, positives = np.bincount(train.label, weights=loss_weight, minlength=2)
    layer = classifier.head
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(line.weight)[None])
        layer.bias.fill_(line.intercept + float(np.log(positives / negatives)))
    return line


def _probe(
    classifier: FractureClassifier,
    train: XRays,
    config: TrainClassifier,
    accelerator: Accelerator,
    matching: Matching | None,
) -> Line:
    weight = np.ones(len(train)) if matching is None else matching.weight
    seen = np.arange(len(train))
    if len(train) > _MOST:
        seen = np.sort(np.random.default_rng(config.seed).choice(len(train), _MOST, replace=False))
    xrays, options = train.subset(seen), {"batch_size": config.batch_size, "accelerator": accelerator}
    found = frozen_features.features(_Reader(classifier), xrays, **options)[_READ]
    return linear_probe.fit(found, xrays.table, seed=config.seed, by_source=True, counts=weight[seen])


class _Reader(nn.Module):
    """What the head of a classifier reads of a whole picture; the head's own weights are no part of it."""

    def __init__(self, classifier: FractureClassifier):
        super().__init__()
        self.encoder, self.norm = classifier.encoder, classifier.norm
        self._features, self._pool = classifier.features, classifier.pool

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {_READ: self.norm(self._features(pixels)).float()}

    def described(self) -> str:
        return f"{self.encoder.described()}, {self._pool}, layer norm"
