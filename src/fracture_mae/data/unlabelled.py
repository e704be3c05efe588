"""X-rays without labels beside a labelled data set: all train the autoencoder, but for copies and patients of what is held out."""

import logging
import os
from dataclasses import replace

import numpy as np
import pandas as pd

from fracture_mae.data import loading
from fracture_mae.data.copies import groups
from fracture_mae.data.loading import rows_of, stated_copies
from fracture_mae.data.reading import dicom_index, index
from fracture_mae.data.types import Dataset, XRays

logger = logging.getLogger(__name__)

SAVED = ["path", "sha256", "group", "patient", "left_out"]
_HELD_OUT = ("test", "validation")


def add(dataset: Dataset, unlabelled_dir: str, *, image_size: int, num_workers: int | None = None) -> Dataset:
    """The dataset with the X-rays of a folder or CSV, of which no label is read, among those for training.

    Copies are found across both, by the picture itself whatever `dataset.group_by` says, since names and columns of one collection know
    nothing of the other. What is a copy of an X-ray for test or validation, or of the same patient, is left out; copies of one for
    training join its group. The labelled X-rays stay where they are, with the same groups, split and fingerprints.

    Args:
        unlabelled_dir: a folder, in any order, or a CSV with path and perhaps patient, xray and group, whose names mean the same as in
            the labelled data.

    Raises:
        FractureMaeError: there is no file, or none that can be read.
    """
    num_workers = num_workers or os.cpu_count()
    table = index.read_unlabelled(unlabelled_dir, "unlabelled_dir").drop(columns=dicom_index.STABLE, errors="ignore")
    table, pixels, rejected = loading.read_pictures(table, image_size, dataset.preprocess, num_workers)
    loading.warn_of(rejected, len(table) + len(rejected))
    union = pd.concat([dataset.index, table], ignore_index=True)
    links = loading.find_links(union, num_workers)
    among = links[links["a"].isin(table["sha256"]) & links["b"].isin(table["sha256"])]
    named = loading.find_named_links(table, among, num_workers)  # names of one collection say nothing of the other
    links = pd.concat([dataset.links, links, named], ignore_index=True).drop_duplicates(["a", "b"])
    union["group"], union["patient"] = _joined(union, links)
    is_new = np.arange(len(union)) >= len(dataset.index)
    found = union[is_new].reset_index(drop=True)
    found["left_out"] = _left_out(union, is_new, dataset)
    # Names of groups and patients that the labelled X-rays have are kept for them, and given to their copies.
    found["group"] = _known_names(found["group"], union[~is_new]["group"], dataset.index["group"])
    found["patient"] = _known_names(found["patient"], union[~is_new]["patient"], dataset.index["patient"])
    found["source"] = groups.source_of(found["path"], found["group"], given=found["given_source"])
    _tell(found, unlabelled_dir)
    added = found[found["left_out"] == ""]
    train = pd.concat([dataset.train.table, added.assign(split="train")], ignore_index=True)
    return replace(
        dataset,
        train=XRays("train", train, pixels, train["row"].to_numpy(dtype=np.int64)),
        rejected=pd.concat([dataset.rejected, rejected], ignore_index=True),
        links=links,
        unlabelled=found,
    )


def _joined(union: pd.DataFrame, links: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Group and patient of each file, the labelled ones' own joined further where unlabelled ones are copies of several."""
    copies = [rows_of(links, union), *stated_copies(union), groups.same(union["group"])]
    group = groups.assign(union, links=copies, by_name=False)
    given = [union[name].where(union[name] != "") for name in ("given_patient", "given_group")]
    whose = [group, *given, union["patient"]]
    return group, groups.assign(union, links=map(groups.same, whose), by_name=False)


def _left_out(union: pd.DataFrame, is_new: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Why each unlabelled file is not trained on, "" where it is."""
    new, known = union[is_new], union[~is_new]
    reasons = pd.Series("", index=new.index)
    trained = known.loc[known["split"] == "train", "sha256"]
    again = new["sha256"].isin(trained) | new["sha256"].duplicated()
    reasons[again] = "the same bytes as a file for training"
    for side in reversed(_HELD_OUT):  # test, told last, goes before validation
        held_out = known[known["split"] == side]
        reasons[new["patient"].isin(held_out["patient"])] = f"of the patient of a {side} X-ray"
    for side in reversed(_HELD_OUT):
        held_out = known[known["split"] == side]
        reasons[new["group"].isin(held_out["group"])] = f"a copy of a {side} X-ray"
    return reasons.to_numpy()


def _known_names(of_new: pd.Series, of_known: pd.Series, names: pd.Series) -> pd.Series:
    """The names that labelled X-rays had before, the smallest of several, for the unlabelled ones that were joined to them."""
    before = names.reset_index(drop=True).groupby(of_known.to_numpy()).min()
    return of_new.map(before).fillna(of_new)


def _tell(found: pd.DataFrame, unlabelled_dir: str) -> None:
    """A warning, with numbers, of what is left out."""
    if sentence := describe(found):
        logger.warning("%s: %s", unlabelled_dir, sentence)


def describe(found: pd.DataFrame) -> str:
    """What of the unlabelled files is trained on and what is not, in a sentence; "" where all are.

    Args:
        found: `Dataset.unlabelled`.
    """
    counts = found.loc[found["left_out"] != "", "left_out"].value_counts()
    if counts.empty:
        return ""
    told = "; ".join(f"{n:,} {reason}" for reason, n in counts.items())
    return f"{counts.sum():,} of {len(found):,} unlabelled files are left out, unlabelled.csv lists them: {told}."
