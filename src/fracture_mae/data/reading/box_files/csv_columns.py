"""Boxes in the columns of a CSV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data import boxes
from fracture_mae.data.reading import lists
from fracture_mae.data.reading.box_files.drawn import EDGES, Drawn, refuse
from fracture_mae.data.reading.dicom_index import uid_columns
from fracture_mae.errors import FractureMaeError

_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
_EXTENT = ("x", "y", "width", "height")
_COLUMNS = {
    *(boxes.COLUMN, "finding", *_EXTENT, "image_width", "image_height"),
    *(edge for form in _CORNERS for edge in form),
}
WORDS = {*lists.PATH_WORDS, *(lists.word(name) for name in _COLUMNS)}
_FORMS = "x0,y0,x1,y1 or xmin,ymin,xmax,ymax or x,y,width,height"


def has_boxes(columns: Sequence[str]) -> bool:
    """Whether there are columns of boxes among these, so that several rows may be of one picture."""
    there = {name.strip().lower() for name in columns}
    return boxes.COLUMN in there or any(set(form) <= there for form in (*_CORNERS, _EXTENT))


def is_of_boxes(name: str) -> bool:
    """Whether a column of this name is one of boxes, or of the size of the picture that they were measured at."""
    return name.strip().lower() in _COLUMNS


def read(file: Path) -> Drawn | None:
    """The boxes of a CSV, several rows of one picture for several boxes; None where it has no columns of boxes.

    Edges are x0,y0,x1,y1 or xmin,ymin,xmax,ymax or x,y,width,height (of the box), or stand all in one cell of the column boxes, as a
    run's `splits.csv` has them. The size of the picture that they were measured at may stand in image_width,image_height, or where
    these are not the box's own in width,height. Other columns but finding are not looked at.

    Raises:
        FractureMaeError: no CSV, no column that names the picture, or cells that are no numbers; names the lines.
    """
    given = lists.read(file, WORDS, "image,x0,y0,x1,y1").rename(columns=lambda name: name.strip().lower())
    line = given.pop(lists.LINE)
    given = given.apply(lambda column: column.map(lists.bare))
    words = {lists.word(name): name for name in given}
    name = next((words[word] for word in lists.PATH_WORDS if word in words), None)
    if name is None and uid_columns(list(given)) and not has_boxes(list(given)):
        return None  # labels of DICOM files
    if name is None:
        raise FractureMaeError(
            f"{file} has the columns {', '.join(given)}. Expected: path, image or file, and {_FORMS}."
        )
    place = "line " + line.astype(str)
    rows = pd.DataFrame({"name": given[name], "file": str(file), "place": place})
    rows["finding"] = given.get("finding", "")
    refuse(rows, rows["name"] == "", "of no picture", f"a name in the column {name}")
    form = _form(list(given), file)
    if form is None:
        return _in_one_cell(rows, given[boxes.COLUMN], file) if boxes.COLUMN in given else None
    edges = _numbers(rows, given[list(form)], "edges")
    if form == _EXTENT:
        edges = np.concatenate([edges[:, :2], edges[:, :2] + edges[:, 2:]], axis=1)
    rows[EDGES] = edges
    size = next((pair for pair in _sizes(form) if set(pair) <= set(given)), None)
    if size is not None:
        rows[["width", "height"]] = _numbers(rows, given[list(size)], "sizes of pictures")
        refuse(rows, (rows[["width", "height"]] <= 0).any(axis=1), "of pictures without a size", "a width and a height")
    return Drawn.of(str(file), file.parent, rows)


def _form(columns: Sequence[str], file: Path) -> tuple[str, ...] | None:
    """The four columns of edges; None where there are none."""
    there = [form for form in _CORNERS if set(form) & set(columns)]
    if not there and {"x", "y"} <= set(columns):
        there = [_EXTENT]
    missing = [name for form in there for name in form if name not in columns]
    if missing or len(there) > 1:
        found = [name for form in there for name in form if name in columns]
        raise FractureMaeError(
            f"{file} has {', '.join(found)} of the columns of boxes. Expected: all four of one kind, {_FORMS}. Add "
            f"{', '.join(missing) or 'none'}, or take away what is too much."
        )
    return there[0] if there else None


def _sizes(form: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pairs of columns that may hold the size of the picture."""
    return [("image_width", "image_height"), *([] if form == _EXTENT else [("width", "height")])]


def _numbers(rows: pd.DataFrame, texts: pd.DataFrame, what: str) -> np.ndarray:
    """float64 [n, columns], NaN where all cells of a row are empty."""
    given = texts != ""
    texts = texts.replace(r"^([-+]?\d*),(\d+)$", r"\1.\2", regex=True)  # as many countries write them
    columns = ", ".join(texts)
    refuse(rows, given.any(axis=1) & ~given.all(axis=1), f"with empty {what}", f"all of {columns}, or none")
    values = texts.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = pd.Series((given.to_numpy() & ~np.isfinite(values)).any(axis=1), index=rows.index)
    refuse(rows, wrong, f"whose {what} are no numbers", f"numbers in {columns}")
    return values


def _in_one_cell(rows: pd.DataFrame, cells: pd.Series, file: Path) -> Drawn:
    """Boxes as `boxes.to_text` writes them."""
    found = [_parsed(cell) for cell in cells]
    wrong = pd.Series([each is None or not np.isfinite(each).all() for each in found], index=rows.index)
    refuse(rows, wrong, "that cannot be read", "x0 y0 x1 y1; x0 y0 x1 y1; … in shares of the picture")
    rows = rows.assign(edges=[each.tolist() or [[np.nan] * 4] for each in found]).explode("edges", ignore_index=True)
    rows[EDGES] = np.array(rows["edges"].tolist(), dtype=float).reshape(-1, 4)
    return Drawn.of(str(file), file.parent, rows, in_shares=True)


def _parsed(cell: str) -> np.ndarray | None:
    try:
        return boxes.from_text(cell)
    except ValueError:
        return None
