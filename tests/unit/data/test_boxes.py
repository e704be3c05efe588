from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import boxes
from fracture_mae.data.reading.decoding import letterbox
from fracture_mae.data.reading.placement import Placement


def table_of(*texts, width=200, height=100, placement=None):
    """Files of one size; their place is that of the letterbox in a square of 64 pixels unless told."""
    placement = placement or letterbox(np.zeros((height, width), np.uint8), 64)[1]
    return pd.DataFrame({"boxes": list(texts), "height": height, "width": width, **asdict(placement)})


def test_text_and_back():
    written = boxes.to_text(np.array([[0, 0.1, 1 / 3, 1], [0.25, 0.5, 0.75, 1]]))
    assert written == "0 0.1 0.333333 1; 0.25 0.5 0.75 1"
    assert boxes.from_text(written).tolist() == [[0, 0.1, 0.333333, 1], [0.25, 0.5, 0.75, 1]]
    assert boxes.to_text(np.empty((0, 4))) == ""
    assert boxes.from_text("").shape == (0, 4)


def test_letterbox_of_200_by_100_into_64():
    """The picture fills 64 × 32 pixels from row 16 on: pixels 50 … 100 of 200 are a quarter to a half, rows 0 … 50 of 100 16 to 32."""
    found = boxes.in_square(table_of("0.25 0 0.5 0.5", "", "0 0 1 1"), 64)
    assert found.dtype == np.float32
    assert found[0].tolist() == [[0.25, 0.25, 0.5, 0.5]]
    assert np.isnan(found[1]).all()
    assert found[2].tolist() == [[0, 0.25, 1, 0.75]]


def test_an_upright_picture_lies_between_its_sides():
    assert boxes.in_square(table_of("0 0 1 0.5", width=100, height=200), 64).tolist() == [[[0.25, 0, 0.75, 0.5]]]


def test_rounding_of_the_letterbox_is_heeded():
    """300 × 100 into 64: 21.33 rows are drawn as 21, from row 21 on."""
    found = boxes.in_square(table_of("0 0 1 1", width=300), 64)
    assert found[0, 0] == pytest.approx([0, 21 / 64, 1, 42 / 64])


def test_what_the_square_does_not_show_is_cut_off():
    """Twice as large, the left half of the picture alone is shown: of three boxes one is gone, one is cut, and one is whole."""
    placement = Placement(64 / 100, 64 / 100, 0, 0)
    found = boxes.in_square(table_of("0.6 0 1 1; 0.25 0 1 0.5; 0 0.5 0.25 1", placement=placement), 64)
    assert found[0] == pytest.approx(np.array([[0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1]]))


def test_fingerprint_follows_boxes_of_contents():
    one = table_of("0 0 1 1", "").assign(sha256=["a", "b"])
    assert boxes.fingerprint(one) == boxes.fingerprint(one[::-1]) == boxes.fingerprint(pd.concat([one, one]))
    assert len({boxes.fingerprint(one), boxes.fingerprint(one.assign(sha256=["b", "a"]))}) == 2
    assert boxes.fingerprint(one.assign(boxes="")) == boxes.fingerprint(one.drop(columns="boxes")) == ""


def test_the_most_boxes_of_a_file_give_the_shape():
    found = boxes.in_square(table_of("0 0 1 1", "", "0 0 0.5 1; 0 0 1 0.5; 0.5 0.5 1 1"), 64)
    assert found.shape == (3, 3, 4)
    assert (~np.isnan(found).all(axis=2)).sum(axis=1).tolist() == [1, 0, 3]


def test_files_without_boxes_take_no_place():
    table = table_of("", "")
    assert boxes.in_square(table, 64).shape == (2, 0, 4)
    assert boxes.in_square(table.drop(columns="boxes"), 64).shape == (2, 0, 4)
    assert boxes.in_square(table.iloc[:0], 64).shape == (0, 0, 4)
    assert boxes.in_square(table.assign(boxes=[np.nan, ""]), 64).shape == (2, 0, 4)  # beside files of another table
