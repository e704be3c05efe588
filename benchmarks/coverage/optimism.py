"""What the best of many trials is said to be worth, and how often equal encoders are called different, before and after correction

`tune`: trials that are equally good, on 70 fractured and 30 other X-rays, judged as `tune` judges them; the printed figure is the mean
balanced accuracy of the best. Logits are normal; "alike" trials share nine tenths of their variance, as trials of one encoder do.
`compare`: encoders with 16 features of each X-ray, read by a ridge regression in five folds, dealt five times. Before: a paired
bootstrap of the first dealing, each encoder by itself.
"""

from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from fracture_mae.data import folds
from fracture_mae.evaluation import differences
from fracture_mae.metrics import bagged_thresholds, calibration, scores
from fracture_mae.metrics.intervals import paired_difference
from fracture_mae.tuning import kept, optimism
from fracture_mae.tuning.kept import Files
from fracture_mae.tuning.objectives import Objective, judge

N_TRIALS, N_FOLDS, N_DEALINGS = 50, 5, 5
OBJECTIVE = Objective("balanced_accuracy")
_REPEATS_OF_CAMPAIGN = 10  # a campaign takes as long as so many comparisons and more
_N_DRAWS = 400
_N_THRESHOLDS = 60  # draws that a threshold is the mean over; 500 would take eight times as long and say the same
_ALIKE = 0.9
_N_FEATURES, _SHARED, _PENALTY = 16, 0.5, 30.0
_WEAK, _STRONG = 1.0, 1.5  # how far the labels' features lie apart, in standard deviations: AUROC 0.67 to 0.85


def simulate(repeats: int, seed: int) -> pd.DataFrame:
    """Index: who says it, of what. Columns: truth, before, after, and how often the interval after holds the truth.

    Of `tune` a figure, the mean over a tenth of the repeats; of `compare` the share of the repeats in which an encoder is called
    different.
    """
    rows = {(who, what): found for who, what, found in tqdm(_rows(repeats, seed), desc="optimism", unit="row", total=9)}
    columns = ["truth", "before", "after", "interval holds"]
    index = pd.MultiIndex.from_tuples(rows, names=["of", "what"])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns).round(3)


