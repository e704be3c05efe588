"""Which files were made from one X-ray."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# What copying and turning tools append to a name: `12-rotated1-rotated3 (2) - Copy` belongs to the family `12`.
_SUFFIXES = re.compile(
    r"(?:[ _-]+(?:rotated|rotate|rot|flipped|flip|mirrored|copy)[ _-]*\d*|\s*\(\d+\))+$", re.IGNORECASE
)


def family(name: str) -> str:
    """A file's name without its ending and without what copying and turning append to it."""
    stem = Path(name).stem
    return _SUFFIXES.sub("", stem) or stem


def assign(
    table: pd.DataFrame,
    *,
    family_scope: pd.Series,
    given: pd.Series,
    links: Iterable[tuple[np.ndarray, np.ndarray]] = (),
) -> pd.Series:
    """The group of each file: files joined by content, by the group that a CSV gives, by their name's family, or by `links`.

    Args:
        table: columns path, sha256 and label_name.
        family_scope: within which names are compared, such as the label's folder.
        given: groups from a CSV, empty where there is none.
        links: further pairs of row positions.

    Returns:
        Names of groups: the start of the smallest sha256 among the members.
    """
    names = family_scope + "/" + table["path"].map(family)
    pairs = [_same(table["sha256"]), _same(names), _same(given.where(given != "")), *links]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(table), len(table)))
    _, component = connected_components(graph, directed=False)
    return table["sha256"].groupby(component).transform("min").str[:12]


def source_of(table: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Where pictures seem to come from, by the style of their names: digits as `0`, a mark for rotated copies.

    All files of a group have one source. Styles of fewer than three groups are called `other`.
    """
    style = table["path"].map(family).str.replace(r"\d+", "0", regex=True)
    rotated = table["path"].str.contains("rotate", case=False).groupby(group).transform("any")
    first = (
        style.groupby(group).transform("first").where(~rotated, style.groupby(group).transform("first") + " rotated")
    )
    n_groups = group.groupby(first).transform("nunique")
    return first.where(n_groups >= 3, "other")


def _same(keys: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row, first row with the same key); rows without a key are left alone."""
    known = keys.dropna()
    first = known.groupby(known).transform(lambda rows: rows.index[0])
    return known.index.to_numpy(), first.to_numpy(dtype=np.int64)
