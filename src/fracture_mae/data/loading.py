"""From files to X-rays: reading, grouping copies, splitting, and pixels from the cache."""

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data import boxes as box_column
from fracture_mae.data import splits
from fracture_mae.data.copies import groups, markers, named, originals, search
from fracture_mae.data.copies.keypoints import KeypointStore
from fracture_mae.data.copies.links import LinkStore, as_table
from fracture_mae.data.reading import cache, decoding, dicom_index, index, preprocessing
from fracture_mae.data.reading.box_files import reading as box_files
from fracture_mae.data.reading.cache import ImageStore, cache_root
from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.hashes import sha256_of, why_closed
from fracture_mae.data.reading.identities import real_path
from fracture_mae.data.types import UNLABELLED, Dataset, Files, Leakage, XRays
from fracture_mae.errors import FractureMaeError, legible

logger = logging.getLogger(__name__)

_SPLITS = {
    "grouped": splits.grouped,
    "published": lambda table, _: splits.published(table),
    "external": lambda table, _: pd.Series("test", index=table.index),
}


def load(
    data_dir: str,
    *,
    image_size: int = 224,
    preprocess: str = preprocessing.LETTERBOX,
    split: str = "grouped",
    split_seed: int = 0,
    group_by: str = "content",
    positive_label: str = "fractured",
    label_names: tuple[str, str] | None = None,
    labels_needed: bool = True,
    num_workers: int | None = None,
    boxes: str = "auto",
) -> Dataset:
    """Read, decode, group and split X-rays.

    Of byte-identical files on one side of a split only the first is kept: a further one costs time and tells nothing.

    Args:
        data_dir: folder, CSV, or the word `synthetic`.
        image_size: side of the squares [pixels].
        preprocess: how a picture becomes a square, one of `preprocessing.PREPROCESSINGS`. Copies are told by the whole pictures.
        split: "grouped", see `splits.grouped`, which keeps what a CSV's column split says; "published", as folders or CSV say; or
            "external": all of them are test, and one class alone is enough.
        group_by: what makes files copies of one X-ray, besides equal bytes and the columns xray and group of a CSV: "content", the
            picture itself, where less evidence is asked for between files of one name family; "names", families of names, no picture
            is looked at; "column", nothing else.
        label_names: of the classifier that is to be judged on them, see `index.read`; None: those of the data.
        labels_needed: False: files that have no two classes are read too, as X-rays without labels, see `index.read_if_labelled`.
        num_workers: threads that decode; None: one for each core.
        boxes: around fractures: "auto", whatever there is beside the files, "none", or where they are, see `box_files.reading.read`.

    Raises:
        FractureMaeError: the data cannot be used; says what was found and what is expected.
    """
    num_workers = num_workers or os.cpu_count()
    if labels_needed:
        table, label_names = index.read(data_dir, positive_label, label_names)
    else:
        table, label_names = index.read_if_labelled(data_dir, positive_label)
    if group_by == "column":
        _check_given_groups(table, data_dir)
    table, pixels, unreadable = read_pictures(table, image_size, preprocess, num_workers)
    table[box_column.COLUMN] = box_files.read(index.root_of(data_dir), table, boxes)
    links = as_table()
    if group_by == "content":
        links = find_links(table, num_workers)
        links = pd.concat([links, find_named_links(table, links, num_workers)], ignore_index=True)
    table, conflicts = _group(table, links, by_name=group_by == "names")
    rejected = pd.concat([unreadable, conflicts], ignore_index=True)
    warn_of(rejected, len(table) + len(rejected))
    _warn_of_large_groups(table)
    _warn_of_joined(table)
    table["identity"] = splits.identity(table)
    table = table.drop(columns=dicom_index.STABLE, errors="ignore")  # it names patients to whoever tries all names
    table["split"] = _SPLITS[split](table, split_seed)
    if split == "grouped":
        splits.check(table)
    if split != "external" and label_names is not None:
        splits.check_labels(table)
    leakage = splits.leakage(table)
    return Dataset(
        name=_name_of(data_dir),
        index=table,
        rejected=rejected,
        **{name: _side(table, name, pixels, "external" if split == "external" else name) for name in splits.NAMES},
        label_names=label_names,
        leakage=leakage,
        fingerprint=fingerprint(table),
        split_fingerprint=_fingerprint(table, ["sha256", "label", "split"]),
        links=links,
        group_by=group_by,
    )


