"""How certain an AUROC is: DeLong's variance, for files of one X-ray and X-rays of one patient too, on the logit scale.

An AUROC is the mean over positives of the share of negatives that each surpasses, and the mean over negatives of the share of
positives that surpass each. From how these shares spread follows its variance (E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson,
"Comparing the areas under two or more correlated receiver operating characteristic curves", Biometrics 44, 1988); where files of a
group are not independent, from how their sums over groups do (N. A. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
Biometrics 53, 1997). The interval is symmetric on the logit scale, which keeps it in [0, 1], and Student's: degrees of freedom as of
E. Brunner and U. Munzel ("The nonparametric Behrens-Fisher problem", Biometrical Journal 42, 2000), whose statistic this is.

Where all positives surpass all negatives the shares do not spread. The lower end is then the least AUROC from which 1 is no further
than expected, by the variance that follows from the AUROC alone (J. A. Hanley and B. J. McNeil, "The meaning and use of the area under
a receiver operating characteristic curve", Radiology 143, 1982; solved for the end as in R. G. Newcombe, "Confidence intervals for an
effect size measure based on the Mann-Whitney statistic, part 2", Statistics in Medicine 25, 2006, method 5). No lower end is above that
one, or a pair in the wrong order would raise it: where few are out of order, they do not tell how the shares spread.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, t

from fracture_mae.metrics.arrays import check_label, check_vector, check_weight, number_groups
from fracture_mae.metrics.ends import FEWEST_GROUPS, Interval, smaller_class


@dataclass(frozen=True)
class Spread:
    """An AUROC and how it varies.

    Attributes:
        auroc: NaN where a class has no weight.
        variance: of DeLong, between groups.
        freedom: degrees of freedom of it; infinite where nothing varies.
        n_positive, n_negative: groups, as many of equal weight as would be as uncertain; not necessarily whole.
    """

    auroc: float
    variance: float
    freedom: float
    n_positive: float
    n_negative: float

    @classmethod
    def of(cls, label: np.ndarray, score: np.ndarray, member_of: np.ndarray, weight: np.ndarray) -> "Spread":
        """Of label 0/1 [n], score [n] of any scale, number of each one's group [n] and weight [n]; both classes have weight."""
        counts = weight > 0
        label, score, weight = label[counts], score[counts], weight[counts]
        _, member_of = np.unique(member_of[counts], return_inverse=True)
        positive, negative = label == 1, label == 0
        surpassed = np.empty(label.size)  # share of the other class on the right side of each
        surpassed[positive] = _share_below(score[negative], weight[negative], score[positive])
        surpassed[negative] = 1 - _share_below(score[positive], weight[positive], score[negative])
        auroc = float(np.average(surpassed[positive], weights=weight[positive]))
        off, sizes, factors = [], [], []
        for side in (positive, negative):
            part = weight[side] / weight[side].sum()
            off.append(np.bincount(member_of[side], part * (surpassed[side] - auroc), member_of.max() + 1))
            sizes.append(1 / (np.bincount(member_of[side], part) ** 2).sum())
            factors.append(sizes[-1] / (sizes[-1] - 1) if sizes[-1] > 1 else np.nan)
        parts = [factor * (each**2).sum() for factor, each in zip(factors, off, strict=True)]
        together = 2 * np.sqrt(factors[0] * factors[1]) * (off[0] @ off[1])
        squares = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True) if size > 1)
        return cls(
            auroc=min(auroc, 1.0),
            variance=max(float(sum(parts) + together), 0.0),
            freedom=float(sum(parts) ** 2 / squares) if squares > 0 else np.inf,
            n_positive=float(sizes[0]),
            n_negative=float(sizes[1]),
        )

    def interval(self, level: float = 0.95) -> Interval:
        """Return the AUROC with its interval."""
        end = _end_of_one(self.n_positive, self.n_negative, level)
        if self.auroc in (0, 1):
            return Interval(self.auroc, *((end, 1.0) if self.auroc == 1 else (0.0, 1 - end)))
        reach = t.ppf((1 + level) / 2, self.freedom) * np.sqrt(self.variance) / (self.auroc * (1 - self.auroc))
        low, high = expit(logit(self.auroc) + np.array([-reach, reach]))
        return Interval(self.auroc, float(min(low, end)), float(max(high, 1 - end)))


def auroc(
    label: ArrayLike, score: ArrayLike, group: ArrayLike, *, weight: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Return the AUROC with its interval, by one sort and without a draw.

    label: 0/1 [n]; score: [n], of any scale; group: [n], equal for what is not independent; weight: [n].
    No ends where a class stands in fewer than FEWEST_GROUPS groups; all NaN where one is not there.

    Raises FractureMaeError for unusable arrays.
    """
    score = check_vector(score, "score")
    label, weight = check_label(label, score.size), check_weight(weight, score.size)
    member_of = number_groups(label, group)
    counts = weight > 0
    if np.unique(label[counts]).size < 2:
        return Interval(np.nan, np.nan, np.nan)
    spread = Spread.of(label, score, member_of, weight)
    if smaller_class(label[counts], member_of[counts]) < FEWEST_GROUPS:
        return Interval(spread.auroc, np.nan, np.nan)
    return spread.interval(level)


def _share_below(others: np.ndarray, weight: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the weighted share of others [k] that lie below each score [n]; those that are equal count half."""
    order = np.argsort(others)
    others, below = others[order], np.append(0.0, np.cumsum(weight[order]))
    ends = [below[np.searchsorted(others, score, side)] for side in ("left", "right")]
    return (ends[0] + ends[1]) / (2 * below[-1])


def _end_of_one(n_positive: float, n_negative: float, level: float) -> float:
    """Return the lower end where the AUROC is 1.

    Hanley and McNeil's variance is taken with both classes of the mean size where the size is not a factor, as Newcombe advises.
    """
    z2, half = norm.ppf((1 + level) / 2) ** 2, (n_positive + n_negative) / 2 - 1

    def beyond(end: float) -> float:
        """(1 - end)² - z² · variance, without the factor 1 - end that both have."""
        spread = 1 + half * ((1 - end) / (2 - end) + end / (1 + end))
        return (1 - end) - z2 * end * spread / (n_positive * n_negative)

    return float(brentq(beyond, 0.0, 1.0))
