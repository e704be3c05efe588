"""What the best of many is worth, once it is allowed for that it was chosen on the X-rays that judge it.

The best of many candidates is partly the luckiest. So the choice is made again, in many bootstrap draws of whole groups, such as
patients, and what each draw chose is judged on the groups that the draw left out: bootstrap bias corrected cross-validation, BBC-CV
(I. Tsamardinos, E. Greasidou and G. Borboudakis, "Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation", Machine Learning 107, 2018). Nothing is trained again: the out-of-fold predictions of every candidate are enough.

The method's own interval holds the middle 95 % of the draws. What a draw leaves out is a share 1/e of the groups, so its figures
scatter more than those of all groups would: by √((1 - 1/e) / (1/e)) = √(e - 1) = 1.31 for a single candidate, the factor of a sample
without replacement. The interval is narrowed about the mean by that; docs/evaluation.md has its coverage.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fracture_mae.metrics.intervals import resampled

N_DRAWS = 1000
_SCATTER = np.sqrt(np.e - 1)

# Weights [m, n] of the files → the number of the best candidate under each, int64 [m].
Choose = Callable[[np.ndarray], np.ndarray]
# The number of a candidate and weights [m, n] → name of each metric → its values [m].
Measure = Callable[[int, np.ndarray], Mapping[str, np.ndarray]]


def corrected(
    choose: Choose,
    measure: Measure,
    label: np.ndarray,
    group: ArrayLike,
    weight: np.ndarray,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return what the best candidate is worth on X-rays that had no say in the choice.

    label: 0/1 [n], checked; group: [n], equal for the files that are drawn together; weight: float64 [n].
    Index: metric. Columns: estimate (mean over the draws), low, high (at confidence `level`). A metric that no draw leaves defined,
    since a class stands in a single group that every draw holds, is NaN; draws in which it is undefined are left out.
    """
    parts = [_judged(choose, measure, taken, weight) for taken in resampled(label, group, n_draws=n_draws, seed=seed)]
    rows = {name: _summary(np.concatenate([part[name] for part in parts]), level) for name in parts[0]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"]).rename_axis("metric")


def _judged(choose: Choose, measure: Measure, taken: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Name of each metric → [m], of the candidate that each draw, taken int64 [m, n], chose, on what that draw left out."""
    chosen = choose(taken * weight)
    left_out = (taken == 0) * weight
    found: dict[str, np.ndarray] = {}
    for candidate in np.unique(chosen):
        here = chosen == candidate
        for name, values in measure(int(candidate), left_out[here]).items():
            found.setdefault(name, np.full(len(taken), np.nan))[here] = values
    return found


def _summary(draws: np.ndarray, level: float) -> tuple[float, float, float]:
    defined = draws[~np.isnan(draws)]
    if defined.size == 0:
        return np.nan, np.nan, np.nan
    mean = float(defined.mean())
    ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    low, high = mean + (ends - mean) / _SCATTER
    return mean, float(low), float(high)