def resplit(dataset: Dataset, train: XRays, validation: XRays, test: XRays) -> Dataset:
    """The same data split otherwise, into sides that share no X-ray."""
    sides = {"train": train, "validation": validation, "test": test}
    index = pd.concat([side.table.assign(split=name) for name, side in sides.items()], ignore_index=True)
    splits.check(index)
    fingerprint = _fingerprint(index, ["sha256", "label", "split"])
    return replace(dataset, index=index, **sides, leakage=Leakage(), split_fingerprint=fingerprint)


def read_files(
    data_dir: str,
    *,
    image_size: int = 224,
    preprocess: str = preprocessing.LETTERBOX,
    positive_label: str = "fractured",
    num_workers: int | None = None,
    boxes: str = "auto",
) -> Files:
    """Read and decode all files, and do nothing else with them; arguments and errors as of `load`."""
    table, label_names = index.read(data_dir, positive_label)
    table, pixels, rejected = read_pictures(table, image_size, preprocess, num_workers or os.cpu_count())
    table = table.drop(columns=dicom_index.STABLE, errors="ignore")
    table[box_column.COLUMN] = box_files.read(index.root_of(data_dir), table, boxes)
    warn_of(rejected, len(table) + len(rejected))
    return Files(_name_of(data_dir), table, rejected, label_names, pixels)


def _name_of(data_dir: str) -> str:
    is_made = data_dir.partition(":")[0] == "synthetic"
    return "synthetic" if is_made else legible(Path(data_dir).expanduser().resolve().stem)


def find_links(table: pd.DataFrame, num_workers: int | None = None) -> pd.DataFrame:
    """The contents that show the same X-ray whatever the files' names, remembered in the cache.

    A set of contents that was searched once keeps its links: no search, no decoding. Of a set that differs from a searched one,
    only the pictures that are new are described and compared. So for a set of contents the result depends neither on names, order
    or threads, nor on what else is in the cache, but in one respect: candidates come from an approximate index, and whether a
    set was searched at once or grew file by file can decide about a pair that barely is, or is not, a candidate.

    Args:
        table: columns path and sha256 of readable files.
        num_workers: threads; None: one for each core.

    Returns:
        Columns of `links.Link`, with a sha256 in a and b: enough pairs to join each group, not all pairs.
    """
    path = table.drop_duplicates("sha256").set_index("sha256")["path"]
    folder = _links_folder()

    def search_all(known: search.Searched) -> pd.DataFrame:
        store = _keypoints()
        options = {"searched": known, "store": store, "num_workers": num_workers or os.cpu_count()}
        return search.find(lambda content: read_picture(path[content]), list(path.index), **options)

    return LinkStore(folder).find(list(path.index), search_all)


def find_named_links(table: pd.DataFrame, links: pd.DataFrame, num_workers: int | None = None) -> pd.DataFrame:
    """The contents of one name family that `links` does not join and whose pictures do not contradict the names, see `named.find`.

    Args:
        table: columns path, sha256 and scope (names are compared within it, such as a label's folder) of readable files.
        links: of `find_links`.
    """
    path = table.drop_duplicates("sha256").set_index("sha256")["path"]
    family = pd.Series(groups.families(table["path"], table["scope"]).to_numpy(), index=table["sha256"])
    store = _keypoints()
    return named.find(
        lambda content: read_picture(path[content]),
        family,
        links,
        store=store,
        num_workers=num_workers or os.cpu_count(),
    )


