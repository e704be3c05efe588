"""Classifiers that never learn what a bone looks like: what a trained network adds over them is its worth."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from skimage.feature import hog
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fracture_mae.data.types import PREDICTED, Dataset, XRays
from fracture_mae.evaluation import properties
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.metrics.scores import equal_group_weight

_HOG_SIZE = 128  # pixels
_N_TREES = 300
_LOWEST, _HIGHEST = 1e-6, 1 - 1e-6

FILE_PROPERTIES = "file and border properties"
GRADIENT_HISTOGRAMS = "gradient histograms"


@dataclass(frozen=True)
class Reference:
    """A classifier without a network.

    Attributes:
        describe: from X-rays, and the name of a progress bar, to features [n, d].
        model: fitted anew by each `fit`.
    """

    describe: Callable[[XRays, str], np.ndarray]
    model: Pipeline


def models(seed: int) -> dict[str, Reference]:
    """The two references that need no network, by their names, not fitted yet."""
    return {
        FILE_PROPERTIES: Reference(_file_properties, forest(seed)),
        GRADIENT_HISTOGRAMS: Reference(gradient_histograms, gradient_classifier()),
    }


def all_models(seed: int, frozen: FrozenNetwork | None = None) -> dict[str, Reference]:
    """All references by their names, with that on frozen features where there is such a network."""
    third = {frozen.title: Reference(frozen.describe, feature_classifier())} if frozen else {}
    return models(seed) | third


def fit_and_predict(
    dataset: Dataset, seed: int, frozen: FrozenNetwork | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Fit the references on training alone, every X-ray weighing the same, and apply them to every split.

    Args:
        frozen: see `all_models`.

    Returns:
        Name of the reference → name of the split → logits [n] of its files.
    """
    train = dataset.train
    logits: dict[str, dict[str, np.ndarray]] = {}
    for name, reference in all_models(seed, frozen).items():
        features = {
            xrays.name: reference.describe(xrays, f"References, {xrays.name}")
            for xrays in (train, dataset.validation, dataset.test)
        }
        model = fit(reference.model, features[train.name], train.label, equal_group_weight(train.group))
        logits[name] = {split: logit(model, values) for split, values in features.items()}
    return logits


def out_of_fold(
    xrays: XRays,
    fold: np.ndarray,
    seed: int,
    frozen: FrozenNetwork | None = None,
    *,
    names: Collection[str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Predictions of the references for X-rays that they were not fitted on.

    Args:
        fold: int64 [n], of each file; all files of an X-ray are in one.
        frozen: see `all_models`.
        names: of the references that are wanted; None: all.

    Returns:
        Name of the reference → a row per file: path, sha256, label, group, patient, source, fold and logit.
    """
    (found,) = in_each_dealing(xrays, [fold], seed, frozen, names=names)
    return found


def in_each_dealing(
    xrays: XRays,
    dealt: Sequence[np.ndarray],
    seed: int,
    frozen: FrozenNetwork | None = None,
    *,
    names: Collection[str] | None = None,
) -> list[dict[str, pd.DataFrame]]:
    """The same for X-rays that were dealt into folds several times; what describes an X-ray is computed once."""
    wanted = {name: each for name, each in all_models(seed, frozen).items() if names is None or name in names}
    features = {name: each.describe(xrays, f"References, {name}") for name, each in wanted.items()}
    return [
        {
            name: xrays.table[PREDICTED].assign(fold=fold, logit=_answers(each.model, features[name], xrays, fold))
            for name, each in wanted.items()
        }
        for fold in dealt
    ]


def _answers(model: Pipeline, features: np.ndarray, xrays: XRays, fold: np.ndarray) -> np.ndarray:
    """Logits [n] of files, each by a model that was fitted on the other folds."""
    weight, answers = equal_group_weight(xrays.group), np.empty(len(xrays))
    for number in range(fold.max() + 1):
        training, held_out = fold != number, fold == number
        fitted = fit(model, features[training], xrays.label[training], weight[training])
        answers[held_out] = logit(fitted, features[held_out])
    return answers


def forest(seed: int) -> Pipeline:
    """What guesses a label from `properties`; in one thread, since several add up their trees in any order."""
    return make_pipeline(RandomForestClassifier(_N_TREES, min_samples_leaf=5, random_state=seed))


def gradient_classifier() -> Pipeline:
    """What guesses a label from `gradient_histograms`."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))


def feature_classifier() -> Pipeline:
    """What guesses a label from frozen features; penalised like `gradient_classifier`, so that the two differ by what they read."""
    return gradient_classifier()


def fit(model: Pipeline, features: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Pipeline:
    """Fit every step of a model with these weights of the files."""
    return model.fit(features, label, **{f"{step}__sample_weight": weight for step in model.named_steps})


def logit(model: Pipeline, features: np.ndarray) -> np.ndarray:
    """Logits [n] of the positive class; even where a forest is sure, they are finite."""
    return _log_odds(model.predict_proba(features)[:, 1])


def bounded(logits: np.ndarray) -> np.ndarray:
    """Logits [n] in the range of `logit`."""
    return logits.clip(_log_odds(0.0), _log_odds(1.0))


def _log_odds(probability: np.ndarray | float) -> np.ndarray:
    clipped = np.clip(probability, _LOWEST, _HIGHEST)
    return np.log(clipped / (1 - clipped))


def gradient_histograms(xrays: XRays, progress: str = "") -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs, CVPR 2005) at 128 × 128 pixels: float32 [n, 1764]."""
    shrunk = (
        cv2.resize(image, (_HOG_SIZE, _HOG_SIZE), interpolation=cv2.INTER_AREA)
        for image in properties.each_image(xrays, progress)
    )
    options = {"orientations": 9, "pixels_per_cell": (16, 16), "cells_per_block": (2, 2)}
    return np.array([hog(image, **options) for image in shrunk], dtype=np.float32)


def _file_properties(xrays: XRays, progress: str) -> np.ndarray:
    return properties.of_files(xrays, progress).to_numpy()
