"""Calibration: probabilities after a training on balanced classes, and how often what is said of them holds the truth.

"before" is what the project did at first: a temperature alone, the naive calibration error over fifteen bins of equal width,
and percentiles of bootstrap draws. X-rays are binormal: their scores are normal with a distance between the classes that gives an AUROC
of 0.8 (0.9 where it says so), so that the true probability of each is known.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import norm

from fracture_mae.metrics import agreement, calibration

SIZES = (48, 150, 1000)
_PREVALENCE = 0.2
_RIGHT = {"calibration_slope": 1.0, "calibration_in_the_large": 0.0, "observed_to_expected": 1.0}
_DRAWS = 200
_FEWER = 5
_SAMPLES = {
    "69 % fractured": {},
    "69 % fractured, AUROC 0.9": {"auroc": 0.9},
    "20 % fractured": {"prevalence": _PREVALENCE},
    "69 % fractured, 1 to 5 files of an X-ray": {"clustered": True},
}
_FILES = 3  # of an X-ray, at most twice as many less one
_ALIKE = 0.5  # correlation of what files of one X-ray have besides their label


def simulate(repeats: int, seed: int) -> pd.DataFrame:
    """Index: case, figure, and what is right. Columns: before and after, of each number of X-rays.

    Of 1,000 X-rays a fifth of the repeats, and of the bootstrap before a fifth of those.
    """
    rng = np.random.default_rng(seed)
    rows = [row for n in SIZES for row in _shifted(n, _times(n, repeats), rng)]
    rows += list(_separated())
    rows += [row for n in SIZES for row in _perfect(n, _times(n, repeats), rng)]
    for case, options in _SAMPLES.items():
        rows += [row for n in SIZES for row in _covered(case, n, _times(n, repeats), rng, **options)]
    found = pd.DataFrame(rows, columns=["case", "n", "figure", "right", "before", "after"])
    table = found.set_index(["case", "figure", "right", "n"])[["before", "after"]].unstack("n", sort=False)
    table = table.swaplevel(axis=1).reindex(columns=[(n, when) for n in SIZES for when in ("before", "after")])
    return table.set_axis([f"{when}, {n:,}" for n, when in table.columns], axis=1).round(3)


def _times(n: int, repeats: int) -> int:
    return max(1, repeats // _FEWER) if n >= 1000 else repeats


def binormal(
    n: int, prevalence: float, rng: np.random.Generator, *, auroc: float = 0.8, clustered: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, log likelihood ratio of a fracture and group of each file of n X-rays, both classes among them."""
    label = (rng.random(n) < prevalence).astype(int)
    while not 0 < label.sum() < n:
        label = (rng.random(n) < prevalence).astype(int)
    group = np.repeat(np.arange(n), rng.integers(1, 2 * _FILES, n)) if clustered else np.arange(n)
    alike = _ALIKE if clustered else 0.0
    noise = np.sqrt(alike) * rng.normal(size=n)[group] + np.sqrt(1 - alike) * rng.normal(size=group.size)
    distance = np.sqrt(2) * norm.ppf(auroc)
    return label[group], distance * (label[group] * distance + noise) - distance**2 / 2, group


