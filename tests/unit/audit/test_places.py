from dataclasses import replace

import numpy as np
import pandas as pd

from fracture_mae.audit import places
from fracture_mae.data.types import Files
from tests import builders

ONE, TWO = "0.25 0.25 0.5 0.75", "0 0 0.5 0.5; 0.5 0.5 1 1"


def files_of(texts, label, group=None):
    xrays = builders.xrays("audited", label, group)
    xrays = replace(xrays, table=xrays.table.assign(boxes=texts, row=np.arange(len(texts))))
    return Files("audited", xrays.table, pd.DataFrame(), ("not fractured", "fractured"), xrays.pixels)


def test_boxes_are_counted_by_xray():
    """Two fractured X-rays of two files each, of which three have boxes; one without any; one that is whole."""
    table = files_of([ONE, TWO, ONE, "", "", ""], [1, 1, 1, 1, 1, 0], group=[0, 0, 1, 1, 2, 3]).table
    assert places.counts(table) == {"boxes": 4, "xrays_with_boxes": 2, "fractured_without": 1}
    assert places.sentence(table) == "boxes: 2 fractured X-rays have 4 boxes, 1 have none; see boxes.png"


def test_twelve_of_many_are_drawn_with_their_boxes():
    files = files_of([ONE, TWO] * 20 + [""] * 5, [1] * 45)
    report = places.show(files.table, files)
    drawn = [axes for axes in report.figures["boxes.png"].axes if axes.images]
    assert len(drawn) == 12
    assert {len(axes.patches) for axes in drawn} == {1, 2}
    one = next(axes.patches[0] for axes in drawn if len(axes.patches) == 1)  # of 32 pixels, 8 to 16 and 8 to 24
    assert (*one.get_xy(), one.get_width(), one.get_height()) == (7.5, 7.5, 8, 16)
    assert report.metrics["boxes/n_xrays_with_boxes"] == 40


def test_without_boxes_there_is_nothing_to_show():
    files = files_of([""] * 4, [1, 0, 1, 0])
    assert not places.show(files.table, files).figures
    assert places.sentence(files.table.drop(columns="boxes")) == "boxes: none, so nothing says where fractures are"
