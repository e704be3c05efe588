import math

import numpy as np
import pytest

from fracture_mae.data.reading.box_files import yolo
from fracture_mae.data.reading.box_files.drawn import EDGES
from fracture_mae.errors import FractureMaeError


def drawn(tmp_path, certain=True, **texts):
    files = {}
    for name, text in texts.items():
        files[f"{name}.png"] = tmp_path / f"{name}.txt"
        files[f"{name}.png"].write_text(text, encoding="utf-8")
    return yolo.read(files, str(tmp_path), certain=certain)


def test_centre_and_size_become_edges(tmp_path):
    """Centre at 0.5, 0.25; a fifth wide, a tenth high."""
    found = drawn(tmp_path, a="3 0.5 0.25 0.2 0.1\n0 0.5 0.5 1 1\n")
    assert found.table[EDGES].to_numpy(float) == pytest.approx(np.array([[0.4, 0.2, 0.6, 0.3], [0, 0, 1, 1]]))
    assert found.table[["name", "finding", "place"]].to_numpy().tolist() == [
        ["a.png", "class 3", "line 1"],
        ["a.png", "class 0", "line 2"],
    ]
    assert found.in_shares


def test_a_polygon_is_framed(tmp_path):
    found = drawn(tmp_path, a="0 0.3 0.1 0.5 0.4 0.2 0.6")
    assert found.table[EDGES].to_numpy(float).tolist() == [[0.2, 0.1, 0.5, 0.6]]


def test_an_empty_file_says_that_there_is_none(tmp_path):
    found = drawn(tmp_path, a="\n", b="0 0.5 0.5 1 1")
    assert found.table["name"].tolist() == ["a.png", "b.png"]
    assert all(math.isnan(value) for value in found.table[EDGES].iloc[0])


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 1",
        "fracture 0.5 0.5 1 1",
        "0 0.5 0.5 1 wide",
        "0 0.5 0.5 1 nan",
        "0 .1 .1 .2 .2 .9",
        "0.5 0.5 0.5 1 1",
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    with pytest.raises(FractureMaeError, match=r"b.txt, line 2: found .* Expected: class x y width height"):
        drawn(tmp_path, a="0 0.5 0.5 1 1", b=f"0 0.5 0.5 1 1\n{line}\n", certain=False)


def test_other_texts_beside_pictures_are_no_labels(tmp_path, caplog):
    assert drawn(tmp_path, a="Fracture of the radius.", b="Nothing to be seen.", c="", certain=False) is None
    assert "2 text files beside the pictures are no boxes" in caplog.text
    with pytest.raises(FractureMaeError, match="line 1: found 'Fracture of the radius"):
        drawn(tmp_path, a="Fracture of the radius.", certain=True)


def test_what_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(FractureMaeError, match="is no text that can be read"):
        yolo.read({"a.png": tmp_path / "a.txt"}, str(tmp_path), certain=True)
