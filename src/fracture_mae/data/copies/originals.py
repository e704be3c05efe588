"""One file for each X-ray: the one that the others were made from, as far as names and sizes tell."""

import numpy as np
import pandas as pd

from fracture_mae.data.copies import groups
from fracture_mae.data.types import XRays


def is_original(table: pd.DataFrame) -> np.ndarray:
    """Which files to take if each X-ray is taken once: bool [n], one of each group.

    A file whose name has no mark of a copy (`12.jpg`) goes before a numbered (`12 (1).jpg`) and a marked one (`12-rotated1.jpg`),
    then a larger picture before a smaller, which may be cropped or scaled down; the smallest sha256 decides the rest, whatever
    the order of the files.

    Args:
        table: columns path, sha256, group, height and width.
    """
    names = groups.parse(table["path"])
    rank = pd.DataFrame(
        {
            "mark": names["marks"].str.len(),
            "number": names["number"] != "",
            "area": -(table["height"].astype("int64") * table["width"].astype("int64")),
            "sha256": table["sha256"],
        }
    )
    first = rank.sort_values(list(rank), kind="stable").groupby(table["group"]).head(1)
    return table.index.isin(first.index)


def one_of_each(xrays: XRays) -> XRays:
    """One file of each X-ray, see `is_original`."""
    return xrays.subset(np.flatnonzero(is_original(xrays.table)))
