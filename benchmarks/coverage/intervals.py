"""How often a 95 % interval holds the truth, on X-rays whose scores are normal in both classes.

Two of three X-rays are fractured, as in the README's test set of 33 and 15. Under "files" an X-ray has one to six files that are
alike (70 % of the variance is its own, and all files count the same), under "patients" a patient has one to three X-rays of any label
that share half of the variance. The threshold is drawn anew for each sample, as a rate that has one true value is covered by a whole
number of outcomes and so now too often, now too rarely (L. Brown, T. Cai and A. DasGupta, "Interval estimation for a binomial
proportion", Statistical Science 16, 2001). `before` is a percentile bootstrap over the same groups.

Of 1,000 repeats, 48 X-rays get 400 samples, 150 get 200 and 1,000 get 100, and differences, falls and strata a quarter of
these: about fifteen minutes of a core. One standard error of a share near 0.95 is 0.011 of 400 samples, 0.015 of 200 and 0.022 of 100.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm
from tqdm import tqdm

from fracture_mae.metrics.intervals import Sample, fall, metric_intervals, paired_difference, resampled
from fracture_mae.metrics.scores import aurocs, decision_metrics, summaries
from fracture_mae.metrics.strata import auroc_within, aurocs_within
from fracture_mae.metrics.thresholds import Counts

N_DRAWS = 250
SIZES = {48: (33, 15), 150: (103, 47), 1000: (687, 313)}
_ROWS = {48: (0.70, 0.80, 0.90, 0.95), 150: (0.80, 0.95), 1000: (0.80, 0.95)}
_SAMPLES = {48: 2.5, 150: 5, 1000: 10}  # the repeats are divided by
_DIFFERENCES = 4  # in one of so many samples
_SHARPENED = 1.3  # factor of the log odds: a model that is too sure
_FINE = (np.arange(2000) + 0.5) / 2000  # quantiles by which expectations are computed
_N_STRATA = 4

# X-rays → label 0/1 [n], score [n], group [n].
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


def distance(auroc: float) -> float:
    """How many standard deviations the classes are apart."""
    return float(np.sqrt(2) * norm.ppf(auroc))


def independent(rng: np.random.Generator, n_positive: int, n_negative: int, auroc: float) -> Drawn:
    label = np.repeat([1, 0], [n_positive, n_negative])
    return label, rng.normal(size=label.size) + distance(auroc) * label, np.arange(label.size)


def files(rng: np.random.Generator, n_positive: int, n_negative: int, auroc: float) -> Drawn:
    xray = np.repeat(np.arange(n_positive + n_negative), rng.integers(1, 7, n_positive + n_negative))
    label = (xray < n_positive).astype(int)
    own = np.sqrt(0.7) * rng.normal(size=n_positive + n_negative)[xray] + np.sqrt(0.3) * rng.normal(size=xray.size)
    return label, own + distance(auroc) * label, xray


def patients(rng: np.random.Generator, n_positive: int, n_negative: int, auroc: float) -> Drawn:
    n = n_positive + n_negative
    label = rng.permutation(np.repeat([1, 0], [n_positive, n_negative]))
    patient = np.repeat(np.arange(n), rng.integers(1, 4, n))[:n]
    own = np.sqrt(0.5) * rng.normal(size=n)[patient] + np.sqrt(0.5) * rng.normal(size=n)
    return label, own + distance(auroc) * label, patient


DESIGNS: dict[str, Callable[..., Drawn]] = {"single": independent, "files": files, "patients": patients}


def probability_of(score: np.ndarray, auroc: float, prevalence: float) -> np.ndarray:
    """What a model says that ranks by the score, and is too sure."""
    apart = distance(auroc)
    return expit(_SHARPENED * (apart * score - apart**2 / 2) + logit(prevalence))


def truth(auroc: float, prevalence: float, threshold: float) -> dict[str, float]:
    """Every metric of infinitely many X-rays; threshold: of the score."""
    positive, negative = norm.ppf(_FINE) + distance(auroc), norm.ppf(_FINE)
    sides = [probability_of(each, auroc, prevalence) for each in (positive, negative)]
    flagged = prevalence * (1 - _FINE), (1 - prevalence) * norm.sf(positive)  # at the threshold of each positive
    sensitivity, specificity = norm.sf(threshold - distance(auroc)), norm.cdf(threshold)
    decided = [sensitivity, 1 - sensitivity], [1 - specificity, specificity]
    counts = Counts(*(prevalence * np.array(decided[0])), *((1 - prevalence) * np.array(decided[1])))

    def mean(of_positive: np.ndarray, of_negative: np.ndarray) -> float:
        return prevalence * of_positive.mean() + (1 - prevalence) * of_negative.mean()

    return {
        "auroc": auroc,
        "average_precision": float((flagged[0] / (flagged[0] + flagged[1])).mean()),
        "brier": mean((1 - sides[0]) ** 2, sides[1] ** 2),
        "log_loss": mean(-np.log(sides[0]), -np.log1p(-sides[1])),
        **{name: float(value) for name, value in decision_metrics(counts).items()},
    }


def percentiles(
    statistics: Callable[[np.ndarray], Mapping[str, np.ndarray]], label: np.ndarray, group: ArrayLike
) -> dict[str, tuple[float, float]]:
    """The ends of the percentile bootstrap: what intervals were before."""
    chunks = [statistics(each.astype(float)) for each in resampled(label, group, n_draws=N_DRAWS, seed=0)]
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return {name: tuple(np.nanquantile(values, [0.025, 0.975])) for name, values in drawn.items()}


def _of_metrics(rng: np.random.Generator, design: str, size: tuple[int, int], auroc: float) -> Iterator[tuple]:
    label, score, group = DESIGNS[design](rng, *size, auroc)
    prevalence = float(label.mean())
    threshold = distance(auroc) - norm.ppf(rng.uniform(0.6, 0.95))
    right = truth(auroc, prevalence, threshold)
    probability = probability_of(score, auroc, prevalence)
    limit = float(probability_of(np.array(threshold), auroc, prevalence))
    after = metric_intervals(label, probability, group, limit, n_draws=N_DRAWS)
    before = percentiles(lambda weight: summaries(label, probability, limit, weight), label, group)
    for name, value in right.items():
        yield name, value, before[name], tuple(after.loc[name, ["low", "high"]])


def _of_differences(rng: np.random.Generator, design: str, size: tuple[int, int], auroc: float) -> Iterator[tuple]:
    """Of two models as good as each other, of a model elsewhere, and within strata that tell the label too."""
    label, score, group = DESIGNS[design](rng, *size, auroc)
    one, other = (score + 0.7 * rng.normal(size=score.size) for _ in range(2))
    paired = paired_difference(label, expit(one), expit(other), group, n_draws=N_DRAWS)

    def difference(weight: np.ndarray) -> dict[str, np.ndarray]:
        return {"difference": aurocs(label, one, weight) - aurocs(label, other, weight)}

    before = percentiles(difference, label, group)["difference"]
    yield "paired difference", 0.0, before, (paired["low"], paired["high"])

    there = DESIGNS[design](rng, *size, 0.7)
    samples = [Sample(each[0], expit(each[1]), each[2], 0.5) for each in ((label, score, group), there)]
    found = fall(*samples, n_draws=2).loc["auroc"]
    drawn = [
        np.concatenate([aurocs(each[0], each[1], w) for w in resampled(each[0], each[2], n_draws=N_DRAWS, seed=seed)])
        for seed, each in enumerate(((label, score, group), there))
    ]
    before = tuple(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))
    yield "fall", auroc - 0.7, before, (found["low"], found["high"])

    stratum = np.arange(group.max() + 1)[group] % _N_STRATA
    shifted = score + stratum
    within = auroc_within(label, {"model": shifted}, group, stratum, n_draws=N_DRAWS).loc["model"]
    before = percentiles(lambda weight: {"within": aurocs_within(label, shifted, stratum, weight)}, label, group)
    yield "within strata", auroc, before["within"], (within["low"], within["high"])


def _covered(design: str, n: int, auroc: float, repeats: int, seed: int) -> Iterator[tuple[str, bool, bool]]:
    rng = np.random.default_rng([seed, n, round(1000 * auroc), sum(design.encode())])
    for number in range(repeats):
        for part in (_of_metrics, _of_differences)[: 1 if number % _DIFFERENCES else 2]:
            for name, value, *ends in part(rng, design, SIZES[n], auroc):
                yield name, *(low <= value <= high for low, high in ends)


def simulate(repeats: int, seed: int) -> pd.DataFrame:
    """A row per design, number of X-rays and true AUROC; of each metric the share of intervals that hold the truth, before / after."""
    kinds = [(design, n, auroc) for design in DESIGNS for n, aurocs_ in _ROWS.items() for auroc in aurocs_]
    rows = {}
    for design, n, auroc in tqdm(kinds, desc="Intervals", unit="row", leave=False):
        answers = _covered(design, n, auroc, max(1, int(repeats / _SAMPLES[n])), seed)
        found = pd.DataFrame(answers, columns=["metric", "before", "after"])
        shares = found.groupby("metric", sort=False).mean()
        rows[design, n, auroc] = {
            name.replace("_", " "): f"{row.before:.3f} / {row.after:.3f}" for name, row in shares.iterrows()
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["X-rays", "n", "AUROC"]).T
