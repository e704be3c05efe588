"""A threshold that does not hang on a few X-rays: the mean of what is best in many bootstrap draws.

The best threshold on some dozens of X-rays is an extreme of noise: one X-ray more or less moves it past several others. Its mean over
bootstrap draws is far steadier (Breiman, "Bagging predictors", Machine Learning 24, 1996). The median of the draws is less so, and to
maximise the mean score of all draws is no help at all, since that is the score of the X-rays themselves. A threshold from two fitted
normal distributions would be steadier still, and is far off where scores are skewed. docs/evaluation.md has the figures.
"""

import numpy as np
from numpy.typing import ArrayLike

from fracture_mae.metrics import thresholds
from fracture_mae.metrics.arrays import check_scores
from fracture_mae.metrics.intervals import resampled
from fracture_mae.metrics.thresholds import TIE, Counts, Objective, candidates

N_DRAWS = 500
_CONSTRAINED = "specificity_at_sensitivity"


def choose(
    label: ArrayLike,
    probability: ArrayLike,
    objective: Objective,
    group: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    **options: float,
) -> float:
    """Return the mean, over bootstrap draws, of the threshold that is best by `objective` in the draw.

    A draw takes whole groups, with a positive file and without as many as there are, as for intervals. In each, the lowest of equally
    good thresholds is taken. Where the objective demands a sensitivity, the mean is lowered as far as the X-rays themselves need.
    Where another threshold would find more of the fractures on these X-rays at no more false alarms, or raise fewer at no more missed
    fractures, one from the nearest gap where none does is taken instead of the mean.

    label: 0/1 [n]; probability: [n] in [0, 1]; group: [n], equal for the files that are drawn together, such as a patient's;
    weight: [n]; n_draws: 0 chooses on the X-rays as they are; options: as in `thresholds.choose`.

    Raises FractureMaeError for unusable arrays, a missing class, an unknown objective or options out of range.
    """
    plain = thresholds.choose(label, probability, objective, weight=weight, **options)
    label, probability, weight = check_scores(label, probability, weight)
    draws = resampled(label, group, n_draws=n_draws, seed=seed)
    best = [found for drawn in draws for found in _best_of_each(label, probability, objective, drawn * weight, options)]
    mean = float(np.mean(best)) if best else plain
    return not_dominated(label, probability, min(mean, plain) if objective == _CONSTRAINED else mean, weight)


def not_dominated(label: np.ndarray, probability: np.ndarray, threshold: float, weight: np.ndarray) -> float:
    """Return `threshold` where no other one betters it on these files, else one from the nearest gap where none does.

    From the middle of that gap it goes most of the way back, since the mean is the better guess for other X-rays: moved to the middle
    it would spread by a tenth more from one validation set to another.
    """
    distinct, among = np.unique(probability), candidates(probability)
    counts = Counts.at(label, probability, among, weight)
    missed, spared = counts.false_negative, counts.true_negative  # both rise with the threshold
    finds_most = missed[np.searchsorted(spared, spared, side="left")] == missed
    spares_most = spared[np.searchsorted(missed, missed, side="right") - 1] == spared
    free = np.flatnonzero(finds_most & spares_most)
    low, high = np.append(0.0, distinct)[free], np.append(distinct, 1.0)[free]  # of the gaps
    if np.isin(np.searchsorted(distinct, threshold, side="left"), free):
        return float(threshold)
    distance = np.maximum(low - threshold, threshold - high)
    nearest = np.argmax(distance <= distance.min() + TIE)  # of two as near the lower one, which misses fewer
    end, middle = np.clip(threshold, low[nearest], high[nearest]), among[free[nearest]]
    moved = end + (middle - end) / 4
    return float(
        moved if low[nearest] < moved <= high[nearest] else middle
    )  # between neighbouring floats there is no room


def _best_of_each(
    label: np.ndarray, probability: np.ndarray, objective: Objective, weight: np.ndarray, options: dict[str, float]
) -> np.ndarray:
    """The best threshold in each draw, weight [draws, n]; draws without one of the classes are left out.

    It lies midway between the two neighbouring probabilities that the draw holds, as in `thresholds.candidates`.
    """
    whole = [weight[:, label == value].sum(axis=1) > 0 for value in (0, 1)]
    counts = Counts.at(label, probability, candidates(probability), weight[whole[0] & whole[1]])
    lowest = thresholds.best(counts, thresholds.score(counts, objective, **options))[:, None]
    # Above it the decisions stay the same up to the next probability that was drawn.
    same = counts.flagged >= np.take_along_axis(counts.flagged, lowest, axis=1) - TIE
    highest = same.sum(axis=1) - 1
    distinct = np.unique(probability)
    return (np.append(0.0, distinct)[lowest[:, 0]] + np.append(distinct, 1.0)[highest]) / 2
