"""How certain rates are: Wilson's interval, also for files of one X-ray and X-rays of one patient, and what follows from two of them.

A sensitivity and a specificity are shares of hits, so each has Wilson's interval (E. B. Wilson, "Probable inference", JASA 22, 1927):
it is never empty, not even where nothing was missed, and a further miss raises neither end. Hits of one group are not independent. As
many independent ones as would be as uncertain are counted in their place, the effective sample size, by the variance between groups
(J. N. K. Rao and A. J. Scott, "A simple method for the analysis of clustered binary data", Biometrics 48, 1992; with Wilson's
interval: K. K. Saha, D. Miller and S. Wang, "A comparison of some approximate confidence intervals for a single proportion for
clustered binary outcome data", International Journal of Biostatistics 12, 2016).

Accuracy, precision, F1 and their like are functions of both rates and of the share of fractured, which is held as it is. Their
interval reaches from the least to the greatest value on the ellipse through the ends of both: of a sum that is the method of variance
estimates recovery (G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27,
2008), of a ratio Fieller's with the same ends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from fracture_mae.metrics.arrays import number_groups
from fracture_mae.metrics.ends import FEWEST_GROUPS, Interval
from fracture_mae.metrics.thresholds import Counts

# Where all are hit, or none is, nothing tells how alike the hits of a group are. So the variance is taken with part of a group that
# is all hit and of one that is all missed added: with few misses a group counts as if its hits were alike, with many as it is.
_PSEUDO_GROUPS = 0.5
_ANGLES = np.linspace(0, 2 * np.pi, 721)

# Sensitivity and specificity, of any one shape [...] → name of each figure → its values [...].
OfBoth = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def wilson(rate: float, n: float, level: float = 0.95) -> Interval:
    """Return a share of n independent ones, n > 0 and not necessarily whole, with Wilson's interval."""
    z2 = norm.ppf((1 + level) / 2) ** 2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    reach = np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    # One end of a rate of 0 or 1 is that rate; rounding alone would put it beside.
    return Interval(rate, float(np.clip(centre - reach, 0, rate)), float(np.clip(centre + reach, rate, 1)))


def effective_size(hit: np.ndarray, weight: np.ndarray, member_of: np.ndarray) -> float:
    """Return how many independent files of equal weight would tell as much of a rate as these.

    Of n groups of one file each that is n, and copies of a file add nothing. It is never more than if all files under these weights
    were independent, (Σw)² / Σw².

    hit: [n] in [0, 1]; weight: [n], above 0; member_of: number of each one's group, int64 [n].
    """
    _, member_of = np.unique(member_of, return_inverse=True)
    size, hits = np.bincount(member_of, weight), np.bincount(member_of, weight * hit)
    pseudo = _PSEUDO_GROUPS * size.mean()
    total = size.sum() + 2 * pseudo
    rate = (hits.sum() + pseudo) / total
    between = ((hits - rate * size) ** 2).sum() + pseudo * size.mean() * ((1 - rate) ** 2 + rate**2)
    found = rate * (1 - rate) * total**2 / between * size.size / (size.size + 2 * _PSEUDO_GROUPS)
    return float(min(found, weight.sum() ** 2 / (weight**2).sum()))


def share(hit: np.ndarray, group: ArrayLike, weight: np.ndarray, level: float = 0.95) -> Interval:
    """Return the weighted share of hits with its interval; no ends in fewer than FEWEST_GROUPS groups, all NaN without weight.

    hit: [n] in [0, 1]; group: [n], equal for what is not independent; weight: [n].
    """
    counts = weight > 0
    if not counts.any():
        return Interval(np.nan, np.nan, np.nan)
    hit, weight = np.asarray(hit, dtype=np.float64)[counts], weight[counts]
    member_of = number_groups(hit, np.asarray(group)[counts])
    rate = float(np.clip(np.average(hit, weights=weight), 0, 1))
    if np.unique(member_of).size < FEWEST_GROUPS:
        return Interval(rate, np.nan, np.nan)
    found = wilson(rate, effective_size(hit, weight, member_of), level)
    # A single file missed in a large group would make the others look independent, and raise the end that they have without it.
    whole = wilson(1.0, effective_size(np.ones_like(hit), weight, member_of), level).low
    return Interval(rate, min(found.low, whole), max(found.high, 1 - whole))


@dataclass(frozen=True)
class BothRates:
    """Sensitivity and specificity of the same decisions, with what is needed for the interval of anything that follows from them.

    Attributes:
        sensitivity, specificity: with Wilson's ends; NaN where their class is not there, or in too few groups.
        positive, negative: weight of all files of either class.
        correlation: of the errors of both, where groups hold both classes; 0 where none does.
    """

    sensitivity: Interval
    specificity: Interval
    positive: float
    negative: float
    correlation: float

    @classmethod
    def of(
        cls, label: np.ndarray, decision: np.ndarray, group: ArrayLike, weight: np.ndarray, level: float = 0.95
    ) -> "BothRates":
        """Of label 0/1 [n] against decision 0/1 [n]; group: [n], equal for what is not independent; weight: [n]; all checked."""
        member_of = number_groups(label, group)
        right = (decision == label).astype(np.float64)
        sides = [label == value for value in (1, 0)]
        rates = [share(right[side], member_of[side], weight[side], level) for side in sides]
        totals = [float(weight[side].sum()) for side in sides]
        off = [
            np.bincount(member_of[side], weight[side] * (right[side] - rate.estimate), member_of.max() + 1)
            for side, rate in zip(sides, rates, strict=True)
        ]
        spread = np.sqrt((off[0] ** 2).sum() * (off[1] ** 2).sum())
        return cls(*rates, *totals, float(np.clip(off[0] @ off[1] / spread, -1, 1)) if spread > 0 else 0.0)

    def ends(self, figures: OfBoth) -> dict[str, Interval]:
        """Return each figure that follows from both rates with its interval; ends are NaN where those of a rate it needs are."""
        across = self.correlation * np.cos(_ANGLES) + np.sqrt(1 - self.correlation**2) * np.sin(_ANGLES)
        with np.errstate(invalid="ignore", divide="ignore"):
            estimate = figures(np.float64(self.sensitivity.estimate), np.float64(self.specificity.estimate))
            around = figures(_along(self.sensitivity, np.cos(_ANGLES)), _along(self.specificity, across))
        return {name: _within(float(value), np.asarray(around[name])) for name, value in estimate.items()}

    def counts(self, sensitivity: np.ndarray, specificity: np.ndarray) -> Counts:
        """Return the counts that rates of any shape would come to among these files."""
        true_positive, true_negative = (
            total * rate if total else np.zeros_like(rate)
            for total, rate in ((self.positive, sensitivity), (self.negative, specificity))
        )
        return Counts(true_positive, self.positive - true_positive, self.negative - true_negative, true_negative)


def _along(rate: Interval, steps: np.ndarray) -> np.ndarray:
    """The rate moved by steps [k] in [-1, 1], of which -1 leads to its lower and 1 to its upper end."""
    reach = np.where(steps < 0, rate.estimate - rate.low, rate.high - rate.estimate)
    return np.clip(rate.estimate + steps * reach, 0, 1)


def _within(estimate: float, around: np.ndarray) -> Interval:
    defined = around[~np.isnan(around)]
    if np.isnan(estimate) or not defined.size:
        return Interval(estimate, np.nan, np.nan)
    return Interval(estimate, float(min(defined.min(), estimate)), float(max(defined.max(), estimate)))
