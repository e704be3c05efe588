"""How certain a metric is: percentile intervals from resampling whole groups.

The files of one X-ray are not independent, nor are the X-rays of one patient, so an interval from resampled files would be too narrow.
Here a draw takes groups, such as patients, with replacement, and every file of a group as often as its group (the cluster bootstrap:
A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Of groups with a positive file it takes
as many as there are, and of the others too: a group with both labels, such as a patient with one broken wrist, counts as positive.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_scores, number_groups
from fracture_mae.metrics.scores import summaries
from fracture_mae.metrics.thresholds import TIE

# Weights held at once: 4 MB for a chunk, whatever the number of draws.
CHUNK_VALUES = 2**19


class Sample(NamedTuple):
    """X-rays that a model has answered for: label 0/1 [n], probability [n], group [n], and the threshold of its answers."""

    label: ArrayLike
    probability: ArrayLike
    group: ArrayLike
    threshold: float


# Weights [..., n] of the files → name of each statistic → its values [...].
Statistics = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def bootstrap_intervals(
    label: ArrayLike,
    probability: ArrayLike,
    group: ArrayLike,
    threshold: ArrayLike,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Return each metric of `metrics.summary` with its interval.

    label: 0/1 [n]; probability: [n]; group: [n], equal for the files that are drawn together; threshold: one, or [n];
    weight: [n].
    Index: metric. Columns: estimate, low, high (at confidence `level`), n_groups. low and high are NaN if a class stands in
    a single group, which resampling cannot vary. Draws in which a metric is undefined are left out of its interval.

    Raises FractureMaeError for unusable arrays.
    """
    label, probability, weight = check_scores(label, probability, weight)

    def metrics_under(weights: np.ndarray) -> dict[str, np.ndarray]:
        return summaries(label, probability, threshold, weights)

    table = intervals(metrics_under, label, group, n_draws=n_draws, seed=seed, level=level, weight=weight)
    for rate, value in (("sensitivity", 1), ("specificity", 0)):
        bound = boundary_end(table.loc[rate, "estimate"], np.unique(np.asarray(group)[label == value]).size, level)
        table.loc[rate, ["low", "high"]] = widened(*table.loc[rate, ["low", "high"]], bound)
    return table


def boundary_end(rate: float, n_groups: int, level: float = 0.95) -> float | None:
    """Return the inner end of the exact (Clopper-Pearson) interval of a rate of 0 or 1 in n_groups groups; None for any other.

    Where no fracture was missed, no draw can miss one, and resampling alone would call a sensitivity of 1 certain.
    """
    if rate not in (0, 1) or n_groups == 0:
        return None
    bound = ((1 - level) / 2) ** (1 / n_groups)
    return bound if rate == 1 else 1 - bound


