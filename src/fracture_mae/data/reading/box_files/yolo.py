"""Boxes in YOLO's text files: one for each picture, with a line for each box, in shares of the picture.

A line is `class x y width height`, of which x and y are the box's centre, or `class x1 y1 x2 y2 x3 y3 …`, a polygon that the box is
drawn around. An empty file says that none was drawn. The format is that of Ultralytics, https://docs.ultralytics.com/datasets/detect.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data.reading.box_files.drawn import EDGES, Drawn
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

FOLDER = "labels"


def read(label_files: Mapping[str, Path], where: str, *, certain: bool) -> Drawn | None:
    """The boxes of pictures; None where no text file is of this kind.

    Args:
        label_files: name of a picture → its text file.
        where: for messages.
        certain: they are meant to be read so; otherwise, texts of which none has a line that fits are taken for something else,
            with a warning.

    Raises:
        FractureMaeError: a line is not understood; names it.
    """
    rows, errors, n_read = [], [], 0
    for name, file in label_files.items():
        try:
            found = _boxes(file)
        except FractureMaeError as error:
            errors.append(error)
            continue
        n_read += len(found) > 0
        unit = {"name": name, "file": str(file)}
        rows += [
            unit | {"place": place, "finding": finding} | dict(zip(EDGES, box, strict=True))
            for box, finding, place in found
        ]
        if not found:
            rows.append(unit | {"place": "line 1"})
    if errors and (certain or n_read):
        raise errors[0]
    if errors:
        logger.warning("%d text files beside the pictures are no boxes and not read. %s", len(errors), errors[0])
        return None
    return Drawn.of(where, Path(where), pd.DataFrame(rows), in_shares=True) if rows else None


def _boxes(file: Path) -> list[tuple[np.ndarray, str, str]]:
    """Edges [4], class and line of each box."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FractureMaeError(f"{file} is no text that can be read: {error}.") from None
    return [
        (_edges(words, file, number), f"class {words[0]}", f"line {number}")
        for number, words in enumerate((line.split() for line in lines), start=1)
        if words
    ]


def _edges(words: list[str], file: Path, number: int) -> np.ndarray:
    try:
        values = np.array([float(word) for word in words[1:]])
    except ValueError:
        values = np.array([])
    is_box, is_polygon = len(values) == 4, len(values) >= 6 and len(values) % 2 == 0
    if not words[0].isdigit() or not (is_box or is_polygon) or not np.isfinite(values).all():
        raise FractureMaeError(
            f"{file}, line {number}: found {' '.join(words)[:60]!r}. Expected: class x y width height, or class x1 y1 x2 y2 x3 y3 …, "
            "in shares of the picture. Correct it, or leave all boxes out with --boxes none."
        )
    if is_box:
        centre, half = values[:2], values[2:] / 2
        return np.concatenate([centre - half, centre + half])
    points = values.reshape(-1, 2)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
