"""How often the interval of an AUROC holds what a training reaches on average over its seeds, from one network and from several

Logits are normal. Networks of one training share a part of what they say of an X-ray besides its label, and differ in how far they tell
the labels apart.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from fracture_mae.metrics import delong
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.seeds import over_seeds

SIZES = ((33, 15), (100, 50))
N_SEEDS = (3, 5)
_SHARED = 0.8  # of the variance of logits
_AIMED = 0.8  # AUROC of the average seed
_SPREADS = (0.0, 0.15, 0.3)  # between seeds, of the distance of the labels in standard deviations


def simulate(repeats: int, seed: int) -> pd.DataFrame:
    """Index: X-rays, fractured and other; standard deviation of the true AUROC between seeds. Columns: how often the interval of one
    network holds the mean over all seeds, how often that over some does, and how wide they are on average.
    """
    rows = {}
    cases = [(size, spread) for size in SIZES for spread in _SPREADS]
    for size, spread in tqdm(cases, desc="seeds", unit="row"):
        rng = np.random.default_rng(seed)
        truth, between = _truth(spread)
        found = np.array([_intervals(size, spread, rng) for _ in range(repeats)])
        holds = ((found[..., 0] <= truth) & (truth <= found[..., 1])).mean(axis=0)
        names = ["1 seed", *(f"{k} seeds" for k in N_SEEDS)]
        of_row = {f"{name}: holds": value for name, value in zip(names, holds, strict=True)}
        width = np.ptp(found, axis=-1).mean(axis=0)
        of_row |= {f"{name}: width": value for name, value in zip(names, width, strict=True)}
        rows["{} + {}".format(*size), f"{between:.3f}"] = of_row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["X-rays", "sd between seeds"]).round(3)


def _truth(spread: float) -> tuple[float, float]:
    """Mean and standard deviation of the true AUROC over seeds."""
    distances = _distance() + spread * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    aurocs = norm.cdf(distances / np.sqrt(2))
    return float(aurocs.mean()), float(aurocs.std())


def _distance() -> float:
    return np.sqrt(2) * norm.ppf(_AIMED)


def _intervals(size: tuple[int, int], spread: float, rng: np.random.Generator) -> np.ndarray:
    """The ends for one network, and over each number of seeds, [1 + len(N_SEEDS), 2]."""
    label = np.repeat([1, 0], size)
    n_seeds = max(N_SEEDS)
    noise = np.sqrt(_SHARED) * rng.normal(size=label.size)
    noise = noise + np.sqrt(1 - _SHARED) * rng.normal(size=(n_seeds, label.size))
    distance = _distance() + spread * rng.normal(size=(n_seeds, 1))
    group = np.arange(label.size)
    found = np.array([delong.auroc(label, logit, group) for logit in distance * label + noise], dtype=float)
    first = Interval(*found[0])
    several = [over_seeds(*found[:k].T) for k in N_SEEDS]
    return np.array([[each.low, each.high] for each in (first, *several)])
