"""How certain a metric of a training is, rather than of one network: other X-rays would give another figure, and so would another seed.

What other X-rays would give is the interval of each network. What other seeds would give is seen from several, judged on the same
X-rays. Both are independent, and their variances are added, on each side its own, so that the interval of a share near 1 stays as
lopsided as it is (G. Zou and A. Donner, "Construction of confidence intervals about effect measures: a general approach", Statistics
in Medicine 27, 2008). Few seeds tell their variance poorly: the quantile is Student's, with the fewer degrees of freedom the more of
the sum is theirs (F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2,
1946). That seeds are a source of chance beside the X-rays: X. Bouthillier et al., "Accounting for variance in machine learning
benchmarks", MLSys 2021.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t

FEWEST_SEEDS = 2


class OverSeeds(NamedTuple):
    """A metric of a training: the mean over its seeds, the standard deviation (divisor k - 1) between them, and its interval."""

    estimate: float
    sd: float
    low: float
    high: float


def over_seeds(estimate: ArrayLike, low: ArrayLike, high: ArrayLike, level: float = 0.95) -> OverSeeds:
    """Return a metric over k networks that differ by the seed of their training alone, judged on the same X-rays.

    estimate, low, high: [k], each network's, within [0, 1], with its interval at this level for other X-rays. The interval is that of
    the mean over all seeds there are. As if a seed did the same to all X-rays: where it helps some and harms others, the mean is
    steadier than this says. NaN where a network has no interval.

    Raises ValueError for fewer than FEWEST_SEEDS.
    """
    values, lows, highs = (np.asarray(each, dtype=np.float64) for each in (estimate, low, high))
    if len(values) < FEWEST_SEEDS:
        raise ValueError(f"found {len(values)} seeds, expected {FEWEST_SEEDS} or more")
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    of_seeds = sd**2 / len(values)
    below, above = (_reach(np.mean(side), of_seeds, len(values) - 1, level) for side in (values - lows, highs - values))
    return OverSeeds(mean, sd, float(max(mean - below, 0)), float(min(mean + above, 1)))


def _reach(side: float, of_seeds: float, degrees: int, level: float) -> float:
    """How far the interval reaches to one side, from how far that of one network does and the variance of the mean over seeds."""
    of_xrays = (side / norm.ppf((1 + level) / 2)) ** 2
    if of_seeds == 0:
        return side
    together = degrees * ((of_xrays + of_seeds) / of_seeds) ** 2
    return t.ppf((1 + level) / 2, together) * np.sqrt(of_xrays + of_seeds)
