"""Weights under which labels hang on nothing that is known without the bone, and how well they do it."""

import numpy as np
from numpy.typing import ArrayLike


def overlap_weight(label: ArrayLike, propensity: ArrayLike) -> np.ndarray:
    """Return 1 - propensity for positives and the propensity for negatives, float64 [n].

    Overlap weights (F. Li, K. Morgan and A. Zaslavsky, "Balancing covariates via propensity score weighting", JASA 113, 2018): what
    both labels are equally likely to have counts most, what only one of them has counts nothing. They are bounded: nothing is clipped.

    label: 0/1 [n]; propensity: [n] in [0, 1].
    """
    propensity = np.asarray(propensity, dtype=np.float64)
    return np.where(np.asarray(label) == 1, 1 - propensity, propensity)


def balanced_within(label: ArrayLike, stratum: ArrayLike, weight: ArrayLike) -> np.ndarray:
    """Return weights [n] under which both labels weigh the same in every stratum.

    Of a stratum in which they weigh a and b, each then weighs 2ab / (a + b), their harmonic mean, which is the overlap weighting of
    strata; a stratum of one label weighs nothing.

    label: 0/1 [n]; stratum: [n]; weight: [n], not negative.
    """
    label, weight = np.asarray(label), np.asarray(weight, dtype=np.float64)
    names, codes = np.unique(np.asarray(stratum), return_inverse=True)
    mass = np.array([np.bincount(codes[label == value], weight[label == value], len(names)) for value in (0, 1)])
    both = (mass > 0).all(axis=0)
    share = np.divide(2 * mass[::-1], mass.sum(axis=0), out=np.zeros_like(mass), where=both)  # 2b / (a + b), of a
    return weight * share[label, codes]


def effective_size(weight: ArrayLike) -> float:
    """Return how many equally weighted X-rays would tell as much: (Σw)² / Σw² (L. Kish, "Survey Sampling", 1965); 0 of no weight."""
    weight = np.asarray(weight, dtype=np.float64)
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def standardised_differences(
    values: np.ndarray, label: np.ndarray, weight: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """Return by how many standard deviations positives have more than negatives, for each column of values [n, d]: float64 [d].

    The standard deviation is that of both labels before weighting, so that weights cannot shrink it (P. Austin, "Balance diagnostics",
    Statistics in Medicine 28, 2009; below 0.1 counts as balanced). A column that never varies has 0.

    label: 0/1 [n]; weight: [n], under which means are compared; before: [n], weights before.
    """
    sides = [label == value for value in (1, 0)]
    more, less = (np.average(values[side], axis=0, weights=weight[side]) for side in sides)
    means = [np.average(values[side], axis=0, weights=before[side]) for side in sides]
    variance = [
        np.average((values[side] - mean) ** 2, axis=0, weights=before[side])
        for side, mean in zip(sides, means, strict=True)
    ]
    deviation = np.sqrt(np.mean(variance, axis=0))
    varies = np.ptp(values, axis=0) > 0  # of a constant, rounding alone would make a difference
    return np.divide(more - less, deviation, out=np.zeros(values.shape[1]), where=varies & (deviation > 0))