def _shifted(n: int, repeats: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Calibrated on n X-rays, judged on 1,000 others; what a sampler and a class weight add to the log odds is still in the logits."""
    for case, shift in {"classes drawn equally": 0.0, "class_weight=10": np.log(10) + logit(_PREVALENCE)}.items():
        found = []
        for _ in range(repeats):
            label, ratio, _ = binormal(n, _PREVALENCE, rng)
            _, new, _ = binormal(1000, _PREVALENCE, rng)
            true = expit(new + logit(_PREVALENCE))
            sigmoid = calibration.fit_sigmoid(ratio + shift, label)
            for probability in (
                expit((new + shift) / temperature(ratio + shift, label)),
                calibration.apply(new + shift, sigmoid.slope, sigmoid.intercept),
            ):
                found.append((probability.mean(), np.abs(probability - true).mean()))
        before, after = (np.mean(found[start::2], axis=0) for start in (0, 1))
        yield case, n, "mean probability", _PREVALENCE, before[0], after[0]
        yield case, n, "mean distance from the true one", 0.0, before[1], after[1]


def _separated() -> Iterator[tuple]:
    """Fifteen X-rays at logits of about -0.5, and 33 fractured ones at about 0.5."""
    logits = np.concatenate([np.linspace(-0.6, -0.4, 15), np.linspace(0.4, 0.6, 33)])
    label = np.repeat([0, 1], [15, 33])
    sigmoid = calibration.fit_sigmoid(logits, label)
    after = calibration.apply(0.5, sigmoid.slope, sigmoid.intercept)
    yield (
        "logits that separate the classes",
        48,
        "probability at 0.5",
        np.nan,
        expit(0.5 / temperature(logits, label)),
        after,
    )


def _perfect(n: int, repeats: int, rng: np.random.Generator) -> Iterator[tuple]:
    """The calibration error of probabilities that are right."""
    naive, holds, squared = [], [], []
    for _ in range(repeats):
        label, ratio, group = binormal(n, 0.69, rng)
        probability = expit(ratio + logit(0.69))
        naive.append(float(naive_error(label, probability, np.ones(n))))
        draws = rng.multinomial(n, np.full(n, 1 / n), _DRAWS)
        low = np.quantile(naive_error(label, probability, draws), 0.025)
        holds.append(min(low, naive[-1]) <= 0)
        squared.append(agreement.squared_error(label, probability, group))
    error = np.sqrt(np.maximum(squared, 0))
    yield "right probabilities", n, "mean calibration error", 0.0, np.mean(naive), np.mean(error)
    yield "right probabilities", n, "median calibration error", 0.0, np.median(naive), np.median(error)
    yield "right probabilities", n, "mean of its square", 0.0, np.mean(np.square(naive)), np.mean(squared)
    yield "right probabilities", n, "interval holds 0", 0.95, np.mean(holds), np.nan


def _covered(
    case: str, n: int, repeats: int, rng: np.random.Generator, prevalence: float = 0.69, **options
) -> Iterator[tuple]:
    """How often the intervals of right probabilities hold what is right."""
    held: dict[tuple[str, str], list[bool]] = {(name, when): [] for name in _RIGHT for when in ("before", "after")}
    for number in range(repeats):
        label, ratio, group = binormal(n, prevalence, rng, **options)
        probability = expit(ratio + logit(prevalence))
        after = agreement.measure(label, probability, group)
        ends = {("after", name): tuple(after.loc[name, ["low", "high"]]) for name in _RIGHT}
        if number % _FEWER == 0:
            draws = rng.multinomial(n, np.full(n, 1 / n), _DRAWS)[:, group]
            before = bootstrapped(label, probability, draws)
            ends |= {("before", name): tuple(np.nanquantile(before[name], [0.025, 0.975])) for name in _RIGHT}
        for (when, name), (low, high) in ends.items():
            if np.isfinite(after.loc[name, "estimate"]):  # the slope is undefined where the classes are told apart
                held[name, when].append(low <= _RIGHT[name] <= high)
    for name in _RIGHT:
        shares = [np.mean(held[name, when]) for when in ("before", "after")]
        yield (f"intervals, {case}", n, name.replace("_", " "), 0.95, *shares)


def temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """As it was fitted before: least negative log likelihood, within 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - label * scaled))

    bounds = np.log([0.05, 20.0])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x))


def naive_error(label: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The expected calibration error of Guo et al. 2017 under weights [..., n], with fifteen bins of equal width."""
    in_bin = np.searchsorted(np.linspace(0, 1, 16)[1:-1], probability)[:, None] == np.arange(15)
    return np.abs(weight @ (in_bin * (probability - label)[:, None])).sum(axis=-1) / weight.sum(axis=-1)


def bootstrapped(label: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Slope, in the large and observed over expected under each row of weight [draws, n]; NaN where Newton's method does not settle."""
    log_odds = logit(probability)
    ones = np.ones_like(log_odds)
    (large,) = _newton(ones[None], log_odds, label, weight)
    _, slope = _newton(np.stack([ones, log_odds]), 0 * log_odds, label, weight)
    ratio = (weight @ label) / (weight @ probability)
    return {"calibration_slope": slope, "calibration_in_the_large": large, "observed_to_expected": ratio}


def _newton(columns: np.ndarray, offset: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    coefficients, last = np.zeros((len(weight), len(columns))), np.full(len(weight), np.inf)
    pairs = (columns[:, None] * columns).reshape(-1, columns.shape[1])  # [k · k, n]
    for _ in range(25):
        left = last > 1e-6
        fitted = expit(coefficients[left] @ columns + offset)
        gradient = (weight[left] * (label - fitted)) @ columns.T
        curvature = ((weight[left] * fitted * (1 - fitted)) @ pairs.T).reshape(-1, len(columns), len(columns))
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(columns)), gradient[..., None])[..., 0]
        coefficients[left] += step.clip(-1, 1)
        last[left] = np.abs(step).max(axis=1)
    return np.where(last < 1e-3, coefficients.T, np.nan)
