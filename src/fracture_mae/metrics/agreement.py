"""Whether probabilities come true: calibration slope, calibration in the large, observed over expected, error, and a smooth curve."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import t as student

from fracture_mae.metrics.arrays import check_scores, number_groups
from fracture_mae.metrics.intervals import resampled

_SURE = 1e-9  # probabilities nearer to 0 or 1 have no log odds that could be computed with
_STEPS, _SETTLED = 40, 1e-6  # of Newton's method, each of at most 1; one that is larger at the end will never settle
MOST_BINS, FEWEST_PER_BIN = 15, 10  # of the calibration error: X-rays, or whatever is drawn as one
SPAN = 0.75  # share of the files that a point of the smooth curve sees, as Austin and Steyerberg take it
_POINTS = 51


def measure(
    label: ArrayLike,
    probability: ArrayLike,
    group: ArrayLike,
    weight: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how far probabilities agree with what came true, each with its interval.

    observed_to_expected: number of fractured over the sum of the probabilities; 1 is right.
    calibration_in_the_large: what must be added to the log odds for both to be equal; 0 is right, below 0 they are too high.
    calibration_slope: by what the log odds must be multiplied, beside an intercept; 1 is right, below 1 they are too sure.
    calibration_error: root of the mean squared distance between probabilities and shares of fractured, without what chance adds, see
    `squared_error`; 0 where chance explains all. It has no interval.

    The intervals are closed forms: estimate ± Student's t times a standard error that holds with files that belong together (the
    sandwich of K. Liang & S. Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73, 1986, the variance
    times G / (G - 1) of G groups, with one degree of freedom less for each coefficient), of the ratio on a logarithmic scale; where all
    or none are fractured, Clopper and Pearson's of their share. benchmarks.coverage has how often they hold the truth; percentiles of
    bootstrap draws do so less often, as draws of few X-rays have steeper slopes.

    label: 0/1 [n]; probability: [n] in [0, 1]; group: [n], equal for files that belong together, such as a patient's; weight: [n].
    Index: metric. Columns: estimate, low, high, n_groups. NaN: what one class alone leaves undefined, the slope where probabilities
    separate the classes or are all the same, and intervals where a class stands in a single group.
    Sources: Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17, 2019; D. Cox, "Two further
    applications of a model for binary regression", Biometrika 45, 1958.
    Raises FractureMaeError for unusable arrays.
    """
    label, probability, weight = check_scores(label, probability, weight)
    member_of = number_groups(label, group)
    n_groups = member_of.max() + 1
    log_odds = logit(np.clip(probability, _SURE, 1 - _SURE))
    ones = np.ones_like(log_odds)
    varies = all(np.unique(member_of[(label == value) & (weight > 0)]).size >= 2 for value in (0, 1))
    large = _logistic(ones[:, None], log_odds, label, weight, member_of)
    slope = _logistic(np.stack([log_odds, ones], axis=1), 0 * log_odds, label, weight, member_of)
    rows = {"observed_to_expected": _ratio(label, probability, weight, member_of, level)}
    for name, (found, error), n_coefficients in (
        ("calibration_in_the_large", large, 1),
        ("calibration_slope", slope, 2),
    ):
        reach = _quantile(level, n_groups - n_coefficients) * error if varies else np.nan
        rows[name] = found, found - reach, found + reach
    error = np.sqrt(max(squared_error(label, probability, member_of, weight), 0.0))
    rows["calibration_error"] = error, np.nan, np.nan
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"], dtype=float)
    return table.rename_axis("metric").assign(n_groups=n_groups)


