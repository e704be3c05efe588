"""What a file says of boxes, in one form for all formats."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fracture_mae.errors import FractureMaeError

EDGES = ["x0", "y0", "x1", "y1"]  # left, upper, right and lower
_TEXTS, _NUMBERS = ["name", "finding", "file", "place"], [*EDGES, "width", "height"]
_ROUNDING = 0.01  # by which a share may be beyond 0 or 1


@dataclass(frozen=True)
class Drawn:
    """Boxes of one format from one place.

    Attributes:
        where: file or folder that they were read from, for messages.
        base: folder that relative names of pictures start at.
        table: a row for each box, and one without a box for a picture in which none was drawn. Columns name (of the picture, as
            written), x0, y0, x1, y1 (left, upper, right and lower edge, NaN: no box), width and height (of the picture that they
            were measured at [pixels], NaN: not said), finding, and where it stands: file and place, such as "line 3".
        in_shares: edges are shares of the picture's width and height; otherwise they are pixels.
    """

    where: str
    base: Path
    table: pd.DataFrame
    in_shares: bool

    @classmethod
    def of(cls, where: str, base: Path, table: pd.DataFrame, in_shares: bool | None = None) -> "Drawn":
        """Checked edges.

        Args:
            table: as in `Drawn`; columns that are not known may be missing.
            in_shares: None: told by the values. All within [0, 1] are shares, else all are pixels.

        Raises:
            FractureMaeError: edges stand the wrong way round, or one box is given in shares and another in pixels.
        """
        table = table.reset_index(drop=True).reindex(columns=[*_TEXTS, *_NUMBERS])
        table[_TEXTS] = table[_TEXTS].astype(object).fillna("").astype(str)
        table[_NUMBERS] = table[_NUMBERS].astype(float)
        boxes = table[EDGES].notna().all(axis=1)
        upside_down = boxes & ((table["x1"] < table["x0"]) | (table["y1"] < table["y0"]))
        refuse(
            table, upside_down, "whose right edge lies left of the left one, or whose lower edge above the upper one"
        )
        if in_shares is None:
            in_shares = _are_shares(table, boxes & ~is_empty(table))
        return cls(where, base, table, in_shares)


def is_empty(table: pd.DataFrame) -> pd.Series:
    """Which boxes have no width or no height."""
    return (table["x1"] == table["x0"]) | (table["y1"] == table["y0"])


def refuse(table: pd.DataFrame, wrong: pd.Series, what: str, expected: str = "") -> None:
    """Refuse boxes, naming file and line.

    Args:
        table: columns of `Drawn.table`.
        wrong: which rows.
        what: such as "that lie outside".

    Raises:
        FractureMaeError: there are any.
    """
    if wrong.any():
        first = table[wrong].iloc[0]
        places = ", ".join(table.loc[wrong & (table["file"] == first["file"]), "place"].head(5))
        more = " and more" if wrong.sum() > 5 else ""
        raise FractureMaeError(
            f"{first['file']}: boxes {what}: {places}{more}. Expected: {expected or 'x0 < x1, y0 < y1'}. Correct them, or leave all "
            "boxes out with --boxes none."
        )


def _are_shares(table: pd.DataFrame, boxes: pd.Series) -> bool:
    values = table.loc[boxes, EDGES]
    shares = ((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all(axis=1)
    if shares.any() and not shares.all():
        one, other = (table.loc[values.index[kind]].iloc[0] for kind in (shares, ~shares))
        raise FractureMaeError(
            f"{one['file']}: {one['place']} holds a box in shares of the picture, with all edges between 0 and 1, and {other['place']} "
            "one in pixels. Expected: one unit for all boxes of a file. Convert one of them, or part the file in two."
        )
    return bool(shares.any())
