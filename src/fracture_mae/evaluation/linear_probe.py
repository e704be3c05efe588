"""How much of a label can be read from features by a straight line: a logistic regression, cross-validated twice over.

The outer folds give every X-ray an answer from a model that never saw it; the inner ones, within the outer training part, choose
the regularisation. All files of an X-ray, and all X-rays of a patient, are in one fold of both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fracture_mae.data import folds, held_out_sources
from fracture_mae.metrics.scores import equal_group_weight

# Inverse strengths of the penalty, the strongest first: it wins a tie.
C_GRID = tuple(float(value) for value in np.logspace(-5, 0, 6))
N_INNER_FOLDS = 4


@dataclass(frozen=True)
class Line:
    """logit = features · weight + intercept.

    Attributes:
        weight: float64 [d]; intercept: of features as they come, not standardised.
        inverse_penalty: C of the logistic regression.
    """

    weight: np.ndarray
    intercept: float
    inverse_penalty: float

    def logit(self, features: np.ndarray) -> np.ndarray:
        """Features [n, d] → [n]."""
        return features @ self.weight + self.intercept


@dataclass(frozen=True)
class Probed:
    """Out-of-fold answers.

    Attributes:
        logit: float64 [n], of each file by the model of the other folds.
        inverse_penalties: the C that was chosen in each outer fold.
    """

    logit: np.ndarray
    inverse_penalties: tuple[float, ...]


def out_of_fold(
    features: np.ndarray,
    table: pd.DataFrame,
    fold: np.ndarray,
    *,
    seed: int,
    by_source: bool = False,
    matched: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Probed:
    """Fit and answer fold by fold; classes weigh the same, and within a class X-rays, so that 1/2 is a fair threshold.

    Args:
        features: [n, d].
        table: columns group, label and patient, in the order of the features; with `by_source` also source.
        fold: [n], of `folds.assign`, or of `held_out_sources.gather`.
        by_source: whether the inner folds, too, are of whole sources where there are enough of them.
        matched: from the positions of training files, int64 [m], to how much each counts besides, float64 [m], such as
            `matching.Matching.weight`; None: the same.
    """
    logit = np.empty(len(table))
    chosen = []
    for number in range(fold.max() + 1):
        training, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        counts = np.ones(len(training)) if matched is None else matched(training)
        line = fit(features[training], table.iloc[training], seed=seed, by_source=by_source, counts=counts)
        logit[held_out] = line.logit(features[held_out])
        chosen.append(line.inverse_penalty)
    return Probed(logit, tuple(chosen))


def fit(
    features: np.ndarray, table: pd.DataFrame, *, seed: int, by_source: bool = False, counts: np.ndarray | None = None
) -> Line:
    """The line of all these files, its penalty chosen on inner folds of them; weighed as in `out_of_fold`.

    Args:
        features: [n, d]; table, by_source: as in `out_of_fold`.
        counts: float64 [n], how much each file counts besides; None: the same.
    """
    counts = np.ones(len(table)) if counts is None else counts
    best = _choose(features, table, counts, seed, by_source)
    *_, line = _path(features, table, balanced_weight(table, counts), C_GRID[: C_GRID.index(best) + 1])
    return line


def balanced_weight(table: pd.DataFrame, counts: np.ndarray | float = 1.0) -> np.ndarray:
    """Weights [n] under which both classes count the same, and within a class all X-rays, times `counts`; they add up to the number
    of X-rays that count.
    """
    weight = equal_group_weight(table["group"]) * counts
    label = table["label"].to_numpy()
    return weight * weight.sum() / 2 / np.bincount(label, weights=weight)[label]


def _choose(features: np.ndarray, table: pd.DataFrame, counts: np.ndarray, seed: int, by_source: bool) -> float:
    """The C with the least log loss on inner folds."""
    n_xrays = table.groupby("label")["patient"].nunique()
    assign = held_out_sources.inner_folds if by_source else folds.assign
    fold = assign(table, int(np.clip(n_xrays.min(), 2, N_INNER_FOLDS)), seed)
    loss = dict.fromkeys(C_GRID, 0.0)
    weight, sign = balanced_weight(table, counts), 1 - 2 * table["label"].to_numpy()
    for number in range(fold.max() + 1):
        training, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not np.bincount(table["label"].iloc[training], counts[training], minlength=2).all():
            continue  # all that counts of a label, such as that of the one source with both, is held out
        fitted_under = balanced_weight(table.iloc[training], counts[training])
        for line in _path(features[training], table.iloc[training], fitted_under, C_GRID):
            error = np.logaddexp(0, sign[held_out] * line.logit(features[held_out]))
            loss[line.inverse_penalty] += float(weight[held_out] @ error)
    return min(loss, key=loss.get)


def _path(
    features: np.ndarray, table: pd.DataFrame, weight: np.ndarray, inverse_penalties: tuple[float, ...]
) -> Iterator[Line]:
    """A line for each C; every fit starts from the one before, which saves most of its time.

    Args:
        weight: [n], of each file.
    """
    scaler = StandardScaler().fit(features, sample_weight=weight)
    standardised, label = scaler.transform(features), table["label"].to_numpy()
    model = LogisticRegression(warm_start=True, max_iter=2000)
    for inverse_penalty in inverse_penalties:
        model.set_params(C=inverse_penalty).fit(standardised, label, sample_weight=weight)
        slope = model.coef_[0].astype(np.float64) / scaler.scale_
        yield Line(slope, float(model.intercept_[0] - scaler.mean_ @ slope), inverse_penalty)
