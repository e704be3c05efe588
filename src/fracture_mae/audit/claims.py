"""What one fixed, quick classifier is worth under a split that leaks, and under one that does not.

The files, the classifier and the number of folds are the same; only who may stand on both sides differs.
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from fracture_mae.audit import folds
from fracture_mae.audit.folds import Fold, Score
from fracture_mae.evaluation import references
from fracture_mae.evaluation.judging import drawn

LEAKY, PUBLISHED, HONEST = "leaky", "published", "honest"


def compare(table: pd.DataFrame, features: np.ndarray, n_folds: int, seed: int) -> dict[str, dict[str, Score]]:
    """Score the classifier on held-out files of each kind of split.

    Args:
        table: all files, byte-identical ones as often as they are there: columns label, group, split_published and, where
            it is known, patient.
        features: [n_files, n_features].

    Returns:
        LEAKY (random folds of files), PUBLISHED (fitted on train, scored on test; where both are published) and HONEST (folds of
        whole patients) → level (`image`, `xray`) → score.
    """
    label = table["label"].to_numpy()
    splits = {
        LEAKY: list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(label, label)),
        PUBLISHED: _published(table),
        HONEST: folds.grouped(label, drawn(table).to_numpy(), n_folds, seed),
    }
    return {name: _score(table, features, parts, name) for name, parts in splits.items() if parts}


def _published(table: pd.DataFrame) -> list[Fold]:
    """One fold, or none if train or test lacks a label."""
    sides = [np.flatnonzero(table["split_published"] == name) for name in ("train", "test")]
    return [tuple(sides)] if all(table["label"].iloc[rows].nunique() == 2 for rows in sides) else []


def _score(table: pd.DataFrame, features: np.ndarray, parts: list[Fold], name: str) -> dict[str, Score]:
    logit, weight = np.full(len(table), np.nan), np.ones(len(table))
    label = table["label"].to_numpy()
    model = references.gradient_classifier()
    for fitted, held_out in folds.fitted(model, features, label, parts, weight, f"Claims: {name} split"):
        logit[held_out] = references.logit(fitted, features[held_out])
    return folds.score(table[["group", "label"]].assign(patient=drawn(table), logit=logit), parts)
