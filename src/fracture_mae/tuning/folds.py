"""Folds of whole X-rays."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from fracture_mae.data import Dataset, XRays
from fracture_mae.errors import FractureMaeError


def together(dataset: Dataset) -> XRays:
    """The X-rays of training and validation, each content once."""
    sides = (dataset.train, dataset.validation)
    table = pd.concat([side.table for side in sides], ignore_index=True)
    rows = np.concatenate([side.rows for side in sides])
    first = np.flatnonzero(~table["sha256"].duplicated())  # in a published split, copies may stand on both sides
    return XRays("training and validation", table, dataset.train.pixels, rows).subset(first)


def assign(xrays: XRays, n_folds: int, seed: int) -> np.ndarray:
    """The fold of each file, int64 [n]: all files of an X-ray in one, both classes in each.

    Raises:
        FractureMaeError: a class has fewer X-rays than there are folds.
    """
    n_xrays = pd.Series(xrays.group).groupby(xrays.label).nunique()
    if n_xrays.min() < n_folds or len(n_xrays) < 2:
        raise FractureMaeError(
            f"--n-folds {n_folds}: {xrays.name} holds {', '.join(f'{n} X-rays with label {label}' for label, n in n_xrays.items())}, "
            "but each fold needs one of either class. Use fewer folds or more X-rays."
        )
    fold = np.full(len(xrays), -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(xrays.label, xrays.label, xrays.group)):
        fold[held_out] = number
    return fold
