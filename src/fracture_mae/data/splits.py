"""Training, validation and test: whole X-rays only, each label's share in each."""

from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError

NAMES = ("train", "validation", "test")
FRACTIONS = (0.70, 0.15, 0.15)


def grouped(table: pd.DataFrame, seed: int) -> pd.Series:
    """A seeded split into 70/15/15 % in which all files of a group stand on one side.

    Groups are taken label by label, the largest first and those of like size in random order, and each goes to the split that
    lacks most: so each split gets its share of X-rays, of files, and of the few X-rays that have very many copies.

    Args:
        table: columns label, group and sha256.

    A group that holds both labels, such as a patient with one broken wrist, counts as positive.

    Raises:
        FractureMaeError: a label has fewer than three X-rays.
    """
    n_groups = table.groupby("label")["group"].nunique()
    if n_groups.min() < len(NAMES):
        counts = ", ".join(f"label {label}: {n}" for label, n in n_groups.items())
        raise FractureMaeError(
            f"too few X-rays to split into {', '.join(NAMES)}: {counts}. Expected: three or more of each label, "
            "copies of one X-ray and X-rays of one group counted once."
        )
    groups = table.groupby("group", sort=True).agg(label=("label", "max"), size=("sha256", "nunique"))
    rng = np.random.default_rng(seed)
    side: dict[str, str] = {}
    for _, members in groups.groupby("label"):
        side |= _assign(members, rng)
    return table["group"].map(side)


def _assign(members: pd.DataFrame, rng: np.random.Generator) -> dict[str, str]:
    size_bin = np.log2(members["size"]).astype(int)
    order = np.lexsort((rng.random(len(members)), -size_bin))
    # Of fewer than five X-rays, 70/15/15 would leave a side empty.
    wanted = np.array(FRACTIONS) if len(members) >= 5 else np.full(len(NAMES), 1 / len(NAMES))
    got = np.zeros(len(NAMES))
    side = {}
    for taken, row in enumerate(order, start=1):
        lack = wanted * taken - got
        chosen = int(np.argmax(lack + 1e-9 * rng.random(len(NAMES))))
        got[chosen] += 1
        side[members.index[row]] = NAMES[chosen]
    return side


def published(table: pd.DataFrame) -> pd.Series:
    """The split that the folders or the CSV state.

    Raises:
        FractureMaeError: it is not stated for all files, or one of the three is missing.
    """
    stated = table["split_published"]
    missing = [name for name in NAMES if not (stated == name).any()]
    if missing or (stated == "").any():
        raise FractureMaeError(
            f"--split published: {(stated == '').sum():,} files belong to no split and {', '.join(missing) or 'none'} is missing. "
            "Expected: folders train, val and test, or a CSV whose column split says so for each row. Or use --split grouped."
        )
    return stated


def leakage(table: pd.DataFrame) -> Leakage:
    """What a split lets through: X-rays of test with a file in training or validation too, and of validation with one in training."""
    train, validation, test = (table.loc[table["split"] == name, "group"].unique() for name in NAMES)
    return Leakage(with_label=_share(test, np.concatenate([train, validation])), validation=_share(validation, train))


def _share(groups: np.ndarray, others: np.ndarray) -> float:
    """Of the groups that are among others; 0 of none, as where an audited collection has no validation."""
    return float(np.isin(groups, others).mean()) if len(groups) else 0.0


def check(table: pd.DataFrame) -> None:
    """Refuse a split in which a group stands on two sides."""
    sides = table.groupby("group")["split"].nunique()
    if (sides > 1).any():
        raise FractureMaeError(
            f"{(sides > 1).sum()} X-rays stand on two sides of the split, the first of them {sides.idxmax()}."
        )


def check_labels(table: pd.DataFrame) -> None:
    """Refuse a split of which a side lacks a label: nothing could be learned, or measured, there."""
    counts = table.groupby(["split", "label"])["group"].nunique().unstack(fill_value=0)
    counts = counts.reindex(index=NAMES, columns=[0, 1], fill_value=0)
    if (counts == 0).any(axis=None):
        found = "; ".join(f"{side}: {row[0]:,} negative, {row[1]:,} positive" for side, row in counts.iterrows())
        raise FractureMaeError(
            f"X-rays found: {found}. Expected: both labels in each of {', '.join(NAMES)}. Add X-rays, or split them otherwise."
        )


def save(table: pd.DataFrame, file: Path) -> None:
    """Write who stands where: path, sha256, label_name, group, source, split."""
    table[["path", "sha256", "label_name", "group", "source", "split"]].to_csv(file, index=False)
