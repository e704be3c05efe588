import json
import math

import pytest

from fracture_mae.data.reading.box_files import coco
from fracture_mae.data.reading.box_files.drawn import EDGES
from fracture_mae.errors import FractureMaeError

IMAGES = [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}, {"id": 8, "file_name": "sub/b.png"}]


def written(tmp_path, name="found.json", **changes):
    content = {
        "images": IMAGES,
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 5]}],
        "categories": [{"id": 2, "name": "fracture"}],
    }
    (tmp_path / name).write_text(json.dumps(content | changes), encoding="utf-8")
    return tmp_path / name


def test_boxes_in_pixels_with_the_size_that_they_were_measured_at(tmp_path):
    found = coco.read(written(tmp_path))
    first, second = (row for _, row in found.table.iterrows())
    assert first[["name", *EDGES, "width", "height", "finding", "place"]].tolist() == [
        *("a.png", 10, 20, 40, 25, 100, 50, "fracture", "annotation 1")
    ]
    assert second["name"] == "sub/b.png"  # looked at, none drawn
    assert all(math.isnan(value) for value in second[[*EDGES, "width"]])
    assert not found.in_shares
    assert found.base == tmp_path


def test_shares_are_told_from_pixels(tmp_path):
    boxes = [{"id": 1, "image_id": 7, "bbox": [0.1, 0.2, 0.3, 0.5]}]
    assert coco.read(written(tmp_path, annotations=boxes)).in_shares


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"annotations": [{"id": 5, "image_id": 9, "bbox": [1, 2, 3, 4]}]},
            "annotation 5 has image_id 9.*one of its images",
        ),
        ({"annotations": [{"id": 5, "image_id": 7}]}, "annotation 5 has bbox None.*four numbers"),
        ({"annotations": [{"id": 5, "image_id": 7, "bbox": [1, 2, 3]}]}, r"annotation 5 has bbox \[1, 2, 3\]"),
        ({"annotations": [{"id": 5, "image_id": 7, "bbox": [1, 2, "wide", 4]}]}, "annotation 5 has bbox"),
        ({"annotations": [{"id": 5, "image_id": 7, "bbox": [1, 2, -3, 4]}]}, "annotation 5. Expected: x0 < x1"),
        ({"annotations": [{"id": 5, "bbox": [1, 2, 3, 4]}]}, "annotation number 0 has no image_id"),
        ({"annotations": ["box"]}, "annotation number 0 has no image_id"),
        ({"images": [{"id": 7}]}, "image number 0 has no file_name"),
        ({"images": [IMAGES[0] | {"width": "wide"}]}, "image 7 has a size of wide x 50"),
        ({"categories": ["fracture"]}, "category number 0 has no id"),
    ],
)
def test_what_is_wrong_is_told_with_its_annotation(tmp_path, changes, told):
    with pytest.raises(FractureMaeError, match=told):
        coco.read(written(tmp_path, **changes))


def test_other_json_is_passed_over(tmp_path, caplog):
    (tmp_path / "a.json").write_text('{"name": "package"}')
    (tmp_path / "b.json").write_text("[1, 2")
    assert coco.read(tmp_path / "a.json") is None
    assert not caplog.text
    assert coco.read(tmp_path / "b.json") is None
    assert "b.json is no JSON that can be read" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"), [("[1, 2", "is no JSON that can be read"), ("{}", "lacks images or annotations")]
)
def test_what_says_that_it_is_coco_must_be(tmp_path, text, told):
    file = tmp_path / "_annotations.coco.json"
    file.write_text(text)
    with pytest.raises(FractureMaeError, match=told):
        coco.read(file)
    with pytest.raises(FractureMaeError, match=told):
        coco.read(file.rename(tmp_path / "a.json"), certain=True)