def find_markers(table: pd.DataFrame, num_workers: int | None = None) -> tuple[list[markers.Marker], int]:
    """The different X-rays that carry the same burnt-in marker, see `markers.find`; one picture of each X-ray is looked at.

    Args:
        table: columns path, sha256, group, height and width of readable files.
    """
    path = table[originals.is_original(table)].drop_duplicates("sha256").set_index("sha256")["path"]
    return markers.find(
        lambda content: read_picture(path[content]),
        list(path.index),
        store=_keypoints(),
        num_workers=num_workers or os.cpu_count(),
    )


def _keypoints() -> KeypointStore:
    return KeypointStore(_links_folder() / "features.bin")


def _links_folder() -> Path:
    """Where features and links are kept; the version tells those of other methods apart."""
    return cache_root() / f"links-v5-decoder-v{decoding.VERSION}"


def read_picture(path: str) -> np.ndarray:
    """uint8 [height, width] of a file that could be decoded a moment ago."""
    try:
        return decode(Path(real_path(path)).read_bytes())
    except (OSError, UnreadableImage) as error:
        raise FractureMaeError(f"{path} cannot be read any more: {error}. Run again.") from None


def _check_given_groups(table: pd.DataFrame, data_dir: str) -> None:
    if (table[["given_patient", "given_xray", "given_group"]] == "").all(axis=None):
        nothing = "its column group is missing or empty, and so are patient and xray"
        found = nothing if Path(data_dir).expanduser().is_file() else "it is no CSV"
        raise FractureMaeError(
            f"--group-by column: {data_dir} gives no groups, {found}. Expected: a CSV whose columns patient and xray say which files "
            "show the same patient, and the same X-ray. Or use --group-by content."
        )


