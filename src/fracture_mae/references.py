"""Two classifiers that never learn what a bone looks like: what a network adds over them is its worth."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from skimage.feature import hog
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from fracture_mae.data import Dataset, XRays
from fracture_mae.metrics import equal_group_weight

_HOG_SIZE = 128  # pixels
_LOWEST, _HIGHEST = 1e-6, 1 - 1e-6

FILE_PROPERTIES = "file and border properties"
GRADIENT_HISTOGRAMS = "gradient histograms"


def fit_and_predict(dataset: Dataset, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Fit both references on training alone, every X-ray weighing the same, and apply them to every split.

    Returns:
        Name of the reference → name of the split → logits [n] of its files.
    """
    models = {
        FILE_PROPERTIES: (
            file_properties,
            make_pipeline(RandomForestClassifier(300, min_samples_leaf=5, random_state=seed, n_jobs=-1)),
        ),
        GRADIENT_HISTOGRAMS: (
            gradient_histograms,
            make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000)),
        ),
    }
    return {name: _predict_splits(dataset, describe, model) for name, (describe, model) in models.items()}


def file_properties(xrays: XRays) -> np.ndarray:
    """What a file tells without its bone: float64 [n, 9].

    Columns: bytes, height, width, aspect ratio, bytes per pixel; mean and standard deviation of the picture's outermost
    pixels, darkness of its corners, and share of black pixels in it (bars that letterboxing added are left out).
    """
    table = xrays.table
    height, width = table["height"].to_numpy(float), table["width"].to_numpy(float)
    size = table["bytes"].to_numpy(float)
    stated = np.column_stack([size, height, width, width / height, size / (height * width)])
    borders = [
        _border(_without_bars(image, h, w)) for image, h, w in zip(_each_image(xrays), height, width, strict=True)
    ]
    return np.column_stack([stated, np.array(borders)])


def gradient_histograms(xrays: XRays) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs, CVPR 2005) at 128 × 128 pixels: float32 [n, 1764]."""
    shrunk = (cv2.resize(image, (_HOG_SIZE, _HOG_SIZE), interpolation=cv2.INTER_AREA) for image in _each_image(xrays))
    options = {"orientations": 9, "pixels_per_cell": (16, 16), "cells_per_block": (2, 2)}
    return np.array([hog(image, **options) for image in shrunk], dtype=np.float32)


def _predict_splits(
    dataset: Dataset, describe: Callable[[XRays], np.ndarray], model: Pipeline
) -> dict[str, np.ndarray]:
    train = dataset.train
    weight = {f"{step}__sample_weight": equal_group_weight(train.group) for step in model.named_steps}
    features = {xrays.name: describe(xrays) for xrays in (train, dataset.validation, dataset.test)}
    model.fit(features[train.name], train.label, **weight)
    return {name: _logit(model.predict_proba(values)[:, 1]) for name, values in features.items()}


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = probability.clip(_LOWEST, _HIGHEST)
    return np.log(clipped / (1 - clipped))


def _each_image(xrays: XRays) -> Iterator[np.ndarray]:
    for position in tqdm(range(len(xrays)), desc=f"References, {xrays.name}", unit="X-ray", leave=False):
        yield xrays.images(np.array([position]))[0]


def _without_bars(image: np.ndarray, height: float, width: float) -> np.ndarray:
    """The picture itself inside its letterbox."""
    size = len(image)
    rows, columns = (max(1, round(size * side / max(height, width))) for side in (height, width))
    top, left = (size - rows) // 2, (size - columns) // 2
    return image[top : top + rows, left : left + columns]


def _border(picture: np.ndarray) -> tuple[float, float, float, float]:
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]) / 255
    corner = max(1, min(picture.shape) // 10)
    corners = [picture[rows, columns].mean() for rows in _ends(corner) for columns in _ends(corner)]
    return edge.mean(), edge.std(), float(np.mean(corners)) / 255, float((picture < 8).mean())


def _ends(n: int) -> tuple[slice, slice]:
    return slice(None, n), slice(-n, None)
