"""Whether two models differ, told from folds whose models share most of their training X-rays.

Differences of folds are no independent sample: whoever takes them for one calls equal models different far too often. The corrected
resampled t test makes their variance wider by the ratio of held-out to training X-rays (C. Nadeau and Y. Bengio, "Inference for the
generalization error", Machine Learning 52, 2003); folds dealt anew several times make it steadier (R. R. Bouckaert and E. Frank,
"Evaluating the replicability of significance tests for comparing learning algorithms", PAKDD 2004). Dealing the same X-rays again adds
no X-rays, though, so that the degrees of freedom end at those of two dealings, 2 K - 1. With all n - 1 of them, as is usual, equal
models of 48 X-rays were called different in 9 % of simulated cases, with these in 5 % (calibrated, as in R. R. Bouckaert, "Choosing
between two learning algorithms based on calibrated tests", ICML 2003; `python -m benchmarks.coverage optimism`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


class Difference(NamedTuple):
    """A mean difference, its interval, and the probability p, two-sided, of one as far from 0 between models that are equal."""

    estimate: float
    low: float
    high: float
    p: float


def reach(sd: ArrayLike, n: ArrayLike, ratio: float, level: float = 0.95) -> ArrayLike:
    """Return half the width of the interval of a mean over n folds, t · sd · √(1/n + ratio).

    sd: of the folds (divisor n - 1); t: the quantile (1 + level) / 2 of Student's distribution with `degrees` of freedom; ratio: of
    held-out to training X-rays, 1 / (K - 1) of K folds, however often these are dealt anew.
    """
    n = np.asarray(n)
    return stats.t.ppf((1 + level) / 2, degrees(n, ratio)) * sd * np.sqrt(1 / np.maximum(n, 1) + ratio)


def degrees(n: ArrayLike, ratio: float) -> np.ndarray:
    """Return the degrees of freedom of n folds: n - 1, those of two dealings at most and 1 at least."""
    most = np.inf if ratio == 0 else 2 * round(1 + 1 / ratio) - 1
    return np.clip(np.asarray(n) - 1, 1, most)


def difference(differences: ArrayLike, ratio: float, level: float = 0.95) -> Difference:
    """Return the mean of differences [n], one for each fold of each dealing, with its interval and p.

    Undefined differences (NaN) are left out. Where fewer than two are left there is neither interval nor p, nor where all are the same
    but not 0: what never varies says nothing of chance. All 0 are equal models: p is 1.

    ratio: see `reach`.
    """
    defined = np.asarray(differences, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    mean = float(defined.mean()) if defined.size else np.nan
    if defined.size and not defined.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    if defined.size < 2 or np.ptp(defined) == 0:
        return Difference(mean, np.nan, np.nan, np.nan)
    sd = float(defined.std(ddof=1))
    half = float(reach(sd, defined.size, ratio, level))
    t = abs(mean) / (sd * np.sqrt(1 / defined.size + ratio))
    return Difference(mean, mean - half, mean + half, float(2 * stats.t.sf(t, degrees(defined.size, ratio))))


def holm(p: ArrayLike) -> np.ndarray:
    """Return p [n] adjusted for all n comparisons: who calls those below 0.05 different errs in any of them in 5 % of cases at most.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979. NaN stays, and
    counts no comparison.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN is sorted to the end
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted
