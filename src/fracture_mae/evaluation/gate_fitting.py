"""The gate of a trained classifier: fitted on its training X-rays, its limit from X-rays that it was not fitted on."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from sklearn.metrics.pairwise import rbf_kernel
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

_FOREIGN_PER_XRAY = 3  # pictures that are no X-rays, for each training X-ray, but at least and at most so many:
_FEWEST_FOREIGN, _MOST_FOREIGN = 150, 600
# X-rays from which 1 % can be told; with fewer on validation those of training are asked out of fold, too
_FEWEST = 100
_MOST_COPIES, _MOST_FILES = 3, 1000  # of an X-ray, and in all
_N_FOLDS = 5
# The first with which X-rays that it was not fitted on are not like nothing known: of few, a sharp kernel says that of all others.
_SHARPNESS = (1.0, 0.3, 0.1)
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
    fresh = one_of_each(validation) if len(validation) else validation
    fresh = fresh.subset(np.flatnonzero(~np.isin(fresh.table["patient"], train.table["patient"])))
    unseen = described(classifier, fresh, **options) if len(fresh) else numbers[:0]
    counted = is_original(kept.table) if len(fresh) < _FEWEST else np.zeros(len(kept), bool)
    where = {"of validation": len(fresh), "of training, out of fold": counted.sum()}
    told = " and ".join(f"{n:,} {words}" for words, n in where.items() if n)
    for sharpness in _SHARPNESS:
        known = _Known.of(numbers, weight, others, sharpness)
        fitted = known.gate()
        distances = fitted.distance(unseen)
        if counted.any():
            distances = np.append(distances, known.out_of_fold(kept.table["patient"].to_numpy())[counted])
        fitted = replace(fitted, distances=np.sort(distances), where=told)
        if fitted.knows_the_unknown:
            break
    return fitted


def _some_of_each(xrays: XRays, seed: int) -> XRays:
    """Of each X-ray its original and copies, see _MOST_COPIES and _MOST_FILES."""
    order = pd.DataFrame({"copy": ~is_original(xrays.table), "sha256": xrays.table["sha256"], "group": xrays.group})
    taken = order.sort_values(["copy", "sha256"], kind="stable").groupby("group").head(_MOST_COPIES).index.to_numpy()
    return xrays.subset(np.sort(np.random.default_rng(seed).permutation(np.sort(taken))[:_MOST_FILES]))


@dataclass(frozen=True)
class _Known:
    """Pictures that borders are drawn between, and how near each part of one is to each of another.

    Attributes:
        centre, scale: [d], of the X-rays.
        values: [(n + m) · parts, d], in deviations from the centre: parts of n X-rays, then of m other pictures.
        near: [(n + m) · parts, (n + m) · parts], the kernel, worked out once for all borders.
        gamma: of the kernel.
        weight: [n], of each X-ray.
        parts: of each picture.
    """

    centre: np.ndarray
    scale: np.ndarray
    values: np.ndarray
    near: np.ndarray
    gamma: float
    weight: np.ndarray
    parts: int

    @classmethod
    def of(cls, numbers: np.ndarray, weight: np.ndarray, others: np.ndarray, sharpness: float = 1.0) -> "_Known":
        """From what the gate reads of X-rays [n, parts, d], which weigh `weight` [n], and of other pictures [m, parts, d].

        sharpness: of the kernel, beside that which the spread of the numbers asks for.
        """
        parts, d = numbers.shape[1:]
        inside, outside = numbers.reshape(-1, d), others.reshape(-1, d)
        centre, scale = inside.mean(axis=0), inside.std(axis=0) + _LEAST_DEVIATION
        values = gate.standardised(np.concatenate([inside, outside]), centre, scale)
        gamma = sharpness / (d * float(values.var()))
        return cls(centre, scale, values, rbf_kernel(values, gamma=gamma), gamma, weight, parts)

    def gate(self) -> Gate:
        """That of all X-rays; no distances are known yet."""
        machine, rows = self._border(np.arange(len(self.weight)))
        return Gate(
            self.centre,
            self.scale,
            self.values[rows].astype(np.float32),
            machine.dual_coef_[0].astype(np.float32),
            float(machine.intercept_[0]),
            self.gamma,
            np.zeros(0),
            "",
        )

    def out_of_fold(self, patient: np.ndarray) -> np.ndarray:
        """Distances of the X-rays, float64 [n], each from a border that was drawn without its patient."""
        n_folds = min(_N_FOLDS, len(set(patient)))
        everyone = np.arange(len(self.weight))
        folds = [(everyone, everyone)] if n_folds < 2 else GroupKFold(n_folds).split(everyone, groups=patient)
        distances = np.empty(len(self.weight))
        for rest, held_out in folds:
            machine, rows = self._border(rest)
            beyond = self.near[np.ix_(self._rows(held_out), rows)] @ machine.dual_coef_[0] + machine.intercept_[0]
            distances[held_out] = -beyond.reshape(-1, self.parts).mean(axis=1)
        return distances

    def _border(self, xrays: np.ndarray) -> tuple[SVC, np.ndarray]:
        """Between some of the X-rays and all other pictures, which together weigh the same; and the rows that decide where it runs."""
        own, others = self._rows(xrays), np.arange(len(self.weight) * self.parts, len(self.values))
        rows = np.append(own, others)
        label = np.repeat([1, 0], [len(own), len(others)])
        each, half = np.repeat(self.weight[xrays], self.parts), len(rows) / 2
        weights = np.append(half * each / each.sum(), np.full(len(others), half / len(others)))
        machine = SVC(kernel="precomputed").fit(self.near[np.ix_(rows, rows)], label, sample_weight=weights)
        return machine, rows[machine.support_]

    def _rows(self, pictures: np.ndarray) -> np.ndarray:
        return (pictures[:, None] * self.parts + np.arange(self.parts)).ravel()


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
