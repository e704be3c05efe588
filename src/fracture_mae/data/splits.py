"""Training, validation and test: whole patients only, each label's share in each."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data import attributes, boxes
from fracture_mae.data.copies.originals import is_original
from fracture_mae.data.reading.dicom_index import STABLE
from fracture_mae.data.types import UNLABELLED, Leakage
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

NAMES = ("train", "validation", "test")
FRACTIONS = (0.70, 0.15, 0.15)
SAVED = ["path", "sha256", "label_name", "group", "patient", "source", "split"]

_MANY = 8  # files from which on X-rays are dealt out for themselves: few of them hold most files of some public sets
_TOLERANCE, _TOLERANCE_OF_MANY = 2.0, 1.25  # standard deviations of the number that chance alone gives to a side


def grouped(table: pd.DataFrame, seed: int) -> pd.Series:
    """A split into 70/15/15 % that stays: a patient stands on one side, and what is added leaves the others where they are.

    Of each patient's identity, or the X-ray's where nothing is known of patients, a hash keyed by the seed makes a number u in [0, 1):
    below 0.15 is test, from 0.85 on validation, between them training, so that none knows of any other. Only where chance gives test
    or validation too few or too many of a label, by more than two standard deviations (of 160 24 ± 9), or of those of eight or more
    files by more than 1.25 (of 40 6 ± 2), the cut is moved over just as many as that takes; and so that each side has a tenth of each
    label at least, and in small sets one of three, two of eight. On average 160 X-rays beside 320 move one of these, and one X-ray
    hardly ever any. Exact shares could not stay: what is dealt out exactly among all is as uneven as chance among those that were
    there before.

    What a CSV's column split says is kept, and the others are dealt out so that all together come near these shares. Where it puts
    files of one patient on several sides, test goes before validation and validation before training, the only order in which nothing
    that was to be held out is trained on; a warning says how often.

    Args:
        table: columns label (one for all where there are none), patient, identity (see `identity`), sha256 and given_split ("" where
            it is not stated).

    A patient with both labels, such as one with one broken wrist, counts as positive.

    Raises:
        FractureMaeError: a label has fewer than three X-rays.
    """
    n_patients = table.groupby("label")["patient"].nunique()
    if n_patients.min() < len(NAMES):
        counts = ", ".join(
            f"{n} without a label" if label == UNLABELLED else f"label {label}: {n}" for label, n in n_patients.items()
        )
        raise FractureMaeError(
            f"too few X-rays to split into {', '.join(NAMES)}: {counts}. Expected: three or more of each label, "
            "copies of one X-ray and X-rays of one patient counted once."
        )
    patients = table.groupby("patient", sort=True).agg(
        label=("label", "max"), identity=("identity", "min"), size=("sha256", "nunique")
    )
    patients["given"] = _given(table)
    patients["u"] = [_uniform(name, seed) for name in patients["identity"]]
    patients["side"] = patients["given"]
    for _, members in patients.groupby("label"):
        patients.loc[members.index, "side"] = _deal(members)
    return table["patient"].map(patients["side"])


def identity(table: pd.DataFrame) -> pd.Series:
    """By what a split knows each file's patient whatever is added: the name that a CSV gives, else the X-ray's original's sha256.

    Of a CSV's names the patient's goes before that of the group, and this before that of the X-ray; of several the smallest counts.

    The original is the one of `is_original`: so turned, cropped and numbered copies that are added (`12-rotated1.jpg`, `12 (1).jpg`),
    and smaller pictures under any name, leave an X-ray where it is; so do other folders, and other names as long as they mark no
    other files as copies. It can change, and then the X-ray may move, by a copy that is as large and has a name without such a mark,
    by a larger one without it, by names that say otherwise which file is the copy, where the original is taken away, and where a CSV
    names it anew or two patients turn out to be one.

    Args:
        table: columns path, sha256, group, patient, height, width, given_patient, given_group and given_xray; of DICOM files also
            `dicom_index.STABLE`, by which a patient is known on every machine, and which goes before given_patient.
    """
    original = table["sha256"].where(is_original(table)).groupby(table["group"]).transform("first")
    known = original
    for name in ("given_xray", "given_group", STABLE if STABLE in table else "given_patient"):
        given = table[name].where(table[name] != "").groupby(table["patient"]).transform("min")
        known = given.where(given.notna(), known)
    return known


def _uniform(name: str, seed: int) -> float:
    """A number in [0, 1), as good as drawn at random for each name and seed."""
    digest = hashlib.blake2b(name.encode(), key=str(seed).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _given(table: pd.DataFrame) -> pd.Series:
    """The side that each patient is given, "" for none; index: patient. Of several the one that is held out most."""
    stated = table.loc[table["given_split"] != "", ["patient", "given_split"]].drop_duplicates()
    rank = stated["given_split"].map({name: place for place, name in enumerate(NAMES)})
    n_torn = int((stated["patient"].value_counts() > 1).sum())
    if n_torn:
        logger.warning(
            "%d X-rays or patients have files on several sides by the CSV's column split: all their files are for test, or else for "
            "validation, where one of them is. Empty the column where they may stand anywhere; split=published keeps the leaks.",
            n_torn,
        )
    held_out = rank.groupby(stated["patient"]).max().map(dict(enumerate(NAMES)))
    return held_out.reindex(sorted(table["patient"].unique())).fillna("")


def _deal(members: pd.DataFrame) -> pd.Series:
    """The side of each patient of one label: columns given, u and size."""
    side = members["given"].copy()
    many = members["size"] >= _MANY
    for part, tolerance in ((many, _TOLERANCE_OF_MANY), (~many, _TOLERANCE)):
        if not part.any():
            continue
        among = part | many  # those of many files are dealt out first, and then their surplus counts among all
        free = members.index[part & (members["given"] == "")]
        u = members.loc[free, "u"].sort_values(kind="stable")
        fewest = 0 if among.sum() < among.size else _fewest(among.size)
        bounds = _bounds(int(among.sum()), tolerance, fewest)
        counts = {}
        for name, natural in (("test", (u < FRACTIONS[2]).sum()), ("validation", (u >= 1 - FRACTIONS[1]).sum())):
            low, high = (end - (side[among] == name).sum() for end in bounds)
            counts[name] = int(np.clip(natural, low, high).clip(0, len(u)))
        while sum(counts.values()) > max(0, len(u) + (side[among] == "train").sum() - fewest):
            counts[max(counts, key=counts.get)] -= 1
        side[u.index] = "train"
        side[u.index[: counts["test"]]] = "test"
        side[u.index[len(u) - counts["validation"] :]] = "validation"
    return side


def _bounds(n: int, tolerance: float, fewest: int) -> tuple[int, int]:
    """The least and the most of n patients that may be for test, or for validation."""
    share = FRACTIONS[2]
    reach = max(1.0, tolerance * np.sqrt(n * share * (1 - share)))
    low = max(int(np.ceil(n * share - reach)), fewest)
    return low, max(int(np.floor(n * share + reach)), low)


def _fewest(n: int) -> int:
    """Of n patients of a label, the least on a side."""
    return max(n // 10, 2 if n >= 8 else int(n >= len(NAMES)))


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
    """What a split lets through: X-rays of test whose patient is in training or validation too, and of validation with one in training.

    Args:
        table: columns group, patient and split.
    """
    train, validation, test = (table[table["split"] == name] for name in NAMES)
    return Leakage(with_label=_share(test, pd.concat([train, validation])), validation=_share(validation, train))


def _share(files: pd.DataFrame, others: pd.DataFrame) -> float:
    """Of the X-rays whose patient is among others; 0 of none, as where an audited collection has no validation."""
    xrays = files.drop_duplicates("group")
    return float(xrays["patient"].isin(others["patient"]).mean()) if len(xrays) else 0.0


def check(table: pd.DataFrame) -> None:
    """Refuse a split in which a patient, or an X-ray of nobody known, stands on two sides."""
    sides = table.groupby("patient")["split"].nunique()
    if (sides > 1).any():
        raise FractureMaeError(
            f"{(sides > 1).sum()} X-rays or patients stand on two sides of the split, the first of them {sides.idxmax()}."
        )


def check_labels(table: pd.DataFrame) -> None:
    """Refuse a split of which a side lacks a label: nothing could be learned, or measured, there."""
    counts = table.groupby(["split", "label"])["group"].nunique().unstack(fill_value=0)
    counts = counts.reindex(index=NAMES, columns=[0, 1], fill_value=0)
    if (counts == 0).any(axis=None):
        found = "; ".join(f"{side}: {row[0]:,} negative, {row[1]:,} positive" for side, row in counts.iterrows())
        raise FractureMaeError(
            f"X-rays found: {found}. Expected: both labels in each of {', '.join(NAMES)}. Add X-rays, or split "
            "them otherwise: what a CSV's column split says is kept, so empty it in rows that may stand on any side."
        )


def save(table: pd.DataFrame, file: Path) -> None:
    """Write who stands where, see `saved`: a CSV that can be read as data."""
    saved(table).to_csv(file, index=False)


def saved(table: pd.DataFrame) -> pd.DataFrame:
    """The columns SAVED, boxes where any file has one, and of a CSV's other columns those by which classifiers are judged apart.

    No others: they may hold a report's text, which has no business among the artifacts of every run.
    """
    texts = boxes.texts_of(table)
    others = {name: attributes.texts(table, name) for name in attributes.known(attributes.names(table))}
    return table[SAVED].assign(**({boxes.COLUMN: texts} if (texts != "").any() else {}), **others)
