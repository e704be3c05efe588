"""From whatever holds boxes to boxes of files: units, sizes and names made one, and what does not fit told."""

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data import boxes
from fracture_mae.data.reading.box_files import matching, searching
from fracture_mae.data.reading.box_files.drawn import EDGES, Drawn, is_empty, refuse
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

_ROUNDING, _ROUNDING_PIXELS = (
    0.005,
    1.5,
)  # share of a side, or pixels of it if that is more, by which two edges count as one
_SHAPE = 0.01  # by which the proportions of a picture and of a smaller copy differ, besides the rounding of a pixel


def read(root: Path, files: pd.DataFrame, option: str) -> pd.Series:
    """The boxes of each file as `boxes.to_text` writes them, "" for none; index as of `files`.

    Boxes mean the picture as it is displayed, turned as its EXIF says. Those in pixels of a larger or smaller copy are scaled. A box is
    of a file and of those with equal bytes, not of other copies, which may be turned or cropped.

    Not used, with a warning that counts them: boxes of files that are not there, without any area, or of X-rays that are not of the
    positive class.

    Args:
        root: the folder or CSV that the files were read from.
        files: columns path, sha256, label, height and width of readable files.
        option: "auto": whatever is found at the root and beside the files; "none"; or the path of a CSV, JSON file or folder.

    Raises:
        FractureMaeError: a box cannot be understood, lies outside of its picture, or two places say different things of one file.
    """
    nothing = pd.Series("", index=files.index, dtype=object)
    if option == "none":
        return nothing
    found = searching.beside(root, files) if option == "auto" else searching.named(option, files)
    if not found:
        return nothing
    known = files.drop_duplicates("path").set_index("path")
    placed = pd.concat([_of_files(drawn, files, known) for drawn in found], ignore_index=True)
    if option != "auto" and placed.empty:
        raise FractureMaeError(
            f"--boxes {option}: none of its pictures is among the {len(known):,} X-rays in {root}. Expected: names or paths of these."
        )
    by_path = _agreed(placed, known)
    _warn_of_findings(placed)
    texts = pd.Series([by_path.get(path, "") for path in files["path"]], index=files.index, dtype=object)
    texts = _of_equal_bytes(texts, files)
    unfractured = (texts != "") & (files["label"] == 0)
    _warn(
        files.loc[unfractured, "path"],
        "%d X-rays have boxes and are not of the positive class, the first of them %s: the label counts, their boxes are not used.",
    )
    return texts.where(~unfractured, "")


