"""How certain a metric is: intervals that know that the files of one X-ray, and the X-rays of one patient, are not independent.

AUROC and what follows from decisions have their intervals in closed form: `delong` and `rates`. The others are drawn anew: a draw
takes groups, such as patients, with replacement, and every file of a group as often as its group (the cluster bootstrap: A. C.
Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Of groups with a positive file it takes as
many as there are, and of the others too: a group with both labels, such as a patient with one broken wrist, counts as positive.

How far the draws spread, not their quantiles, makes the interval: quantiles lean to where draws lean, and of an average precision
they cover 0.86 where they promise 0.95. A share has it on the logit scale, as K. Boyd, K. Eng and C. D. Page advise for that one
("Area under the precision-recall curve: point estimates and confidence intervals", ECML 2013). docs/evaluation.md says what each kind
covers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm, t

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import delong
from fracture_mae.metrics.arrays import check_scores, number_groups
from fracture_mae.metrics.ends import FEWEST_GROUPS, Interval, smaller_class
from fracture_mae.metrics.rates import BothRates, wilson
from fracture_mae.metrics.scores import decision_metrics, resampled_metrics, summaries, summarised
from fracture_mae.metrics.thresholds import TIE, decide

# Weights held at once: 4 MB for a chunk, whatever the number of draws.
CHUNK_VALUES = 2**19

# What a statistic is: within [0, 1], above 0, or any number, such as a difference.
Scale = Literal["share", "positive", "number"]
_SCALES: dict[str, Scale] = {"log_loss": "positive"}  # of the metrics; the others are shares


class Sample(NamedTuple):
    """X-rays that a model has answered for: label 0/1 [n], probability [n], group [n], and the threshold of its answers."""

    label: ArrayLike
    probability: ArrayLike
    group: ArrayLike
    threshold: float


# Weights [..., n] of the files → name of each statistic → its values [...].
Statistics = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def metric_intervals(
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

    label: 0/1 [n]; probability: [n]; group: [n], equal for the files that are not independent; threshold: one, or [n];
    weight: [n]; n_draws, seed: of the bootstrap behind those that have no closed form, `scores.resampled_metrics`.
    Index: metric. Columns: estimate, low, high (at confidence `level`), n_groups. low and high are NaN if a class that the metric
    needs stands in fewer than `ends.FEWEST_GROUPS` groups. Draws in which a metric is undefined are left out of its interval.

    Raises FractureMaeError for unusable arrays.
    """
    label, probability, weight = check_scores(label, probability, weight)
    names = list(summaries(label, probability, threshold, weight))
    both = BothRates.of(label, decide(probability, threshold), group, weight, level)
    found = both.ends(lambda *rates: decision_metrics(both.counts(*rates)))
    found["auroc"] = delong.auroc(label, probability, group, weight=weight, level=level)

    def drawn(weights: np.ndarray) -> dict[str, np.ndarray]:
        return resampled_metrics(label, probability, weights)

    options = {"n_draws": n_draws, "seed": seed, "level": level, "weight": weight}
    table = intervals(drawn, label, group, scale=lambda name: _SCALES.get(name, "share"), **options)
    closed = pd.DataFrame.from_dict(found, orient="index", columns=Interval._fields, dtype=float)
    closed["n_groups"] = table["n_groups"].iloc[0]
    return pd.concat([closed, table]).loc[names].rename_axis("metric")