def intervals(
    statistics: Statistics,
    label: np.ndarray,
    group: ArrayLike,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    weight: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return any statistics of weighted files with their intervals; table, options and errors as in `bootstrap_intervals`.

    An interval holds its estimate: resampling adds noise, which only raises some statistics (the calibration error), and an end
    that it carried past the estimate is put back there.

    statistics: vectorised over the leading axes of the weights; label: 0/1 [n], checked.
    """
    weight = np.ones(label.size) if weight is None else weight
    estimate = statistics(weight)
    member_of, strata = _strata(label, group)
    chunks = [statistics(draw * weight) for draw in _draws(member_of, strata, n_draws, seed)]
    draws = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in estimate}
    varies = _varies(label, member_of)
    rows = {name: (estimate[name], *_interval(draws[name], varies, level)) for name in estimate}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"], dtype=float)
    table["low"] = table["low"].where(~(table["low"] > table["estimate"]), table["estimate"])
    table["high"] = table["high"].where(~(table["high"] < table["estimate"]), table["estimate"])
    return table.rename_axis("metric").assign(n_groups=sum(map(len, strata)))


def widened(low: float, high: float, value: float | None) -> tuple[float, float]:
    """Return the interval made wide enough to hold a value, where there is an interval and a value."""
    return (low, high) if value is None else (float(np.minimum(low, value)), float(np.maximum(high, value)))


def paired_difference(
    label: ArrayLike,
    probability_a: ArrayLike,
    probability_b: ArrayLike,
    group: ArrayLike,
    metric: str = "auroc",
    *,
    threshold_a: float = 0.5,
    threshold_b: float = 0.5,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    margin: float = 0.0,
    weight: ArrayLike | None = None,
) -> dict[str, float]:
    """Return metric(a) - metric(b) on the same files as estimate, low and high; both see the same draws.

    An interval without 0 says that they differ. `share_above` is the share of draws in which the difference exceeds `margin`, NaN
    where there is no interval. Arrays, options and errors as in `bootstrap_intervals`.
    """
    label, probability_a, weight = check_scores(label, probability_a, weight)
    _, probability_b, _ = check_scores(label, probability_b)

    def difference(weight: np.ndarray) -> np.ndarray:
        a = summaries(label, probability_a, threshold_a, weight)
        b = summaries(label, probability_b, threshold_b, weight)
        if metric not in a:
            raise FractureMaeError(f"Unknown metric {metric!r}; expected one of {', '.join(a)}.")
        return a[metric] - b[metric]

    estimate = difference(weight)
    member_of, strata = _strata(label, group)
    draws = np.concatenate([difference(draw * weight) for draw in _draws(member_of, strata, n_draws, seed)])
    low, high = _interval(draws, _varies(label, member_of), level)
    share_above = np.nan if np.isnan(low) else float(np.mean(draws[~np.isnan(draws)] > margin + TIE))
    return {"estimate": float(estimate), "low": low, "high": high, "share_above": share_above}


def fall(own: Sample, elsewhere: Sample, *, n_draws: int = 1000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Return by how much every metric of `metrics.summary` is lower elsewhere than on X-rays of its own.

    The two samples share no X-ray, so both are drawn anew, independently, in each draw.
    Index: metric. Columns: own, elsewhere, fall (own - elsewhere), low, high (of the fall; NaN if a class that is there has a single
    group in either sample). What one class alone leaves undefined is NaN.

    Raises FractureMaeError for unusable arrays.
    """
    estimates, draws, varies = [], [], True
    for sample, stream in zip((own, elsewhere), np.random.SeedSequence(seed).generate_state(2), strict=True):
        label, probability, weight = check_scores(sample.label, sample.probability)
        member_of, strata = _strata(label, sample.group)
        varies &= _varies(label, member_of)
        estimates.append(summaries(label, probability, sample.threshold, weight))
        chunks = [
            summaries(label, probability, sample.threshold, draw)
            for draw in _draws(member_of, strata, n_draws, int(stream))
        ]
        draws.append({name: np.concatenate([chunk[name] for chunk in chunks]) for name in estimates[-1]})
    rows = {}
    for name, values in estimates[0].items():
        found = float(values), float(estimates[1][name])
        rows[name] = (*found, found[0] - found[1], *_interval(draws[0][name] - draws[1][name], varies, level))
    columns = ["own", "elsewhere", "fall", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float).rename_axis("metric")


def resampled(label: np.ndarray, group: ArrayLike, *, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each file is taken in the draws of an interval, int64 [chunk, n], until there were n_draws rows."""
    return _draws(*_strata(label, group), n_draws, seed)


def _strata(label: np.ndarray, group: ArrayLike) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the group number of each file [n], and the numbers of the groups without and with a positive file, where there are any."""
    member_of = number_groups(label, group)
    positive = np.bincount(member_of, weights=label) > 0
    return member_of, [groups for groups in (np.flatnonzero(~positive), np.flatnonzero(positive)) if groups.size]


def _varies(label: np.ndarray, member_of: np.ndarray) -> bool:
    """Return whether each class that is present stands in more than one group."""
    return min(np.unique(member_of[label == value]).size for value in np.unique(label)) >= 2


def _draws(member_of: np.ndarray, strata: list[np.ndarray], n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each file is taken, int64 [chunk, n], until there were n_draws rows."""
    # One stream per stratum: then the draws do not depend on the size of the chunks.
    streams = np.random.default_rng(seed).spawn(len(strata))
    chunk = max(1, CHUNK_VALUES // member_of.size)
    for start in range(0, n_draws, chunk):
        size = min(chunk, n_draws - start)
        taken = np.empty((size, sum(map(len, strata))), dtype=np.int64)
        for stream, groups in zip(streams, strata, strict=True):
            taken[:, groups] = stream.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=size)
        yield taken[:, member_of]


def _interval(draws: np.ndarray, varies: bool, level: float) -> tuple[float, float]:
    defined = draws[~np.isnan(draws)]
    if defined.size == 0 or not varies:
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