def squared_error(
    label: np.ndarray, probability: np.ndarray, group: ArrayLike, weight: np.ndarray | None = None
) -> float:
    """Return the mean squared distance between mean probability and share of fractured in bins, without what chance adds.

    Some fractures more or less in a bin leave a distance however right the probabilities are: the naive error of a perfect model on 48
    X-rays is 0.15. The variance of the distance in each bin, from the spread of its X-rays, is taken off its square. What is left has
    about the expectation 0 for a perfect model, and so is below 0 about every second time.

    The bins hold equal weights, `FEWEST_PER_BIN` X-rays or more each, and are `MOST_BINS` at most; equal probabilities share one.

    Arrays as in `measure`, already checked.
    Sources: Kumar, Liang & Ma, "Verified uncertainty calibration", NeurIPS 2019, section 4 (the debiased estimator), here with the
    variance of groups; J. Bröcker, "Estimating reliability and resolution of probability forecasts", Climate Dynamics 39, 2012.
    """
    weight = np.ones(label.size) if weight is None else weight
    member_of = number_groups(label, group)
    n_bins = int(np.clip((member_of.max() + 1) // FEWEST_PER_BIN, 1, MOST_BINS))
    in_bin = equal_bins(probability, weight, n_bins)
    gap, total = weight * (probability - label), np.bincount(in_bin, weight, n_bins)
    mean = np.divide(np.bincount(in_bin, gap, n_bins), total, out=np.zeros(n_bins), where=total > 0)
    codes, cell = np.unique(in_bin * (member_of.max() + 1) + member_of, return_inverse=True)
    of_cell = codes // (member_of.max() + 1)  # the bin of the files of one group that lie in it
    away = np.bincount(cell, gap - weight * mean[in_bin])
    n_cells = np.bincount(of_cell, minlength=n_bins)
    chance = np.bincount(of_cell, away**2, n_bins) * n_cells / np.maximum(n_cells - 1, 1)
    # Of a bin of one group chance is not known, and is taken for all there is.
    squared = np.where(n_cells > 1, mean**2 - np.divide(chance, total**2, out=np.zeros(n_bins), where=total > 0), 0)
    return float(total @ squared / total.sum())


def equal_bins(probability: np.ndarray, weight: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the bin of each file, int64 [n], of bins that hold about equal weights; equal probabilities share one."""
    _, rank = np.unique(probability, return_inverse=True)
    there = np.bincount(rank, weight)
    middle = (np.cumsum(there) - there / 2) / there.sum()
    return np.minimum((n_bins * middle).astype(np.int64), n_bins - 1)[rank]


def smooth_curve(
    label: ArrayLike,
    probability: ArrayLike,
    group: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the share of fractured as a smooth function of the probability, with a pointwise band from draws of whole groups.

    A straight line is fitted at each point to the nearest `SPAN` of the files, the nearer the more (loess, W. Cleveland, "Robust
    locally weighted regression", JASA 74, 1979, without the robust part). A line bends no straight truth: of right probabilities it is
    the diagonal in expectation.

    Columns: probability, rising from the least to the greatest that occurs; share; low, high.
    Arrays as in `measure`. Source: Austin & Steyerberg, "Graphical assessment of internal and external calibration of logistic
    regression models by using loess smoothers", Statistics in Medicine 33, 2014.
    """
    label, probability, weight = check_scores(label, probability, weight)
    at = np.unique(np.linspace(probability.min(), probability.max(), _POINTS))
    line = _loess(label, probability, at, weight)
    share = line(weight)
    # How many of a draw are fractured is left to chance, as it was for these.
    draws = resampled(np.zeros_like(label), group, n_draws=n_draws, seed=seed)
    found = np.concatenate([line(drawn * weight) for drawn in draws]) if n_draws else np.full((1, at.size), np.nan)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0) if n_draws else found[[0, 0]]
    return pd.DataFrame({"probability": at, "share": share, "low": low, "high": high})


def _loess(
    label: np.ndarray, probability: np.ndarray, at: np.ndarray, weight: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes of weights [..., n] the share of fractured [..., k] at k probabilities; which files are near is settled."""
    away = probability - at[:, None]  # [k, n]
    order = np.argsort(np.abs(away), axis=1)
    seen = np.cumsum(weight[order], axis=1) >= SPAN * weight.sum()
    farthest = np.take_along_axis(order, seen.argmax(axis=1)[:, None], axis=1)
    reach = np.maximum(np.abs(np.take_along_axis(away, farthest, axis=1)), 1e-6)
    near = (1 - np.minimum(np.abs(away) / (1.0001 * reach), 1) ** 3) ** 3
    step = away / reach
    moments = [(near * values).T for values in (np.ones_like(step), step, step**2, label, step * label)]  # [n, k]

    def share(weights: np.ndarray) -> np.ndarray:
        mass, first, second, positive, leaning = (weights @ moment for moment in moments)
        spread = mass * second - first**2
        with np.errstate(invalid="ignore", divide="ignore"):
            line = (second * positive - first * leaning) / spread
            return np.clip(np.where(spread > 1e-6 * mass**2, line, positive / mass), 0, 1)

    return share


def _ratio(
    label: np.ndarray, probability: np.ndarray, weight: np.ndarray, member_of: np.ndarray, level: float
) -> tuple[float, float, float]:
    """Observed over expected with its ends: of a ratio of two sums over groups, on a logarithmic scale."""
    expected, observed, n_groups = weight @ probability, weight @ label, member_of.max() + 1
    if expected == 0:
        return np.nan, np.nan, np.nan
    ratio = observed / expected
    if observed in (0, weight.sum()):
        bound = ((1 - level) / 2) ** (1 / n_groups)  # Clopper and Pearson's, of all; of none it is 1 minus that
        other = bound * ratio if observed else (1 - bound) * weight.sum() / expected
        return ratio, min(ratio, other), max(ratio, other)
    away = np.bincount(member_of, weight * (label - ratio * probability))
    error = np.sqrt(away @ away * n_groups / max(n_groups - 1, 1)) / observed  # of its logarithm
    reach = np.exp(_quantile(level, n_groups - 1) * error)
    return ratio, ratio / reach, ratio * reach


def _logistic(
    columns: np.ndarray, offset: np.ndarray, label: np.ndarray, weight: np.ndarray, member_of: np.ndarray
) -> tuple[float, float]:
    """Return the first coefficient of label on columns [n, k], beside a fixed offset [n], and its standard error.

    By Newton's method; NaN where it does not converge, as where the columns separate the labels, and where there is nothing to solve
    for. scikit-learn's knows no offset and no errors.
    """
    nothing = np.nan, np.nan
    total, n_groups = weight @ label, member_of.max() + 1
    if not 0 < total < weight.sum() or (columns.shape[1] > 1 and not np.ptp(columns[weight > 0, 0])):
        return nothing
    coefficients = np.zeros(columns.shape[1])
    for _ in range(_STEPS):
        fitted = expit(columns @ coefficients + offset)
        scores = columns * (weight * (label - fitted))[:, None]
        curvature = columns.T @ (columns * (weight * fitted * (1 - fitted))[:, None])
        step = np.linalg.lstsq(curvature, scores.sum(axis=0))[0]
        coefficients = coefficients + step.clip(-1, 1)
        if np.abs(step).max() < _SETTLED:
            break
    else:
        return nothing
    of_group = np.stack([np.bincount(member_of, column) for column in scores.T], axis=1)
    first = np.linalg.lstsq(curvature, np.eye(len(coefficients))[0])[0]  # of the inverse
    variance = ((of_group @ first) ** 2).sum() * n_groups / max(n_groups - 1, 1)
    return float(coefficients[0]), float(np.sqrt(variance))


def _quantile(level: float, freedom: int) -> float:
    return float(student.ppf((1 + level) / 2, freedom)) if freedom > 0 else np.nan
