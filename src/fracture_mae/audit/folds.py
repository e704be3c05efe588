"""Scores of files by models that were fitted without them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sklearn.metrics
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import references
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import delong, scores

Fold = tuple[np.ndarray, np.ndarray]  # row positions to fit on, and to score
_Level = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Score:
    """How well labels were predicted.

    Attributes:
        auroc, low, high: of all scored files or X-rays, with the 95 % interval that knows patients, see `judging.drawn`.
        folds: the AUROC of each fold; NaN where a fold holds one label alone.
        n_files, n_xrays: that were scored.
    """

    auroc: float
    low: float
    high: float
    folds: tuple[float, ...]
    n_files: int
    n_xrays: int


def check_enough(table: pd.DataFrame, n_folds: int) -> None:
    """Refuse data that have fewer X-rays of a label than there are folds.

    Args:
        table: columns label_name, group and, where it is known, patient.
    """
    n_xrays = drawn(table).groupby(table["label_name"]).nunique()
    if len(n_xrays) < 2 or n_xrays.min() < n_folds:
        found = ", ".join(f"{name!r}: {n:,}" for name, n in n_xrays.items()) or "none"
        raise FractureMaeError(
            f"--n-folds {n_folds}: independent X-rays found: {found}. Expected: at least {n_folds} of each label, copies of one X-ray "
            "counted once and those under both labels not at all. Ask for fewer folds (2 or more), or add X-rays."
        )


def grouped(label: np.ndarray, group: np.ndarray, n_folds: int, seed: int) -> list[Fold]:
    """Folds that have the same share of labels and split no group."""
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(splitter.split(label, label, group))


def fitted(
    model: Pipeline, features: np.ndarray, label: np.ndarray, folds: Iterable[Fold], weight: np.ndarray, progress: str
) -> Iterator[tuple[Pipeline, np.ndarray]]:
    """For each fold, the model fitted without it, and the row positions that it may score.

    Args:
        model: fitted anew for each fold.
        weight: of the files in fitting [n].
        progress: name of the progress bar.
    """
    for fitted_on, scored in tqdm(folds, desc=progress, unit="fold", leave=False):
        yield references.fit(model, features[fitted_on], label[fitted_on], weight[fitted_on]), scored


def score(predictions: pd.DataFrame, folds: Sequence[Fold]) -> dict[str, Score]:
    """How well the scored files (`image`) and X-rays (`xray`, the mean over their files) are told apart.

    Models of different folds answer on different scales, and a fold whose training part has few positives holds many: pooled as
    they are, scores that tell nothing would come out far below 0.5 (G. Forman and M. Scholz, "Apples-to-apples in cross-validation
    studies", SIGKDD Explorations 12, 2010). So what counts is the rank within the fold.

    Args:
        predictions: columns group, label, logit and, where it is known, patient, index 0, 1, 2, …; a group that holds both labels
            counts as two X-rays.
    """
    predictions = predictions.assign(group=one_label_each(predictions))
    parts = [predictions.loc[rows] for _, rows in folds]
    levels: dict[str, _Level] = {"image": lambda table: table, "xray": scores.per_group}
    return {name: _score(parts, level) for name, level in levels.items()}


def _score(parts: list[pd.DataFrame], level: _Level) -> Score:
    by_fold = [level(part) for part in parts]
    ranks = [part.assign(logit=logit(rankdata(part["logit"]) / (len(part) + 1))) for part in by_fold]
    rows = level(pd.concat(ranks, ignore_index=True))  # random folds have files of one X-ray in several of them
    aurocs = tuple(_auroc(part["label"], part["logit"]) for part in by_fold)
    return Score(
        *delong.auroc(rows["label"], rows["logit"], drawn(rows)), aurocs, sum(map(len, parts)), rows["group"].nunique()
    )


def _auroc(label: pd.Series, logit: pd.Series) -> float:
    return float(sklearn.metrics.roc_auc_score(label, logit)) if label.nunique() == 2 else float("nan")


def one_label_each(table: pd.DataFrame) -> pd.Series:
    """The groups, but that one which holds both labels counts as two."""
    mixed = table.groupby("group")["label"].transform("nunique") > 1
    return table["group"].where(~mixed, table["group"] + " " + table["label"].astype(str))
