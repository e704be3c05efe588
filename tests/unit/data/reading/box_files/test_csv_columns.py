import math

import pytest

from fracture_mae.data.reading.box_files import csv_columns
from fracture_mae.data.reading.box_files.drawn import EDGES
from fracture_mae.errors import FractureMaeError


def drawn(tmp_path, *lines):
    file = tmp_path / "boxes.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return csv_columns.read(file)


def edges(found):
    return found.table[EDGES].to_numpy(float).tolist()


@pytest.mark.parametrize("name", ["path", "image", "file"])
@pytest.mark.parametrize(
    "columns",
    ["x0,y0,x1,y1", "xmin,ymin,xmax,ymax", "x,y,width,height", "X0,Y0, X1,Y1"],
    ids=lambda columns: columns[:4],
)
def test_each_kind_of_columns(tmp_path, name, columns):
    """Pixels 10 … 30 from the left and 20 … 60 from the top, whichever way it is written."""
    last = "20,40" if "width" in columns else "30,60"
    found = drawn(tmp_path, f"{name},{columns}", f"a.png,10,20,{last}")
    assert edges(found) == [[10, 20, 30, 60]]
    assert found.table["name"].tolist() == ["a.png"]
    assert found.table["place"].tolist() == ["line 2"]
    assert found.base == tmp_path
    assert not found.in_shares


def test_a_row_for_each_box_and_one_where_none_was_drawn(tmp_path):
    found = drawn(tmp_path, "image,finding,x0,y0,x1,y1", "a,line,1,2,3,4", "a,angle,5,6,7,8", "b,,,,,")
    assert found.table[["name", "finding"]].to_numpy().tolist() == [["a", "line"], ["a", "angle"], ["b", ""]]
    assert edges(found)[:2] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert all(math.isnan(value) for value in edges(found)[2])


def test_width_and_height_are_the_pictures_beside_corners_and_the_boxs_own_beside_x_and_y(tmp_path):
    beside_corners = drawn(tmp_path, "image,width,height,x0,y0,x1,y1", "a,100,50,1,2,3,4").table.iloc[0]
    assert (beside_corners["width"], beside_corners["height"], beside_corners["x1"]) == (100, 50, 3)
    own = drawn(tmp_path, "image,x,y,width,height,image_width,image_height", "a,1,2,3,4,100,50").table.iloc[0]
    assert (own["width"], own["height"], own["x1"]) == (100, 50, 4)


@pytest.mark.parametrize(
    ("rows", "in_shares"),
    [
        (["a,0,0.5,1,1", "b,0.2,0.2,0.4,0.4"], True),
        (["a,0,0.5,1.0001,1"], True),  # rounded
        (["a,0,0.5,20,30", "b,0.5,0.5,1.5,40"], False),
        (["a,0,0,0,0", "b,1,1,20,20"], False),  # what has no area tells no unit
        (["a,,,,"], False),
    ],
)
def test_shares_are_told_from_pixels(tmp_path, rows, in_shares):
    assert drawn(tmp_path, "image,x0,y0,x1,y1", *rows).in_shares == in_shares


def test_boxes_of_a_file_in_one_cell(tmp_path):
    """As `splits.csv` of a run has them."""
    found = drawn(tmp_path, "path,label,boxes", "a,1,0 0 0.5 1; 0.25 0 1 1", "b,0,")
    assert found.table["name"].tolist() == ["a", "a", "b"]
    assert edges(found)[:2] == [[0, 0, 0.5, 1], [0.25, 0, 1, 1]]
    assert found.in_shares


def test_other_csvs_have_no_boxes(tmp_path):
    assert drawn(tmp_path, "path,label,width,height,x", "a,1,100,50,3") is None


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["image,x0,y0,x1,y1", "a,1,1,2,2", "a,1,2,three,4"], "boxes.csv: boxes whose edges are no numbers: line 3."),
        (["image,x0,y0,x1,y1", "a,1,2,inf,4"], "edges are no numbers: line 2"),
        (["image,x0,y0,x1,y1", "a,1,2,,4"], "boxes with empty edges: line 2. Expected: all of x0, y0, x1, y1, or none"),
        (["image,x0,y0,x1,y1", "a,5,2,3,4"], "right edge lies left of the left one.*line 2"),
        (["image,x,y,width,height", "a,5,2,3,-4"], "lower edge above the upper one: line 2"),
        (
            ["image,x0,y0,x1,y1", "a,0.1,0.2,0.3,0.4", "b,10,20,30,40"],
            "line 2 holds a box in shares.*line 3 one in pixels",
        ),
        (["image,x0,y0,x1", "a,1,2,3"], "has x0, y0, x1 of the columns of boxes.*Add y1"),
        (["image,x,y,width", "a,1,2,3"], "Add height"),
        (["image,x0,y0,x1,y1,xmin,ymin,xmax,ymax", "a" + 8 * ",1"], "all four of one kind"),
        (["bone,x0,y0,x1,y1", "a,1,2,3,4"], "has the columns bone.*path, image or file"),
        (["image,x0,y0,x1,y1", ",1,2,3,4"], "of no picture: line 2"),
        (["image,x0,y0,x1,y1,width,height", "a,1,2,3,4,0,9"], "of pictures without a size: line 2"),
        (["image,boxes", "a,0 0 1"], "boxes that cannot be read: line 2"),
        (["image,boxes", "a,0 0 1 one"], "boxes that cannot be read: line 2"),
        (['image,x0\n"a'], "is no CSV that can be read"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, lines, told):
    with pytest.raises(FractureMaeError, match=told):
        drawn(tmp_path, *lines)
