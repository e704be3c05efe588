"""From a probability to a decision: the only module that compares a probability with a threshold.

A file is called positive (fractured) when its probability is at or above the threshold, as in scikit-learn.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_both_classes, check_scores, check_vector

# Youden's J is 2 · balanced accuracy - 1, so its best threshold is that of balanced accuracy.
Objective = Literal["weighted_youden", "balanced_accuracy", "f1", "f2", "mcc", "cost", "specificity_at_sensitivity"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)

# How much sensitivity counts beside specificity in "weighted_youden": who misses a fracture sends home a patient who needs treatment,
# who raises a false alarm costs a second look.
SENSITIVITY_COUNTS = 1.5

# Scores closer than this are a tie: sums of weights in another order differ by a few 1e-16.
TIE = 1e-12


def decide(probability: ArrayLike, threshold: ArrayLike) -> np.ndarray:
    """Return int64 decisions in the shape of `probability`: 1 where probability >= threshold, else 0.

    threshold: a number, or one for each probability, such as those of several folds.
    Raises FractureMaeError for NaN, which would otherwise pass as "not fractured", and for a threshold outside [0, 1].
    """
    # float64, because NumPy would round a Python float to the float32 of the probabilities before comparing.
    probability = np.asarray(probability, dtype=np.float64)
    if not np.all((np.asarray(threshold) >= 0) & (np.asarray(threshold) <= 1)):
        raise FractureMaeError(f"threshold is {threshold}; expected a number in [0, 1].")
    if np.isnan(probability).any():
        raise FractureMaeError(f"probability holds {np.isnan(probability).sum()} NaN; a decision needs numbers.")
    return (probability >= threshold).astype(np.int64)


@dataclass(frozen=True)
class Counts:
    """Weighted confusion counts and their rates, elementwise over any shape (thresholds, draws, or one number).

    A rate without a denominator, such as the precision of no alarm at all, is NaN.
    """

    true_positive: np.ndarray
    false_negative: np.ndarray
    false_positive: np.ndarray
    true_negative: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> "Counts":
        """Count label [n] against decision [n] under weight [..., n]; each count has shape [...]."""
        return cls(
            true_positive=weight @ (label * decision),
            false_negative=weight @ (label * (1 - decision)),
            false_positive=weight @ ((1 - label) * decision),
            true_negative=weight @ ((1 - label) * (1 - decision)),
        )

    @classmethod
    def at(cls, label: np.ndarray, probability: np.ndarray, thresholds: np.ndarray, weight: np.ndarray) -> "Counts":
        """Count label [n] against probability [n] at each of thresholds [k] by one sort; of weight [..., n] a count is [..., k]."""
        order = np.argsort(probability)
        n_below = np.searchsorted(probability[order], thresholds, side="left")  # [k], files decided negative
        positive, negative = (_running_sum((weight * each)[..., order]) for each in (label, 1 - label))  # [..., n + 1]
        return cls(
            true_positive=positive[..., -1:] - positive[..., n_below],
            false_negative=positive[..., n_below],
            false_positive=negative[..., -1:] - negative[..., n_below],
            true_negative=negative[..., n_below],
        )

    @property
    def positive(self) -> np.ndarray:
        return self.true_positive + self.false_negative

    @property
    def negative(self) -> np.ndarray:
        return self.true_negative + self.false_positive

    @property
    def flagged(self) -> np.ndarray:
        return self.true_positive + self.false_positive

    @property
    def total(self) -> np.ndarray:
        return self.positive + self.negative

    @property
    def sensitivity(self) -> np.ndarray:
        return _ratio(self.true_positive, self.positive)

    @property
    def specificity(self) -> np.ndarray:
        return _ratio(self.true_negative, self.negative)

    @property
    def precision(self) -> np.ndarray:
        return _ratio(self.true_positive, self.flagged)

    @property
    def negative_predictive_value(self) -> np.ndarray:
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def accuracy(self) -> np.ndarray:
        return _ratio(self.true_positive + self.true_negative, self.total)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        return (self.sensitivity + self.specificity) / 2

    @property
    def weighted_accuracy(self) -> np.ndarray:
        """Mean of sensitivity and specificity, the first counted `SENSITIVITY_COUNTS` times; linear in the weighted Youden index.

        Li, Shen, Yin, Peng & Chen, "Weighted Youden index and its two-independent-sample comparison based on weighted sensitivity
        and specificity", Chinese Medical Journal 126, 2013. Unlike F2 and cost it does not hang on how common fractures are.
        """
        return (SENSITIVITY_COUNTS * self.sensitivity + self.specificity) / (SENSITIVITY_COUNTS + 1)

    @property
    def mcc(self) -> np.ndarray:
        """Matthews correlation; 0 if every decision is the same (scikit-learn's convention), NaN if every label is."""
        product = self.true_positive * self.true_negative - self.false_positive * self.false_negative
        labels = self.positive * self.negative
        decisions = self.flagged * (self.total - self.flagged)
        return np.where(labels > 0, np.nan_to_num(_ratio(product, np.sqrt(labels * decisions))), np.nan)[()]

    def f_beta(self, beta: float) -> np.ndarray:
        """F score in which recall counts `beta` times as much as precision."""
        hits = (1 + beta**2) * self.true_positive
        return _ratio(hits, hits + beta**2 * self.false_negative + self.false_positive)


def candidates(probability: ArrayLike) -> np.ndarray:
    """Return the ascending thresholds [k] that make all decisions which differ on these probabilities [n].

    Each lies midway between two neighbouring distinct probabilities, so that a small change of one flips no decision.
    The ends lie midway to 0 (all are flagged) and to 1 (none is; left out if a probability of 1 forbids it).
    """
    distinct = np.unique(check_vector(probability, "probability", 0, 1))
    lower, upper = np.append(0.0, distinct), np.append(distinct, 1.0)
    middle = (lower + upper) / 2
    # Two neighbouring floats have no middle: the upper one then separates them.
    thresholds = np.where(middle > lower, middle, upper)
    return thresholds[:-1] if distinct[-1] == 1 else thresholds


def choose(
    label: ArrayLike,
    probability: ArrayLike,
    objective: Objective,
    *,
    weight: ArrayLike | None = None,
    min_sensitivity: float = 0.95,
    cost_false_negative: float = 5.0,
    cost_false_positive: float = 1.0,
) -> float:
    """Return the threshold that is best by `objective` among all `candidates`.

    Among equally good thresholds the lowest is taken, which misses the fewest fractures, and none that another one betters, see
    `undominated`.

    label: 0/1 [n]; probability: [n] in [0, 1]; weight: [n], for instance `metrics.equal_group_weight`.
    min_sensitivity: the least sensitivity allowed ("specificity_at_sensitivity" alone).
    cost_false_negative, cost_false_positive: price of a missed fracture and of a false alarm ("cost" alone).

    Raises FractureMaeError for unusable arrays, a missing class, an unknown objective or options out of range.
    """
    label, probability, weight = check_scores(label, probability, weight)
    check_both_classes(label, weight, "choosing a threshold")
    thresholds = candidates(probability)
    counts = Counts.at(label, probability, thresholds, weight)
    options = {"cost_false_negative": cost_false_negative, "cost_false_positive": cost_false_positive}
    scores = score(counts, objective, min_sensitivity=min_sensitivity, **options)
    return float(thresholds[best(counts, scores)])


def best(counts: Counts, scores: np.ndarray) -> np.ndarray:
    """Return the position [...] of the first of the best scores [..., k], those of ascending thresholds with their counts [..., k].

    Scores that lie within rounding of each other are ties; so the one that is found may still be dominated, and then it moves.
    """
    first = np.argmax(scores >= scores.max(axis=-1, keepdims=True) - TIE, axis=-1)
    return undominated(counts, first)


def undominated(counts: Counts, position: np.ndarray) -> np.ndarray:
    """Return the positions [...] in counts [..., k] of ascending thresholds that no other one betters, next to `position` [...].

    A threshold is dominated where another one misses fewer fractures at as many false alarms, or raises fewer false alarms at as many
    missed fractures. It goes down first, to the higher sensitivity, past fractured files alone; where there are none, up past others.
    """
    missed, spared = counts.false_negative, counts.true_negative  # both rise with the threshold
    lowest = _first(spared, position)
    finds_more = _at(missed, lowest) < _at(missed, position)
    highest = (missed <= _at(missed, position)[..., None]).sum(axis=-1) - 1
    return np.where(finds_more, lowest, _first(spared, highest))


def _first(rising: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Position [...] of the first of the rising values [..., k] that is as high as the one at `position` [...]."""
    return np.argmax(rising >= _at(rising, position)[..., None], axis=-1)


def _at(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, np.asarray(position)[..., None], axis=-1)[..., 0]


def score(
    counts: Counts,
    objective: Objective,
    *,
    min_sensitivity: float = 0.95,
    cost_false_negative: float = 5.0,
    cost_false_positive: float = 1.0,
) -> np.ndarray:
    """Return how good decisions are by `objective`, in the shape of `counts`; more is better, and -inf is not allowed.

    Options and errors as in `choose`. The cost is negative, in units of the dearer error per file.
    """
    match objective:
        case "weighted_youden":
            return counts.weighted_accuracy
        case "balanced_accuracy":
            return counts.balanced_accuracy
        case "f1":
            return counts.f_beta(1)
        case "f2":
            return counts.f_beta(2)
        case "mcc":
            return counts.mcc
        case "cost":
            return -_relative_cost(counts, cost_false_negative, cost_false_positive)
        case "specificity_at_sensitivity":
            if not 0 <= min_sensitivity <= 1:
                raise FractureMaeError(f"min_sensitivity is {min_sensitivity}; expected a number in [0, 1].")
            return np.where(counts.sensitivity >= min_sensitivity - TIE, counts.specificity, -np.inf)
    raise FractureMaeError(f"Unknown objective {objective!r}; expected one of {', '.join(OBJECTIVES)}.")


def _relative_cost(counts: Counts, false_negative: float, false_positive: float) -> np.ndarray:
    """Mean cost of a file, in units of the dearer error."""
    if not (0 < false_negative < np.inf and 0 < false_positive < np.inf):
        raise FractureMaeError(f"Costs are {false_negative} and {false_positive}; expected finite numbers above 0.")
    cost = false_negative * counts.false_negative + false_positive * counts.false_positive
    return cost / (counts.total * max(false_negative, false_positive))


def _running_sum(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, … n values along the last axis, [..., n + 1]."""
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)


@np.errstate(invalid="ignore", divide="ignore")
def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator)
