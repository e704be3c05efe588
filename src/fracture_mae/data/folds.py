"""Cross-validation: folds of whole X-rays, and what each model is trained, tuned and judged on."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from fracture_mae.data.loading import resplit
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import FractureMaeError

N_INNER_FOLDS = 6  # one of them is for validation: 17 % of the training part, as 15 of the 85 % that are not test
_MOST_STRATA = 10  # by number of files, in each label
_FEWEST_XRAYS = 4  # of a label: of two folds, the one that trains must hold two, one of them for validation


def cross_validation_sets(dataset: Dataset, n_folds: int, seed: int) -> list[Dataset]:
    """The data of each fold's model: its `test` is the fold held out, `train` and `validation` are made from the other folds.

    The folds are made of the training and validation X-rays of `dataset`; its test X-rays are not read.

    Raises:
        FractureMaeError: a label has too few X-rays for so many folds.
    """
    pool = joined(dataset)
    check_enough(pool, max(n_folds, _FEWEST_XRAYS), f"--cross-validate {n_folds}")
    fold = assign(pool.table, n_folds, seed)
    validation = [grouped_validation(pool.table[fold != number], seed) for number in range(n_folds)]
    sets = [
        hold_out(dataset, pool, held_out=fold == number, validation=validation[number]) for number in range(n_folds)
    ]
    if min(_n_xrays(side.table).min() for each in sets for side in (each.train, each.validation, each.test)) == 0:
        raise _too_few(pool, max(n_folds, _FEWEST_XRAYS), f"--cross-validate {n_folds}")
    return sets


def joined(dataset: Dataset) -> XRays:
    """The X-rays of training and validation as one; a published split may hold the same content twice. Test is not read."""
    sides = (dataset.train, dataset.validation)
    table = pd.concat([side.table for side in sides], ignore_index=True)
    rows = np.concatenate([side.rows for side in sides])
    both = XRays("training and validation", table, dataset.train.pixels, rows)
    return both.subset(np.flatnonzero(~table.duplicated("sha256")))


def check_enough(xrays: XRays, n_folds: int, option: str) -> None:
    """Refuse X-rays of which there are fewer of a label than there are folds.

    Args:
        option: that asks for so many folds, as it was typed.

    Raises:
        FractureMaeError: naming the option.
    """
    if _n_xrays(xrays.table, "patient").min() < n_folds:
        raise _too_few(xrays, n_folds, option)


def assign(table: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """The fold of each file, int64 [n], 0 … n_folds - 1; files of one patient are in one.

    scikit-learn's StratifiedGroupKFold deals out X-rays, not files, so that an X-ray with 68 copies does not stand for 68 X-rays;
    strata are the labels, and in each label X-rays with like numbers of files.

    Args:
        table: columns label, group and patient.
    """
    xrays = table.groupby("group", sort=True).agg(
        label=("label", "first"), patient=("patient", "first"), size=("label", "size")
    )
    dealer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    strata = _strata(xrays, n_folds, np.random.default_rng(seed))
    xrays["fold"] = 0
    for number, (_, dealt) in enumerate(dealer.split(xrays, strata, groups=xrays["patient"])):
        xrays.iloc[dealt, xrays.columns.get_loc("fold")] = number
    return table["group"].map(xrays["fold"]).to_numpy(np.int64)


def _strata(xrays: pd.DataFrame, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Codes [n] of label and size: each label's X-rays, ranked by files, cut into parts that can give one to every fold."""
    code = np.empty(len(xrays), dtype=np.int64)
    order = np.lexsort((rng.random(len(xrays)), xrays["size"], xrays["label"]))
    n_codes = 0
    for label in (0, 1):
        ranked = order[xrays["label"].to_numpy()[order] == label]
        parts = np.array_split(ranked, np.clip(len(ranked) // n_folds, 1, _MOST_STRATA))
        for part in parts:
            code[part], n_codes = n_codes, n_codes + 1
    return code


def hold_out(dataset: Dataset, pool: XRays, *, held_out: np.ndarray, validation: np.ndarray) -> Dataset:
    """The data of a model that is judged on a part of `pool`, its `test`.

    Args:
        held_out: bool [n], which files of `pool` these are.
        validation: bool, which of the other files, in their order, are for validation; the rest is for training.
    """
    others = pool.subset(np.flatnonzero(~held_out))
    parts = {
        "train": others.subset(np.flatnonzero(~validation)),
        "validation": others.subset(np.flatnonzero(validation)),
        "test": pool.subset(np.flatnonzero(held_out)),
    }
    return resplit(dataset, **{name: _named(name, part) for name, part in parts.items()})


def grouped_validation(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Which files of a training part are for validation, bool [n]: a sixth of the X-rays, like `assign` makes folds."""
    return assign(table, max(2, min(N_INNER_FOLDS, _n_xrays(table).min())), seed) == 0


def _named(name: str, xrays: XRays) -> XRays:
    return XRays(name, xrays.table, xrays.pixels, xrays.rows)


def _n_xrays(table: pd.DataFrame, unit: str = "group") -> pd.Series:
    """How many there are of each label."""
    return table.groupby("label")[unit].nunique().reindex([0, 1], fill_value=0)


def _too_few(xrays: XRays, needed: int, option: str) -> FractureMaeError:
    counts = xrays.table.groupby("label_name")["patient"].nunique()
    found = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    return FractureMaeError(
        f"{option}: X-rays found in {xrays.name}: {found}, the copies of one and the X-rays of one patient counted once. Expected: "
        f"{needed} or more of each of two labels, so that each fold, and what is left for training, holds both. Take fewer folds, "
        "or add X-rays."
    )
