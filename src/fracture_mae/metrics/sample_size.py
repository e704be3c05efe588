"""How much more certain figures would be with more X-rays, and how likely a gain would be seen.

Standard errors fall with the square root of the number of X-rays, as long as further ones come from where these come from.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from fracture_mae.metrics.arrays import check_label, check_vector, number_groups

LEVEL = 0.95


def ends_at(estimate: float, low: float, high: float, times: float) -> tuple[float, float]:
    """Return the interval of a metric in [0, 1] that so many times as many X-rays would leave, if they gave the same estimate.

    Both sides shrink with the square root; of an estimate of 0 or 1 the bound is that of the exact interval, p^(1/n), at n · times.
    NaN where there is no interval.
    """
    if estimate == 1:
        return low ** (1 / times), 1.0
    if estimate == 0:
        return 0.0, 1 - (1 - high) ** (1 / times)
    shrink = 1 / np.sqrt(times)
    return estimate - (estimate - low) * shrink, estimate + (high - estimate) * shrink


def auroc_variance(auroc: float, n_positive: float, n_negative: float) -> float:
    """Return the variance of an AUROC of independent X-rays.

    Source: J. Hanley and B. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143, 1982, with their exponential distributions, which err on the safe side for most others.
    """
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (n_positive - 1) * (q1 - auroc**2) + (n_negative - 1) * (q2 - auroc**2)
    return spread / (n_positive * n_negative)


def auroc_correlation(label: ArrayLike, first: ArrayLike, second: ArrayLike, group: ArrayLike) -> float:
    """Return how far the AUROCs of two scores of the same X-rays would rise and fall together, were other X-rays drawn.

    Source: E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44, 1988; over clusters: N. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
    Biometrics 53, 1997.

    label: 0/1 [n], both there; first, second: [n], of any scale; group: [n], equal for what is drawn together. NaN where one of them
    does not vary, such as one that never errs.
    """
    label = check_label(label, np.asarray(label).size)
    member_of = number_groups(label, group)
    parts = [np.bincount(member_of, _influence(label, check_vector(scores, "score"))) for scores in (first, second)]
    spread = [np.sum(part**2) for part in parts]
    return float(parts[0] @ parts[1] / np.sqrt(spread[0] * spread[1])) if min(spread) > 0 else np.nan


def _influence(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return by how much each X-ray moves the AUROC, [n]: its placement among the other class less the AUROC, over its class's size."""
    placement = np.empty(label.size)
    ranks = rankdata(score)
    for value in (0, 1):
        own, other = label == value, label != value
        below = (ranks[own] - rankdata(score[own])) / other.sum()
        placement[own] = below if value else 1 - below
    auroc = placement[label == 1].mean()
    return (placement - auroc) / np.where(label == 1, label.sum(), (1 - label).sum())


def difference_error(
    auroc: float, error: float, gain: float, n_positive: int, n_negative: int, correlation: float
) -> float:
    """Return the standard error of the difference to a classifier whose AUROC, on the same X-rays, is higher by `gain`.

    That one's variance is to this one's as `auroc_variance` says of both, so that it knows of patients with several X-rays.
    Source: J. Hanley and B. McNeil, "A method of comparing the areas under receiver operating characteristic curves derived from the
    same cases", Radiology 148, 1983.

    error: standard error of `auroc`.
    """
    ratio = auroc_variance(auroc + gain, n_positive, n_negative) / auroc_variance(auroc, n_positive, n_negative)
    other = error * np.sqrt(ratio)
    return float(np.sqrt(error**2 + other**2 - 2 * correlation * error * other))


def power(gain: float, error: float) -> float:
    """Return how likely a gain is told from none, two-sided at 5 %, where its difference has this standard error.

    Source: N. Obuchowski and D. McClish, "Sample size determination for diagnostic accuracy studies involving binormal ROC curve
    indices", Statistics in Medicine 16, 1997.
    """
    return float(norm.sf(_quantile() - gain / error))


def times_needed(gain: float, error: float, wanted: float = 0.8) -> float:
    """Return how many times as many X-rays it takes to see a gain with the wanted power."""
    return float(((_quantile() + norm.ppf(wanted)) * error / gain) ** 2)


def error_of(low: float, high: float) -> float:
    """Return the standard error that an interval comes to."""
    return (high - low) / (2 * _quantile())


def _quantile() -> float:
    return norm.isf((1 - LEVEL) / 2)
