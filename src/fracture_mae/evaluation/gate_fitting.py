"""The gate of a trained classifier: fitted on its training X-rays, its limit from X-rays that it was not fitted on."""

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC
from tqdm import tqdm

from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.data.synthetic import foreign
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import features, mean_of_squares
from fracture_mae.models import gate
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.gate import Gate
from fracture_mae.models.pixels import to_unit

_FOREIGN_PER_XRAY = 4  # pictures that are no X-rays, for each training X-ray, but at least and at most so many:
_FEWEST_FOREIGN, _MOST_FOREIGN = 200, 1000
_FEWEST = (
    100  # X-rays from which 1 % can be told; with fewer on validation those of training are asked out of fold, too
)
_N_FOLDS = 10
_LEAST_DEVIATION = 1e-3
_CHUNK = 64  # pictures at once


def fit(
    classifier: FractureClassifier,
    own: OwnData,
    train: XRays,
    validation: XRays,
    *,
    batch_size: int,
    accelerator: Accelerator,
) -> Gate:
    """The gate of a classifier.

    Args:
        own: what it keeps of its own data: the gate is fitted on the X-rays whose features are kept there, one file of each.
        train: what it was trained on.
        validation: X-rays of these that are not in training set the limit; where they are fewer than 100, so do those of training, each
            by a gate that was fitted on others.
    """
    options = {"batch_size": batch_size, "accelerator": accelerator}
    kept = train.subset(_positions(train, own.features_of))
    numbers = gate.describe(_squares(kept), own.features, classifier.preprocess)
    n_foreign = int(np.clip(_FOREIGN_PER_XRAY * len(kept), _FEWEST_FOREIGN, _MOST_FOREIGN))
    others = _foreign(classifier, n_foreign, accelerator)
    fitted = _border(numbers, others)
    fresh = one_of_each(validation) if len(validation) else validation
    fresh = fresh.subset(np.flatnonzero(~np.isin(fresh.table["patient"], train.table["patient"])))
    distances, where = np.zeros(0), []
    if len(fresh):
        distances = fitted.distance(described(classifier, fresh, **options))
        where = [f"{len(fresh):,} of validation"]
    if len(fresh) < _FEWEST:
        out_of_fold = _out_of_fold(numbers, others, kept.table["patient"].to_numpy())
        distances = np.append(distances, out_of_fold)
        where += [f"{len(out_of_fold):,} of training, out of fold"]
    return Gate(**(vars(fitted) | {"distances": np.sort(distances), "where": " and ".join(where)}))


def _border(numbers: np.ndarray, others: np.ndarray) -> Gate:
    """Between X-rays and other pictures, [n, parts, d] each, which weigh the same together; no distances yet."""
    d = numbers.shape[2]
    inside, outside = numbers.reshape(-1, d), others.reshape(-1, d)
    centre, scale = inside.mean(axis=0), inside.std(axis=0) + _LEAST_DEVIATION
    values = gate.standardised(np.concatenate([inside, outside]), centre, scale)
    label = np.repeat([1, 0], [len(inside), len(outside)])
    weight = np.where(label == 1, len(label) / len(inside) / 2, len(label) / len(outside) / 2)
    machine = SVC(gamma=1 / (d * float(values.var()))).fit(values, label, sample_weight=weight)
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


def _out_of_fold(numbers: np.ndarray, others: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Distances of X-rays [n, parts, d], each from a border that was fitted without its patient."""
    n_folds = min(_N_FOLDS, len(set(patient)))
    if n_folds < 2:
        return _border(numbers, others).distance(numbers)
    distances = np.empty(len(numbers))
    for rest, held_out in GroupKFold(n_folds).split(numbers, groups=patient):
        distances[held_out] = _border(numbers[rest], others).distance(numbers[held_out])
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


def _positions(xrays: XRays, contents: np.ndarray) -> np.ndarray:
    """Where files of these contents (sha256) stand, the first of each."""
    first = xrays.table.drop_duplicates("sha256").reset_index(names="position").set_index("sha256")
    return first.loc[contents, "position"].to_numpy()