def read_pictures(
    table: pd.DataFrame, image_size: int, preprocess: str, num_workers: int
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """The readable files with sha256, bytes and the cache's list of them; the pixels that `row` points into; the rejected files."""
    store = ImageStore(_images_folder(preprocess), image_size, preprocess)
    table["sha256"] = sha256_of(table["path"], cache_root() / "hashes.csv", num_workers)
    table, unreadable = _set_aside(table, table["sha256"] == "", table["path"].map(why_closed))
    table["bytes"] = table["path"].map(lambda path: os.path.getsize(real_path(path)))
    contents = table.drop_duplicates("sha256").set_index("sha256")["path"]
    table = table.join(store.add(contents, num_workers), on="sha256").assign(preprocess=preprocess)
    table, undecodable = _set_aside(table, table["reason"] != "", table["reason"])
    return table.drop(columns="reason"), store.pixels(), pd.concat([unreadable, undecodable])


def _images_folder(preprocess: str) -> Path:
    """Where squares are kept; the versions tell those of other methods apart."""
    return cache_root() / f"images-v{cache.VERSION}-decoder-v{decoding.VERSION}{preprocessing.suffix(preprocess)}"


def _group(table: pd.DataFrame, links: pd.DataFrame, *, by_name: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The files with group, patient and source, and those rejected because copies of them stand under both labels."""
    copies = [rows_of(links, table), *stated_copies(table)]
    reason = pd.Series("", index=table.index)
    if (table["label"] != UNLABELLED).all():
        reason = groups.label_conflicts(table, groups.assign(table, links=copies, by_name=by_name))
    table, conflicts = _set_aside(table, reason != "", reason)
    # A CSV's group is an X-ray, but one that may have both labels, as a patient may: then it is two X-rays of that patient.
    in_label = given_ids(table, "group", "label_name")
    copies = [rows_of(links, table), *stated_copies(table), groups.same(in_label)]
    table["group"] = groups.assign(table, links=copies, by_name=by_name)
    table["patient"] = _patients(table)
    table["source"] = groups.source_of(table["path"], table["group"], given=table["given_source"])
    return table, conflicts


def given_xray(table: pd.DataFrame) -> pd.Series:
    """What is equal for files that a CSV calls the same X-ray of the same patient; NaN where it does not say."""
    return given_ids(table, "xray", "given_patient")


def stated_copies(table: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows, see `groups.same`, that a CSV calls the same X-ray, and those of DICOM files with one SOPInstanceUID."""
    uid = table["given_uid"] if "given_uid" in table else pd.Series("", index=table.index)
    return [groups.same(given_xray(table)), groups.same(uid.where(uid != ""))]


def given_ids(table: pd.DataFrame, name: str, within: str) -> pd.Series:
    """The values of a CSV's column, told apart within another column; NaN where there is none."""
    return (table[within] + "\n" + table[f"given_{name}"]).where(table[f"given_{name}"] != "")


def _patients(table: pd.DataFrame) -> pd.Series:
    """Whose each file is: X-rays of one patient, or of one group of a CSV, and those that share a copy with them.

    Returns:
        The smallest name that a CSV gives the patient, else the smallest of the X-rays' own: that of the X-ray if nothing is known.
    """
    given = table["given_patient"].where(table["given_patient"] != "")
    group = table["given_group"].where(table["given_group"] != "")
    unnamed = groups.assign(table, links=map(groups.same, (table["group"], given, group)), by_name=False)
    named = given.groupby(unnamed).transform("min")
    return named.where(named.notna(), unnamed)


def _warn_of_joined(table: pd.DataFrame) -> None:
    """Tell of X-rays that a CSV takes for several ones, or for those of several patients, though their files are copies."""
    ids = pd.DataFrame(
        {"xray": given_xray(table), "patient": table["given_patient"].where(table["given_patient"] != "")}
    )
    several = (ids.groupby(table["group"]).nunique() > 1).any(axis=1).sum()
    if several:
        logger.warning(
            "%d X-rays have files to which the CSV gives different values of xray or patient, or DICOM different patients, though they "
            "are copies of one another: each is taken for one X-ray, and its patients for one. Correct the columns, or see links.csv "
            "why they are copies.",
            several,
        )


def rows_of(links: pd.DataFrame, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Links between contents as pairs of row positions, where both are in the table."""
    first = table.drop_duplicates("sha256")
    position = pd.Series(first.index, index=first["sha256"])
    left, right = (position.reindex(links[side]).to_numpy() for side in ("a", "b"))
    there = ~(np.isnan(left) | np.isnan(right))
    return left[there].astype(np.int64), right[there].astype(np.int64)


def warn_of(rejected: pd.DataFrame, n_files: int) -> None:
    if len(rejected):
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in rejected["reason"].value_counts().head(3).items())
        logger.warning("%d of %d files are not used; rejected.csv lists them. %s", len(rejected), n_files, reasons)


def _warn_of_large_groups(table: pd.DataFrame) -> None:
    for number, group in enumerate(groups.large(table["group"]), 1):
        names = [Path(path).name for path in table.loc[table["group"] == group, "path"]]
        logger.warning(
            "%d of %d files count as one X-ray or patient: %s, … The run's data/large_group_%d.png shows some of them. If they "
            "are not, data/links.csv says what joined them; say in a CSV's column xray what belongs together (--group-by column).",
            *(len(names), len(table), ", ".join(names[:3]), number),
        )


def _set_aside(table: pd.DataFrame, unusable: pd.Series, reason: pd.Series | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The usable rows, and path and reason of the others; an error if no row is left."""
    rejected = table[["path"]].assign(reason=reason)[unusable]
    if unusable.all():
        first = rejected.iloc[0]
        raise FractureMaeError(
            f"none of the {len(table)} files can be used; the first, {first['path']}: {first['reason']}."
        )
    return table[~unusable].reset_index(drop=True), rejected


def _side(table: pd.DataFrame, side: str, pixels: np.ndarray, name: str) -> XRays:
    rows = table[table["split"] == side].drop_duplicates("sha256").reset_index(drop=True)
    return XRays(name, rows, pixels, rows["row"].to_numpy(dtype=np.int64))


def fingerprint(table: pd.DataFrame) -> str:
    """16 hexadecimal digits of all contents and their labels."""
    return _fingerprint(table, ["sha256", "label"])


def _fingerprint(table: pd.DataFrame, columns: list[str]) -> str:
    first, *others = columns
    known = table[columns].drop_duplicates().astype(str)
    lines = known[first].str.cat(known[others], sep=" ").sort_values()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
