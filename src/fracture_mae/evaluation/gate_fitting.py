"""The gate of a trained classifier: fitted on its training X-rays, its limit from X-rays that it was not fitted on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC
from tqdm import tqdm

from fracture_mae.data.copies.originals import is_original, one_of_each
from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.data.synthetic import foreign
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.prediction import features, mean_of_squares
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import gate
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.gate import Gate
from fracture_mae.models.pixels import to_unit

_FOREIGN_PER_XRAY = 4  # pictures that are no X-rays, for each training X-ray, but at least and at most so many:
_FEWEST_FOREIGN, _MOST_FOREIGN = 200, 1000
# X-rays from which 1 % can be told; with fewer on validation those of training are asked out of fold, too
_FEWEST = 100
_MOST_COPIES, _MOST_FILES = 3, 1000  # of an X-ray, and in all
_N_FOLDS = 10
_LEAST_DEVIATION = 1e-3
_CHUNK = 64  # pictures at once


def fit(
    classifier: FractureClassifier,
    train: XRays,
    validation: XRays,
    *,
    batch_size: int,
    accelerator: Accelerator,
    seed: int,
) -> Gate:
    """The gate of a classifier.

    Args:
        train: what it was trained on: up to three files of each X-ray, so that what copies are turned and cropped to is known, and
            1,000 in all, which weigh as much as their X-rays.
        validation: X-rays of these that are not in training set the limit; where they are fewer than 100, so do those of training, each
            by a gate that was fitted on others. One file of each counts.
        seed: by which files are drawn where there are too many.
    """
    options = {"batch_size": batch_size, "accelerator": accelerator}
    kept = _some_of_each(train, seed)
    numbers, weight = described(classifier, kept, **options), equal_group_weight(kept.group)
    n_foreign = int(np.clip(_FOREIGN_PER_XRAY * len(set(kept.group)), _FEWEST_FOREIGN, _MOST_FOREIGN))
    others = _foreign(classifier, n_foreign, accelerator)
    fitted = _border(numbers, weight, others)
    fresh = one_of_each(validation) if len(validation) else validation
    fresh = fresh.subset(np.flatnonzero(~np.isin(fresh.table["patient"], train.table["patient"])))
    distances, where = np.zeros(0), []
    if len(fresh):
        distances = fitted.distance(described(classifier, fresh, **options))
        where = [f"{len(fresh):,} of validation"]
    if len(fresh) < _FEWEST:
        out_of_fold = _out_of_fold(numbers, weight, others, kept.table["patient"].to_numpy())
        out_of_fold = out_of_fold[is_original(kept.table)]
        distances = np.append(distances, out_of_fold)
        where += [f"{len(out_of_fold):,} of training, out of fold"]
    return replace(fitted, distances=np.sort(distances), where=" and ".join(where))


def _some_of_each(xrays: XRays, seed: int) -> XRays:
    """Of each X-ray its original and copies, see _MOST_COPIES and _MOST_FILES."""
    order = pd.DataFrame({"copy": ~is_original(xrays.table), "sha256": xrays.table["sha256"], "group": xrays.group})
    taken = order.sort_values(["copy", "sha256"], kind="stable").groupby("group").head(_MOST_COPIES).index.to_numpy()
    return xrays.subset(np.sort(np.random.default_rng(seed).permutation(np.sort(taken))[:_MOST_FILES]))


def _border(numbers: np.ndarray, weight: np.ndarray, others: np.ndarray) -> Gate:
    """Between X-rays [n, parts, d], which weigh `weight` [n], and other pictures [m, parts, d]; both weigh the same together.

    No distances are known yet.
    """
    parts, d = numbers.shape[1:]
    inside, outside = numbers.reshape(-1, d), others.reshape(-1, d)
    centre, scale = inside.mean(axis=0), inside.std(axis=0) + _LEAST_DEVIATION
    values = gate.standardised(np.concatenate([inside, outside]), centre, scale)
    label = np.repeat([1, 0], [len(inside), len(outside)])
    each = np.repeat(weight, parts)
    half = len(label) / 2
    weights = np.append(half * each / each.sum(), np.full(len(outside), half / len(outside)))
    machine = SVC(gamma=1 / (d * float(values.var()))).fit(values, label, sample_weight=weights)
    return Gate(
        centre,
        scale,
        machine.support_vectors_.astype(np.float32),
        machine.dual_coef_[0].astype(np.float32),
        float(machine.intercept_[0]),
        float(machine.gamma),
        np.zeros(0),
        "",
    )


def _out_of_fold(numbers: np.ndarray, weight: np.ndarray, others: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Distances of X-rays [n, parts, d], each from a border that was fitted without its patient."""
    n_folds = min(_N_FOLDS, len(set(patient)))
    if n_folds < 2:
        return _border(numbers, weight, others).distance(numbers)
    distances = np.empty(len(numbers))
    for rest, held_out in GroupKFold(n_folds).split(numbers, groups=patient):
        distances[held_out] = _border(numbers[rest], weight[rest], others).distance(numbers[held_out])
    return distances


def described(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> np.ndarray:
    """What the gate reads of X-ray files, float32 [n, parts, d], see `gate.describe`."""
    seen = features(classifier, xrays, batch_size=batch_size, accelerator=accelerator)
    return gate.describe(_squares(xrays), seen, classifier.preprocess)


@torch.inference_mode()
def _foreign(classifier: FractureClassifier, n: int, accelerator: Accelerator) -> np.ndarray:
    """What the gate reads of n pictures that are no X-rays, [n, parts, d]."""
    found = []
    for start in tqdm(range(0, n, _CHUNK), "Making pictures that are no X-rays", leave=False):
        made = [foreign.picture(number) for number in range(start, min(start + _CHUNK, n))]
        squares = np.stack([preprocess(each, classifier.image_size, classifier.preprocess)[0] for each in made])
        pixels = to_unit(torch.from_numpy(squares.reshape(-1, *squares.shape[2:]))).to(accelerator.device)
        with accelerator.autocast():
            seen = classifier.features(pixels).float().cpu().numpy()
        found.append(gate.describe(squares, mean_of_squares(seen, len(squares)), classifier.preprocess))
    return np.concatenate(found)


def _squares(xrays: XRays) -> np.ndarray:
    """uint8 [n, k, side, side]."""
    squares = xrays.squares()
    pixels = squares.images(np.arange(len(squares)))
    return pixels.reshape(len(xrays), xrays.n_squares, *pixels.shape[1:])
