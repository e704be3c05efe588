"""Where fractures are said to be: how many X-rays have boxes, and some of them to be looked at."""

import numpy as np
import pandas as pd

from fracture_mae.audit import figures
from fracture_mae.data import boxes
from fracture_mae.data.types import Files
from fracture_mae.tracking.report import Report

_N_SHOWN = 12


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many boxes there are, and how many X-rays of the positive class have any and have none.

    Args:
        table: columns boxes, label and group.
    """
    n_boxes = boxes.texts_of(table).map(lambda text: len(boxes.from_text(text)))
    of_xray = n_boxes[table["label"] == 1].groupby(table["group"]).max()
    return {
        "boxes": int(n_boxes[~table["sha256"].duplicated()].sum()),
        "xrays_with_boxes": int((of_xray > 0).sum()),
        "fractured_without": int((of_xray == 0).sum()),
    }


def sentence(table: pd.DataFrame) -> str:
    """The same, to be printed."""
    found = counts(table)
    if not found["boxes"]:
        return "boxes: none, so nothing says where fractures are"
    return (
        f"boxes: {found['xrays_with_boxes']:,} fractured X-rays have {found['boxes']:,} boxes, "
        f"{found['fractured_without']:,} have none; see boxes.png"
    )


def show(table: pd.DataFrame, files: Files) -> Report:
    """Some X-rays as a network is shown them, one file of each, with their boxes; nothing where there are none."""
    found = counts(table)
    if not found["boxes"]:
        return Report()
    with_boxes = table[boxes.texts_of(table) != ""].drop_duplicates("group").sort_values("sha256")
    spread = np.unique(np.linspace(0, len(with_boxes) - 1, _N_SHOWN).round().astype(int))
    xrays = files.xrays(with_boxes.iloc[spread])
    sheet = figures.boxes(
        xrays.images(np.arange(len(xrays))),
        xrays.boxes,
        [path.rpartition("/")[2] for path in xrays.table["path"]],
        f"{len(xrays)} of {found['xrays_with_boxes']:,} X-rays with boxes around fractures · {files.name}",
    )
    return Report(metrics={f"boxes/n_{name}": n for name, n in found.items()}, figures={"boxes.png": sheet})
