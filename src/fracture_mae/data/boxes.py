"""Boxes around fractures: how a table of files carries them, and where they lie in the square that a network is shown."""

import hashlib

import numpy as np
import pandas as pd

COLUMN = "boxes"  # of the table of files, see `to_text`
_SCALE, _START = ["scale_x", "scale_y"] * 2, ["left", "top"] * 2  # columns of `Placement`, for two corners
_NONE = np.empty((0, 4))
_DIGITS = 6  # of a share: a hundredth of a pixel of the largest pictures


def to_text(boxes: np.ndarray) -> str:
    """Boxes as a cell of a table: "x0 y0 x1 y1", several with "; " between them, "" for none.

    Args:
        boxes: [k, 4], left, upper, right and lower edge in shares of the picture's width and height, as it is displayed.
    """
    return "; ".join(" ".join(f"{value:.{_DIGITS}g}" for value in box) for box in np.asarray(boxes).tolist())


def from_text(text: str) -> np.ndarray:
    """What `to_text` wrote: float64 [k, 4]."""
    return np.array([box.split() for box in text.split(";") if box.strip()], dtype=np.float64).reshape(-1, 4)


def texts_of(table: pd.DataFrame) -> pd.Series:
    """The column of boxes; "" for files of a table that has none."""
    return table[COLUMN].fillna("") if COLUMN in table else pd.Series("", index=table.index, dtype=object)


def fingerprint(table: pd.DataFrame) -> str:
    """16 hexadecimal digits of the boxes of all contents; "" where there are none."""
    texts = texts_of(table)
    lines = table["sha256"].str.cat(texts, sep=" ")[texts != ""].drop_duplicates().sort_values()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if len(lines) else ""


def in_square(table: pd.DataFrame, size: int) -> np.ndarray:
    """The boxes of each file in shares of its stored square: float32 [n, M, 4], NaN where a file has fewer than M.

    What the square does not show of a box is cut off; a box that it does not show at all is none.

    Args:
        table: columns boxes, height, width and those of `Placement`.
        size: side of the squares [pixels].
    """
    found = [from_text(text) if text else _NONE for text in texts_of(table)]
    row = np.repeat(np.arange(len(found)), [len(boxes) for boxes in found])
    if not len(row):
        return np.full((len(table), 0, 4), np.nan, np.float32)
    scale, start = (table[names].to_numpy(float)[row] for names in (_SCALE, _START))
    in_pixels = np.concatenate(found) * table[["width", "height"] * 2].to_numpy(float)[row]
    edges = ((in_pixels * scale + start) / size).clip(0, 1)
    shown = (edges[:, 2:] > edges[:, :2]).all(axis=1)
    row, edges = row[shown], edges[shown]
    number = pd.Series(row).groupby(row).cumcount().to_numpy()  # of a box among those of its file
    padded = np.full((len(table), number.max(initial=-1) + 1, 4), np.nan, np.float32)
    padded[row, number] = edges
    return padded
