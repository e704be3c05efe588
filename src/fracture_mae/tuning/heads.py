"""Heads on the features of a frozen encoder, fitted by scikit-learn and put into a classifier that serves."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier

from fracture_mae.models.classifier import FractureClassifier

HIDDEN = 16  # width of the hidden layer of an "mlp" head
_LAYER_NORM_EPSILON = 1e-5  # PyTorch's own
# Enough for a head to be judged by: what the last digits of a loss would need takes ten times as long.
_ITERATIONS, _TOLERANCE = 60, 1e-3


@dataclass(frozen=True)
class Head:
    """From layer-normed features to a logit: standardised, then one linear layer, or two with ReLU between them.

    Attributes:
        mean, std: of the features [d].
        layers: weight [out, in] and bias [out] of each.
    """

    mean: np.ndarray
    std: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def logit(self, normed: np.ndarray) -> np.ndarray:
        """Features [n, d] as `layer_normed` gives them → float64 [n]; positive means fractured."""
        values = (normed - self.mean) / self.std
        *hidden, (weight, bias) = self.layers
        for inner_weight, inner_bias in hidden:
            values = np.maximum(values @ inner_weight.T + inner_bias, 0)
        return (values @ weight.T + bias)[:, 0]

    @property
    def hidden(self) -> int:
        """Width of the hidden layer, or 0."""
        return len(self.layers[0][1]) if len(self.layers) > 1 else 0

    @torch.no_grad()
    def install(self, classifier: FractureClassifier) -> None:
        """Become the layer norm and the head of `classifier`, which has to have the same `hidden`.

        The standardisation is the scale and shift of the layer norm, so the classifier answers just what `logit` does.
        """
        classifier.norm.weight.copy_(_tensor(1 / self.std))
        classifier.norm.bias.copy_(_tensor(-self.mean / self.std))
        for layer, (weight, bias) in zip(classifier.linear_layers, self.layers, strict=True):
            layer.weight.copy_(_tensor(weight))
            layer.bias.copy_(_tensor(bias))


def layer_normed(features: np.ndarray) -> np.ndarray:
    """Features [n, d], each row with mean 0 and variance 1, as PyTorch's LayerNorm makes them: float64."""
    features = features.astype(np.float64)
    centred = features - features.mean(axis=1, keepdims=True)
    return centred / np.sqrt(centred.var(axis=1, keepdims=True) + _LAYER_NORM_EPSILON)


def fit(normed: np.ndarray, label: np.ndarray, weight: np.ndarray, params: Mapping[str, Any], *, seed: int = 0) -> Head:
    """Fit a head.

    Args:
        normed: features [n, d] as `layer_normed` gives them.
        label: 0/1 [n]; weight: [n], such as `metrics.equal_group_weight`.
        params: head ("logistic", "ridge" or "mlp"), regularisation (λ of mean loss + λ/2 · |w|²), class_weight (of a fractured
            X-ray beside 1).
        seed: of the first weights of an "mlp".
    """
    mean = np.average(normed, axis=0, weights=weight)
    std = np.sqrt(np.average((normed - mean) ** 2, axis=0, weights=weight)) + 1e-6
    weighted = weight * np.where(label == 1, params["class_weight"], 1.0)
    weighted *= len(label) / weighted.sum()  # so that λ means the same whatever the class weight
    standardised = ((normed - mean) / std).astype(np.float32)  # an "mlp" is fitted twice as fast in float32
    fitted = _estimator(params, len(label), seed)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        fitted.fit(standardised, label, sample_weight=weighted)
    if params["head"] == "mlp":
        layers = tuple((weight.T, bias) for weight, bias in zip(fitted.coefs_, fitted.intercepts_, strict=True))
    else:
        layers = ((np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)),)
    return Head(mean, std, layers)


def _estimator(params: Mapping[str, Any], n: int, seed: int) -> LogisticRegression | RidgeClassifier | MLPClassifier:
    """What fits a head to n files; scikit-learn counts the penalty against the sum of losses, hence the n."""
    strength = params["regularisation"] * n
    match params["head"]:
        case "logistic":
            return LogisticRegression(C=1 / strength, max_iter=5 * _ITERATIONS, tol=_TOLERANCE)
        case "ridge":  # least squares to ±1
            return RidgeClassifier(alpha=strength / 2, solver="cholesky")
    return MLPClassifier(
        (HIDDEN,), solver="lbfgs", alpha=strength, max_iter=_ITERATIONS // 3, tol=_TOLERANCE, random_state=seed
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
