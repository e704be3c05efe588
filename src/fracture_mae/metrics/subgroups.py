"""Whether a classifier does worse on some X-rays than on all others: differences with intervals that hold for all of them at once."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from fracture_mae.metrics.arrays import check_scores
from fracture_mae.metrics.ends import FEWEST_GROUPS as FEWEST
from fracture_mae.metrics.intervals import resampled
from fracture_mae.metrics.scores import aurocs
from fracture_mae.metrics.thresholds import decide

COMPARED = ("sensitivity", "specificity", "auroc")


def differences_to_rest(
    label: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    group: ArrayLike,
    members: np.ndarray,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return by how much each of S subgroups differs from all other X-rays in each of COMPARED: a row for each pair.

    The standard error is that of a bootstrap over `group` in which a subgroup and the others are drawn together, as a patient may have
    X-rays in both; of rates it is no less than that of two independent rates with a success and a failure added to each (A. Agresti and
    B. Caffo, "Simple and effective confidence intervals for proportions and differences of proportions", The American Statistician 54,
    2000), since where nothing was missed no draw can miss anything. Intervals are normal, and widened for all m differences together
    (Bonferroni: each has the level 1 - (1 - level) / m): that any of them misses the truth happens in 1 - level of all cases, or less.

    label: 0/1 [n]; probability: [n]; group: [n], equal for what is drawn together; members: bool [S, n].
    Index: subgroup (position) and measure; columns: difference (subgroup - others), low, high. NaN, and not among the m, where the
    subgroup or the others have fewer than FEWEST X-rays of a class that the measure needs.
    Raises FractureMaeError for unusable arrays.
    """
    label, probability, _ = check_scores(label, probability)
    answer = decide(probability, threshold)
    tested = [(s, name) for s in range(len(members)) for name in COMPARED if _is_enough(label, members[s], name)]
    index = pd.MultiIndex.from_product([range(len(members)), COMPARED], names=["subgroup", "measure"])
    table = pd.DataFrame(np.nan, index=index, columns=["difference", "low", "high"])
    if not tested:
        return table

    def differences(weight: np.ndarray) -> np.ndarray:
        found = [_measure(label, answer, probability, members[s], name, weight) for s, name in tested]
        return np.stack(found, axis=-1)  # [..., tested]

    estimate = differences(np.ones(label.size))
    draws = np.concatenate([differences(taken) for taken in resampled(label, group, n_draws=n_draws, seed=seed)])
    least = [_agresti_caffo(label, answer, members[s], name) for s, name in tested]
    reach = norm.isf((1 - level) / (2 * len(tested))) * np.maximum(np.nanstd(draws, axis=0, ddof=1), least)
    table.loc[tested] = np.stack([estimate, estimate - reach, estimate + reach], axis=1)
    return table


def _is_enough(label: np.ndarray, member: np.ndarray, name: str) -> bool:
    classes = {"sensitivity": [1], "specificity": [0]}.get(name, [0, 1])
    return all(np.sum((label == value) & part) >= FEWEST for value in classes for part in (member, ~member))


@np.errstate(invalid="ignore", divide="ignore")
def _measure(
    label: np.ndarray, answer: np.ndarray, probability: np.ndarray, member: np.ndarray, name: str, weight: np.ndarray
) -> np.ndarray:
    """Return the difference of one measure under each weighting in weight [..., n]."""
    if name == "auroc":
        here, others = (aurocs(label[part], probability[part], weight[..., part]) for part in (member, ~member))
        return here - others
    here, others = (
        weight[..., part] @ right[part] / weight[..., part].sum(-1)
        for part, right in _rates(label, answer, member, name)
    )
    return here - others


def _rates(
    label: np.ndarray, answer: np.ndarray, member: np.ndarray, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, of the subgroup and of the others, which X-rays a rate is of, bool [n], and of which the answer is right, bool [n]."""
    value = 1 if name == "sensitivity" else 0
    for part in (member, ~member):
        yield part & (label == value), answer == value


def _agresti_caffo(label: np.ndarray, answer: np.ndarray, member: np.ndarray, name: str) -> float:
    """Return the standard error of the difference of two independent rates; 0 of an AUROC, which is none."""
    if name == "auroc":
        return 0.0
    variance = 0.0
    for part, right in _rates(label, answer, member, name):
        n = part.sum() + 2
        rate = (right[part].sum() + 1) / n
        variance += rate * (1 - rate) / n
    return float(np.sqrt(variance))
