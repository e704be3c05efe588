"""How often the true sensitivity is as high as wanted at a threshold chosen for it, as the ordinary choice has it and assured.

Scores of fractured and other X-rays are two normal distributions (AUROC 0.85), so that the true rates of a threshold are known; of each
validation set 15 X-rays to 33 fractured ones are not fractured, as in the README's test set.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm

from fracture_mae.metrics import assurance, bagged_thresholds

N_FRACTURED = (34, 60, 150, 300)
SENSITIVITIES = (0.90, 0.95, 0.99)
ASSURANCE = 0.95
AUROC = 0.85
_SEPARATION = np.sqrt(2) * norm.ppf(AUROC)
_OTHERS_TO_FRACTURED = 15 / 33


def simulate(repeats: int, seed: int) -> pd.DataFrame:
    """A row for each size and wanted sensitivity.

    Columns: needed (fractures, for an assurance of 0.95); of the ordinary choice, before, and of the assured one: `reached`, the share
    of samples in which the true sensitivity is as high as wanted, and the mean true specificity; refused, the share of samples without
    an assured threshold, which the figures of the assured one leave out.
    """
    rows = [
        {
            "fractures": n,
            "sensitivity": least,
            "needed": assurance.needed(least, ASSURANCE),
            **_row(n, least, repeats, seed),
        }
        for n in N_FRACTURED
        for least in SENSITIVITIES
    ]
    return pd.DataFrame(rows).set_index(["fractures", "sensitivity"]).round(3)


def _row(n: int, least: float, repeats: int, seed: int) -> dict[str, float]:
    chosen = pd.DataFrame(_thresholds(n, least, repeats, seed), columns=["before", "assured"])
    found = {}
    for name, thresholds in chosen.items():
        score = logit(thresholds.dropna().to_numpy(dtype=float))
        reached = norm.cdf(_SEPARATION - score) >= least
        found[f"{name}: reached"] = reached.mean() if score.size else np.nan
        found[f"{name}: specificity"] = norm.cdf(score).mean() if score.size else np.nan
    return found | {"refused": chosen["assured"].isna().mean()}


def _thresholds(n: int, least: float, repeats: int, seed: int) -> Iterator[tuple[float, float | None]]:
    """The ordinary threshold and the assured one for each sample."""
    label = np.repeat([1, 0], [n, round(n * _OTHERS_TO_FRACTURED)])
    xray = np.arange(label.size)
    for number in range(repeats):
        rng = np.random.default_rng([seed, n, number])
        probability = expit(rng.normal(_SEPARATION * label, 1))
        options = {"min_sensitivity": least, "n_draws": bagged_thresholds.N_DRAWS}
        before = bagged_thresholds.choose(label, probability, "specificity_at_sensitivity", xray, **options)
        yield before, assurance.choose(label, probability, xray, min_sensitivity=least, assurance=ASSURANCE)