def intervals(
    statistics: Statistics,
    label: np.ndarray,
    group: ArrayLike,
    *,
    scale: Scale | Callable[[str], Scale] = "number",
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    weight: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return any statistics of weighted files with bootstrap intervals; table, options and errors as in `metric_intervals`.

    estimate ± quantile · standard deviation of the draws. Of a "share" on the logit scale, of what is "positive" on that of the
    logarithm, both with Student's quantile for the groups of the smaller class; of a "number" as it is, with the normal one: a
    difference hardly leans, and the wider one would cover too much. A share of 0 or 1 does not vary: it ends where Wilson's interval of
    as many hits as the smaller class has groups does.

    statistics: vectorised over the leading axes of the weights; label: 0/1 [n], checked; scale: one, or that of each name.
    """
    weight = np.ones(label.size) if weight is None else weight
    estimate = statistics(weight)
    member_of, strata = _strata(label, group)
    chunks = [statistics(draw * weight) for draw in _draws(member_of, strata, n_draws, seed)]
    draws = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in estimate}
    sizes = sum(map(len, strata)), smaller_class(label, member_of)
    rows = {
        name: _interval(float(value), draws[name], scale if isinstance(scale, str) else scale(name), sizes, level)
        for name, value in estimate.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=Interval._fields, dtype=float)
    return table.rename_axis("metric").assign(n_groups=sizes[0])


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

    An interval without 0 says that they differ. It is that of a "number" in `intervals`. `share_above` is the share of draws in which
    the difference exceeds `margin`, NaN where there is no interval. Arrays, options and errors as in `metric_intervals`.
    """
    label, probability_a, weight = check_scores(label, probability_a, weight)
    _, probability_b, _ = check_scores(label, probability_b)

    if metric not in (known := summaries(label, probability_a, threshold_a, weight)):
        raise FractureMaeError(f"Unknown metric {metric!r}; expected one of {', '.join(known)}.")

    def difference(weight: np.ndarray) -> np.ndarray:
        a = summarised(metric, label, probability_a, threshold_a, weight)
        return a - summarised(metric, label, probability_b, threshold_b, weight)

    estimate = float(difference(weight))
    member_of, strata = _strata(label, group)
    draws = np.concatenate([difference(draw * weight) for draw in _draws(member_of, strata, n_draws, seed)])
    sizes = sum(map(len, strata)), smaller_class(label, member_of)
    found = _interval(estimate, draws, "number", sizes, level)
    share_above = np.nan if np.isnan(found.low) else float(np.mean(draws[~np.isnan(draws)] > margin + TIE))
    return found._asdict() | {"share_above": share_above}


def fall(own: Sample, elsewhere: Sample, *, n_draws: int = 1000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Return by how much every metric of `metrics.summary` is lower elsewhere than on X-rays of its own.

    The two samples share no X-ray, so the interval of the fall follows from those of both: its ends are as far from it as the ends of
    both together, in squares (R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
    Medicine 17, 1998, method 10).
    Index: metric. Columns: own, elsewhere, fall (own - elsewhere), low, high (of the fall; NaN where either has no interval). What one
    class alone leaves undefined is NaN.

    Raises FractureMaeError for unusable arrays.
    """
    options = {"n_draws": n_draws, "seed": seed, "level": level}
    first, second = (metric_intervals(*sample, **options) for sample in (own, elsewhere))
    difference = first["estimate"] - second["estimate"]
    below = np.hypot(first["estimate"] - first["low"], second["high"] - second["estimate"])
    above = np.hypot(first["high"] - first["estimate"], second["estimate"] - second["low"])
    return pd.DataFrame(
        {
            "own": first["estimate"],
            "elsewhere": second["estimate"],
            "fall": difference,
            "low": difference - below,
            "high": difference + above,
        }
    )


def resampled(label: np.ndarray, group: ArrayLike, *, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each file is taken in the draws of an interval, int64 [chunk, n], until there were n_draws rows."""
    return _draws(*_strata(label, group), n_draws, seed)


def _strata(label: np.ndarray, group: ArrayLike) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the group number of each file [n], and the numbers of the groups without and with a positive file, where there are any."""
    member_of = number_groups(label, group)
    positive = np.bincount(member_of, weights=label) > 0
    return member_of, [groups for groups in (np.flatnonzero(~positive), np.flatnonzero(positive)) if groups.size]


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


def _interval(estimate: float, draws: np.ndarray, scale: Scale, sizes: tuple[int, int], level: float) -> Interval:
    """The interval of an estimate from draws, of groups in all and of the smaller class; no ends where these are too few."""
    n_groups, n_each = sizes
    defined = draws[~np.isnan(draws)]
    if defined.size == 0 or n_each < FEWEST_GROUPS or np.isnan(estimate):
        return Interval(estimate, np.nan, np.nan)
    if scale == "number":
        reach = norm.ppf((1 + level) / 2) * defined.std()
        return Interval(estimate, estimate - reach, estimate + reach)
    if scale == "share" and estimate in (0, 1):
        return wilson(estimate, n_each, level)
    if estimate <= 0:
        return Interval(estimate, np.nan, np.nan)
    to, back = (logit, expit) if scale == "share" else (np.log, np.exp)
    # Draws of exactly 0 or 1 would be infinitely far away; they count as half a pair of X-rays beside.
    least = 1 / (2 * n_groups**2)
    inside = np.clip(defined, min(least, estimate), max(1 - least, estimate) if scale == "share" else None)
    reach = t.ppf((1 + level) / 2, n_each - 1) * to(inside).std()
    low, high = back(to(estimate) + np.array([-reach, reach]))
    return Interval(estimate, float(low), float(high))
