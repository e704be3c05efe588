"""From files to X-rays: reading, grouping copies, splitting, and pixels from the cache."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data import groups, index, splits
from fracture_mae.data.cache import ImageStore, cache_root, sha256_of
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class XRays:
    """The X-ray files of one split.

    Attributes:
        name: "train", "validation" or "test".
        table: a row per file: path, label, label_name, sha256, bytes, height, width, group, source and more.
        pixels: uint8 [N, image_size, image_size], memory-mapped, of all X-rays in the cache.
        rows: int64 [n], where in `pixels` each file of `table` stands.
    """

    name: str
    table: pd.DataFrame
    pixels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def label(self) -> np.ndarray:
        """int64 [n], 1 is positive."""
        return self.table["label"].to_numpy()

    @property
    def group(self) -> np.ndarray:
        """[n], equal for files made from one X-ray."""
        return self.table["group"].to_numpy()

    def images(self, positions: np.ndarray) -> np.ndarray:
        """uint8 [len(positions), image_size, image_size]."""
        return self.pixels[self.rows[positions]]

    def subset(self, positions: np.ndarray) -> "XRays":
        return XRays(self.name, self.table.iloc[positions].reset_index(drop=True), self.pixels, self.rows[positions])


@dataclass(frozen=True)
class Dataset:
    """X-rays, split.

    Attributes:
        name: short name of where they come from.
        index: a row per usable file, byte-identical ones too, see `XRays.table`, with split and split_published.
        rejected: files that are not used: path and reason.
        label_names: of the negative and the positive class.
        leakage: share of X-rays in test that have a file in training or validation too; 0 for the grouped split.
        fingerprint: 16 hexadecimal digits of all contents and their labels.
        split_fingerprint: the same of contents, labels and splits.
    """

    name: str
    index: pd.DataFrame
    rejected: pd.DataFrame
    train: XRays
    validation: XRays
    test: XRays
    label_names: tuple[str, str]
    leakage: float
    fingerprint: str
    split_fingerprint: str


def load(
    data_dir: str,
    *,
    image_size: int = 224,
    split: str = "grouped",
    split_seed: int = 0,
    positive_label: str = "fractured",
    num_workers: int | None = None,
) -> Dataset:
    """Read, decode, group and split X-rays.

    Of byte-identical files on one side of a split only the first is kept: a further one costs time and tells nothing.

    Args:
        data_dir: folder, CSV, or the word `synthetic`.
        image_size: side of the letterboxed pictures [pixels].
        split: "grouped" or "published".
        num_workers: threads that decode; None: one for each core.

    Raises:
        FractureMaeError: the data cannot be used; says what was found and what is expected.
    """
    table, label_names = index.read(data_dir, positive_label)
    table["sha256"] = sha256_of(table["path"], num_workers)
    table, unreadable = _set_aside(table, table["sha256"] == "", "the file cannot be opened")
    table["bytes"] = [Path(path).stat().st_size for path in table["path"]]
    store = ImageStore(cache_root() / "images-v1", image_size)
    contents = table.drop_duplicates("sha256").set_index("sha256")["path"]
    table = table.join(store.add(contents, num_workers), on="sha256")
    table, undecodable = _set_aside(table, table["reason"] != "", table["reason"])
    table["group"] = groups.assign(table, family_scope=table["scope"], given=table["given_group"])
    table["source"] = groups.source_of(table, table["group"])
    torn = table.groupby("group")["label"].transform("nunique") > 1
    table, conflicts = _set_aside(table, torn, "label conflict: copies of this X-ray stand under both labels")
    rejected = pd.concat([unreadable, undecodable, conflicts], ignore_index=True)
    if len(rejected):
        logger.warning("%d of %d files are not used; rejected.csv says why.", len(rejected), len(rejected) + len(table))
    table["split"] = splits.grouped(table, split_seed) if split == "grouped" else splits.published(table)
    if split == "grouped":
        splits.check(table)
    sides = {name: _side(table, name, store.pixels()) for name in splits.NAMES}
    return Dataset(
        name="synthetic" if data_dir.startswith("synthetic") else Path(data_dir).expanduser().resolve().stem,
        index=table,
        rejected=rejected,
        **sides,
        label_names=label_names,
        leakage=splits.leakage(table),
        fingerprint=_fingerprint(table, ["sha256", "label"]),
        split_fingerprint=_fingerprint(table, ["sha256", "label", "split"]),
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


def _side(table: pd.DataFrame, name: str, pixels: np.ndarray) -> XRays:
    rows = table[table["split"] == name].drop_duplicates("sha256").reset_index(drop=True)
    return XRays(name, rows, pixels, rows["row"].to_numpy(dtype=np.int64))


def _fingerprint(table: pd.DataFrame, columns: list[str]) -> str:
    lines = sorted(set(table[columns].astype(str).agg(" ".join, axis=1)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
