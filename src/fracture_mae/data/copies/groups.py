"""Which files were made from one X-ray."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# What copying, turning and augmenting tools append: `12-rotated1-rotated3 (2) - Copy`, `scan_jpg.rf.HASH` of Roboflow.
# Each of them can be read in one way alone, or names of many marks would be tried in as many ways as there are.
_MARK = (
    r"[ _-]++(?:rotated|rotate|rot|flipped|hflip|vflip|flip|mirrored|copy)(?:[ _-]*+\d++)?+(?:[ _-]++(?=\(|$))?+"
    r"|_(?:jpe?g|png|bmp|tiff?|webp)\.rf\.[0-9a-z]{16,}+"
)
_NAME = re.compile(
    rf"(?P<root>.+?)(?P<number>\s*+\(\d++\))?(?P<marks>(?:{_MARK}|\s*+\(\d++\))*+)", re.IGNORECASE | re.DOTALL
)

_LARGE_SHARE, _LARGE_FILES = 0.05, 20  # of all files, and files: from both on, a group is worth a look
_CLEAR = 0.75  # share of an X-ray's contents under one label from which on the others count as misplaced


def assign(
    table: pd.DataFrame,
    *,
    given: pd.Series | None = None,
    links: Iterable[tuple[np.ndarray, np.ndarray]] = (),
    by_name: bool = True,
) -> pd.Series:
    """The group of each file: files joined by equal bytes, by the group that a CSV gives, by `links`, or by their name's family.

    Args:
        table: columns path, sha256 and scope (names are compared within it, such as a label's folder); index 0, 1, 2, …
        given: groups from a CSV, empty where there is none.
        links: further pairs of row positions, such as of files that show the same picture.
        by_name: whether families of names count, whatever the pictures show.

    Returns:
        Names of groups: the start of the smallest sha256 among the members, whatever the order of rows.
    """
    keys = [table["sha256"]]
    if by_name:
        keys.append(families(table["path"], table["scope"]))
    if given is not None:
        keys.append(given.where(given != ""))
    pairs = [*map(same, keys), *links]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(table), len(table)))
    _, component = connected_components(graph, directed=False)
    return table["sha256"].groupby(component).transform("min").str[:12]


def label_conflicts(table: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Why files cannot be used, empty for those that can: copies of one X-ray stand under both labels.

    Which label is right nobody can tell, so all of them are set aside, two X-rays that differ in a retouched fracture alone too.
    But one file in the wrong folder shall not cost the dozens of copies in the right one: where at least _CLEAR of an X-ray's
    distinct contents stand under one label, only the others are set aside.

    Args:
        table: columns sha256 and label (0 or 1).
        group: of each row.
    """
    contents = table.assign(group=group).drop_duplicates(["sha256", "label"])
    share = pd.crosstab(contents["group"], contents["label"], normalize="index").reindex(columns=[0, 1], fill_value=0)
    own = share.to_numpy()[share.index.get_indexer(group), table["label"]]
    both = "label conflict: copies of this X-ray stand under both labels"
    minority = "label conflict: most copies of this X-ray stand under the other label"
    return pd.Series(np.select([own >= _CLEAR, own > 1 - _CLEAR], ["", both], minority), index=table.index)


def large(group: pd.Series) -> list[str]:
    """The groups that hold so many of all files that a person should look at them, the largest first."""
    sizes = group.value_counts()
    return sizes.index[(sizes >= _LARGE_FILES) & (sizes >= _LARGE_SHARE * len(group))].tolist()


def families(path: pd.Series, scope: pd.Series) -> pd.Series:
    """What is equal for files whose names say that they were made from one X-ray.

    All of `12.jpg`, `12-rotated1-rotated3 (2).jpg`, `12 - Copy.png` and `12 (1).jpg` are one family, and so are a browser's downloads
    `image.jpg`, `image (1).jpg`, `image (2).jpg`, whatever they show: a family is a proposal, which pictures bear out or not. A number
    right behind the root is no mark of a copy where nothing has the bare name: tools that rename many files call them
    `wrist (1)`, `wrist (2)`, …
    """
    parts = parse(path)
    root = scope + "/" + parts["root"]
    numbered = parts["number"] != ""
    bare_exists = root.isin(root[~numbered])
    return root.where(bare_exists, root + parts["number"])


def source_of(path: pd.Series, group: pd.Series, given: pd.Series) -> pd.Series:
    """Where pictures seem to come from: as a CSV says, else by the style of their names.

    A style is the name's root with every number as `0`, and `rotated` where the group holds rotated copies; styles of fewer
    than three groups are called `other`. All files of a group have one source.
    """
    parts = parse(path)
    style = parts["root"].str.replace(r"\d+", "0", regex=True).groupby(group).transform("min")
    rotated = parts["marks"].str.contains("rot", case=False).groupby(group).transform("any")
    style = style.where(~rotated, style + " rotated")
    style = style.where(group.groupby(style).transform("nunique") >= 3, "other")
    return given.groupby(group).transform("max").where(lambda source: source != "", style)


def parse(path: pd.Series) -> pd.DataFrame:
    """Columns root, number and marks of each file's name, empty where it has none: `12`, ` (1)`, `-rotated1 - Copy`."""
    stems = (Path(name).stem for name in path)
    return pd.DataFrame([_NAME.fullmatch(stem).groupdict("") for stem in stems], index=path.index)


def same(keys: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row, first row with the same key) of all rows that have a key."""
    rows = np.flatnonzero(keys.notna())
    _, first, inverse = np.unique(keys.to_numpy(object)[rows], return_index=True, return_inverse=True)
    return rows, rows[first[inverse]]
