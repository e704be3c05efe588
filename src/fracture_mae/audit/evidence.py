"""Which evidence joins which files into one X-ray, and X-rays into a patient: bytes, picture, name, and the columns of a CSV."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from tqdm import tqdm

from fracture_mae.data import loading
from fracture_mae.data.copies import groups

SAME_BYTES, SAME_PICTURE, NAME, XRAY = "same bytes", "same picture", "name", "CSV column xray"
COLUMN, PATIENT = "CSV column", "CSV column patient"
# The surest first: what it joined is not asked for again.
_EVIDENCE = (SAME_BYTES, SAME_PICTURE, NAME, XRAY, COLUMN, PATIENT)
_WHERE_GIVEN = (XRAY, PATIENT)  # others are counted even where they join nothing


@dataclass(frozen=True)
class Grouping:
    """What was made from what.

    Attributes:
        table: the files with the columns content_group (by bytes and picture alone), xray (by the name and the CSV's column xray
            too), group (by its column group too) and patient (by its column patient too), each named by the smallest sha256 in it.
        joins: the pairs of files that brought groups together: a and b (row positions), evidence, files (that the join brought
            together).
        counts: evidence → number of groups once it was heard, after all evidence above it.
    """

    table: pd.DataFrame
    joins: pd.DataFrame
    counts: dict[str, int]


def join(table: pd.DataFrame, links: pd.DataFrame, named: pd.DataFrame) -> Grouping:
    """Join files step by step.

    Args:
        table: columns path, sha256, scope (within which names are compared), label_name, given_xray, given_group and given_patient;
            index 0, 1, 2, …
        links: pairs of contents that show the same picture: columns a and b, sha256.
        named: likewise, pairs that names propose and pictures do not contradict.
    """
    forest = DisjointSet(range(len(table)))
    joins, counts, grouped = [], {}, {}
    pairs = dict(zip(_EVIDENCE, _pairs(table, links, named), strict=True))
    for evidence, (left, right) in tqdm(pairs.items(), desc="Grouping files", unit="evidence", leave=False):
        for a, b in zip(right.tolist(), left.tolist(), strict=True):
            if not forest.connected(a, b):
                sizes = forest.subset_size(a), forest.subset_size(b)
                forest.merge(a, b)
                joins.append((a, b, evidence, sum(sizes)))
        if len(left) or evidence not in _WHERE_GIVEN:
            counts[evidence] = forest.n_subsets
        grouped[evidence] = _names(table["sha256"], forest)
    columns = {"content_group": SAME_PICTURE, "xray": XRAY, "group": COLUMN, "patient": PATIENT}
    table = table.assign(**{name: grouped[evidence] for name, evidence in columns.items()})
    return Grouping(table, pd.DataFrame(joins, columns=["a", "b", "evidence", "files"]), counts)


def _pairs(table: pd.DataFrame, links: pd.DataFrame, named: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row positions left and right of the files that each evidence joins."""
    yield groups.same(table["sha256"])
    row = table.reset_index().drop_duplicates("sha256").set_index("sha256")["index"]
    for pairs in (links, named):
        yield row.reindex(pairs["b"]).to_numpy(), row.reindex(pairs["a"]).to_numpy()
    yield tuple(np.concatenate(side) for side in zip(*loading.stated_copies(table), strict=True))
    for name in ("given_group", "given_patient"):
        yield groups.same(table[name].where(table[name] != ""))


def _names(sha256: pd.Series, forest: DisjointSet) -> pd.Series:
    component = [forest[row] for row in range(len(sha256))]
    return sha256.groupby(component).transform("min").str[:12]


def describe(grouping: Grouping, links: pd.DataFrame) -> pd.DataFrame:
    """The links to check, a row each: both paths, the evidence, and how one picture lies on the other where they were compared.

    Args:
        links: that pictures and that names and pictures tell.

    Joins by same bytes are left out: `groups.csv` shows them. All links between pictures are there, and of names and columns those
    that brought files together which their content did not.
    """
    joins = grouping.joins[grouping.joins["evidence"] != SAME_BYTES]
    left, right = (grouping.table.iloc[joins[side]] for side in ("a", "b"))
    named = pd.DataFrame(
        {
            "path_a": left["path"].to_numpy(),
            "path_b": right["path"].to_numpy(),
            "a": left["sha256"].to_numpy(),
            "b": right["sha256"].to_numpy(),
            "evidence": joins["evidence"].to_numpy(),
            "files": joins["files"].to_numpy(),
            "group": left["group"].to_numpy(),
        }
    )
    pictured = named["evidence"].isin([SAME_PICTURE, NAME])
    table = pd.concat([named[pictured].merge(links, on=["a", "b"], how="left"), named[~pictured]], ignore_index=True)
    table = table.rename(columns={"a": "sha256_a", "b": "sha256_b"})
    first = ["path_a", "path_b", "evidence", "method", "files", "group"]
    return table[[*first, *(name for name in table if name not in first)]]