def _of_files(drawn: Drawn, files: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The boxes, x0 to y1 in shares of their picture, with the columns path, where, file, place and finding."""
    table = drawn.table.assign(path=matching.path_of(drawn, files), where=drawn.where)
    table = table[table["x0"].notna()]
    _warn(
        table.loc[table["path"] == "", "name"].drop_duplicates(),
        "%d pictures with boxes in %s are not among the X-rays, the first of them %s: their boxes are not used.",
        drawn.where,
    )
    table = table[table["path"] != ""]
    empty = is_empty(table)
    _warn(
        table.loc[empty, "file"] + ", " + table.loc[empty, "place"],
        "%d boxes have no width or no height, the first of them in %s: they are not used.",
    )
    table = table[~empty].reset_index(drop=True)
    side = known.loc[table["path"], ["width", "height"]].reset_index(drop=True).astype(float)
    if not drawn.in_shares:
        table = _in_shares(table, side)
    reach = np.maximum(_ROUNDING, (not drawn.in_shares) * _ROUNDING_PIXELS / side.to_numpy())  # [k, 2]
    values = table[EDGES].to_numpy(float).reshape(-1, 2, 2)  # box, corner, x and y
    outside = ((values < -reach[:, None]) | (values > 1 + reach[:, None])).any(axis=(1, 2))
    shape = side.iloc[outside.argmax()].astype(int) if outside.any() else {"width": 0, "height": 0}
    refuse(
        table,
        pd.Series(outside, index=table.index),
        "that reach out of their picture",
        f"edges within it, in shares from 0 to 1 or in pixels; the first one's is {shape['width']} x {shape['height']}",
    )
    table[EDGES] = table[EDGES].clip(0, 1)
    return table[~is_empty(table)]


def _in_shares(table: pd.DataFrame, side: pd.DataFrame) -> pd.DataFrame:
    """Pixels as shares of the picture, or of the picture that they were measured at.

    Raises:
        FractureMaeError: that one is of another shape, so it was cropped, turned or stretched.
    """
    measured = table[["width", "height"]].fillna(side)
    least = np.minimum(measured.min(axis=1), side.min(axis=1))
    shape = (measured["width"] / measured["height"]) / (side["width"] / side["height"])
    other = (shape.clip(lower=1 / shape) - 1 > _SHAPE + 1 / least) if len(table) else pd.Series(dtype=bool)
    if other.any():
        here, there = side[other].iloc[0].astype(int), measured[other].iloc[0].astype(int)
        refuse(
            table,
            other,
            f"measured at {there['width']} x {there['height']} pixels on a picture of {here['width']} x {here['height']}",
            "the size of the picture as it is displayed, or of a copy with the same proportions",
        )
    shares = table[EDGES].to_numpy(float) / np.tile(measured.to_numpy(), 2)
    return table.assign(**dict(zip(EDGES, shares.T, strict=True)))


def _agreed(placed: pd.DataFrame, known: pd.DataFrame) -> dict[str, str]:
    """Path → text of its boxes; those of the first place where several say the same.

    Raises:
        FractureMaeError: two places say different things.
    """
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (path, where) in enumerate(zip(placed["path"], placed["where"], strict=True)):
        rows[path][where].append(row)
    edges, found = placed[EDGES].to_numpy(float), {}
    for path, (first, *others) in ((path, by_place.values()) for path, by_place in rows.items()):
        for other in others:
            reach = np.maximum(_ROUNDING, _ROUNDING_PIXELS / known.loc[path, ["width", "height"]].to_numpy(float))
            if not _alike(edges[first], edges[other], np.tile(reach, 2)):
                one, two = placed.iloc[first[0]], placed.iloc[other[0]]
                raise FractureMaeError(
                    f"{one['file']}, {one['place']}, and {two['file']}, {two['place']}, give different boxes for {path}. Expected: one "
                    "place, or the same in both. Name the one that is right with --boxes."
                )
        found[path] = boxes.to_text(edges[first])
    return found


def _alike(some: np.ndarray, others: np.ndarray, reach: np.ndarray) -> bool:
    """Whether each box [4] of one is one of the other's."""
    near = (np.abs(some[:, None] - others[None]) <= reach).all(axis=-1)
    return bool(near.any(axis=0).all() and near.any(axis=1).all())


def _of_equal_bytes(texts: pd.Series, files: pd.DataFrame) -> pd.Series:
    """The same boxes for all files with the same bytes: those of the first that has any."""
    given = texts.where(texts != "")
    several = given.groupby(files["sha256"]).nunique() > 1
    _warn(
        files.loc[files["sha256"].isin(several.index[several]), "path"],
        "%d files have the same bytes as another and other boxes, the first of them %s: those of the first of equal files count.",
    )
    return given.groupby(files["sha256"]).transform("first").fillna("").astype(object)


def _warn_of_findings(placed: pd.DataFrame) -> None:
    counts = placed.loc[placed["finding"] != "", "finding"].value_counts()
    if len(counts) > 1:
        names = ", ".join(f"{name} ({n:,})" for name, n in counts.head(10).items())
        logger.warning(
            "boxes are of %d kinds, and all count as the place of a fracture: %s. Leave out those that mark something else.",
            *(len(counts), names),
        )


def _warn(what: pd.Series, message: str, *where: str) -> None:
    """Warn of texts, unless there are none: the message takes their number, where they stand, and the first of them."""
    if len(what):
        logger.warning(message, len(what), *where, what.iloc[0])