def _rows(repeats: int, seed: int) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    for aimed in (0.5, 0.75):
        for shared, words in ((0.0, "independent"), (_ALIKE, "alike")):
            campaigns = [
                campaign(aimed, shared, seed + number) for number in range(max(1, repeats // _REPEATS_OF_CAMPAIGN))
            ]
            yield "tune", f"{N_TRIALS} equal trials, {words}, best possible {aimed}", tuple(np.mean(campaigns, axis=0))
    cases = [
        ("2 equal encoders, 33 + 15 X-rays", 33, 15, (_WEAK, _WEAK)),
        ("2 equal encoders, 100 + 50 X-rays", 100, 50, (_WEAK, _WEAK)),
        ("4 equal encoders, any of 3, 100 + 50 X-rays", 100, 50, (_WEAK,) * 4),
        ("a better one of 2, 100 + 50 X-rays", 100, 50, (_WEAK, _STRONG)),
        ("a better one of 2, 220 + 90 X-rays", 220, 90, (_WEAK, _STRONG)),
    ]
    for what, n_positive, n_negative, apart in cases:
        called = [comparison(n_positive, n_negative, apart, seed + number) for number in range(repeats)]
        yield "compare", what, (np.nan, *np.mean(called, axis=0), np.nan)


def campaign(aimed: float, shared: float, seed: int, n_trials: int = N_TRIALS) -> tuple[float, float, float, float]:
    """What the best trial of a campaign truly reaches, what was printed, what is printed now, and whether its interval holds the truth.

    Args:
        aimed: balanced accuracy at the best threshold.
        shared: of the variance of a trial's logits, by all trials.
    """
    rng = np.random.default_rng(seed)
    files = xrays(70, 30)
    label, apart = files["label"].to_numpy(), 2 * norm.ppf(aimed)
    noise = np.sqrt(shared) * rng.normal(size=len(files)) + np.sqrt(1 - shared) * rng.normal(
        size=(n_trials, len(files))
    )
    files = files.assign(fold=folds.assign(files, N_FOLDS, seed))
    with patch.object(bagged_thresholds, "N_DRAWS", _N_THRESHOLDS):
        verdicts = [judge(files.assign(logit=apart * label + each), OBJECTIVE, {}) for each in noise]
    of_trials = [
        kept.read(kept.written(files.assign(logit=apart * label + each), verdict.decision), Files.of(files))
        for each, verdict in zip(noise, verdicts, strict=True)
    ]
    best = int(np.argmax([verdict.values[0] for verdict in verdicts]))
    row = optimism.judged(of_trials, best, OBJECTIVE, files, seed=seed).table.loc[OBJECTIVE.name]
    at = (_logit(verdicts[best].threshold) - verdicts[best].intercept) / verdicts[best].slope
    truth = (norm.sf(at - apart) + norm.cdf(at)) / 2
    return truth, row["uncorrected"], row["corrected"], float(row["low"] <= truth <= row["high"])


def comparison(n_positive: int, n_negative: int, apart: tuple[float, ...], seed: int) -> tuple[float, float]:
    """Whether any encoder was called different from the first, and whether it is now.

    Args:
        apart: how far the labels lie apart in the features of each encoder.
    """
    rng = np.random.default_rng(seed)
    label = xrays(n_positive, n_negative)["label"].to_numpy()
    common = rng.normal(size=(len(label), _N_FEATURES))
    logits = []
    for distance in apart:
        own = rng.normal(size=common.shape)
        features = np.sqrt(_SHARED) * common + np.sqrt(1 - _SHARED) * own
        features += distance / np.sqrt(_N_FEATURES) * label[:, None]
        logits.append([_probed(features, label, fold) for fold in _dealings(n_positive, n_negative)])
    first_dealing = [each[0] for each in logits]
    return float(_called_before(label, first_dealing)), float(_called_now(label, logits, n_positive, n_negative))


@cache
def _dealings(n_positive: int, n_negative: int) -> list[np.ndarray]:
    """The folds of each dealing; X-rays of a label are all alike, so that the same dealings do for all samples."""
    return [folds.assign(xrays(n_positive, n_negative), N_FOLDS, number) for number in range(N_DEALINGS)]


def _called_before(label: np.ndarray, logits: list[np.ndarray]) -> bool:
    """By a bootstrap of X-rays, one encoder after the other."""
    first, *others = (calibration.apply(each, 1.0) for each in logits)
    found = [paired_difference(label, other, first, np.arange(len(label)), n_draws=_N_DRAWS) for other in others]
    return any(each["low"] > 0 or each["high"] < 0 for each in found)


def _called_now(label: np.ndarray, logits: list[list[np.ndarray]], n_positive: int, n_negative: int) -> bool:
    dealt = _dealings(n_positive, n_negative)
    of_encoder = {
        f"{number}": [
            float(scores.aurocs(label[fold == part], each[fold == part], np.ones((fold == part).sum())))
            for each, fold in zip(dealings, dealt, strict=True)
            for part in range(N_FOLDS)
        ]
        for number, dealings in enumerate(logits)
    }
    verdicts = differences.from_first(pd.DataFrame(of_encoder), 1 / (N_FOLDS - 1))["verdict"]
    return bool(verdicts.isin([differences.BETTER, differences.WORSE]).any())


def _probed(features: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold logits [n] of a ridge regression."""
    found = np.empty(len(label))
    for number in range(N_FOLDS):
        training, held_out = fold != number, fold == number
        mean = features[training].mean(axis=0)
        known, sign = features[training] - mean, 2.0 * label[training] - 1
        gram = known.T @ known + _PENALTY * np.eye(known.shape[1])
        found[held_out] = (features[held_out] - mean) @ np.linalg.solve(gram, known.T @ (sign - sign.mean()))
    return found


def xrays(n_positive: int, n_negative: int) -> pd.DataFrame:
    """A file for each X-ray, each of a patient of its own."""
    names = [f"{number:04d}" for number in range(n_positive + n_negative)]
    columns = {"path": names, "sha256": names, "group": names, "patient": names, "source": "made"}
    return pd.DataFrame({"label": np.repeat([1, 0], [n_positive, n_negative]), **columns})


def _logit(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))
