"""From files with boxes to X-rays with boxes: whatever is done with the X-rays, their boxes lie where the pictures are white."""

import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracture_mae.data import folds, loading, splits
from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.held_out_sources import HeldOutSources

SIZE = 64
N = 16  # of each label
_EXIF_ORIENTATION = 0x0112


def white_boxes(rng, height, width):
    """A dark picture with one or two white boxes, and these in pixels."""
    picture = rng.integers(0, 60, (height, width), np.uint8)
    boxes = []
    for _ in range(rng.integers(1, 3)):
        x0, y0 = rng.integers(0, width // 2), rng.integers(0, height // 2)
        x1, y1 = x0 + rng.integers(12, width // 2), y0 + rng.integers(12, height // 2)
        picture[y0:y1, x0:x1] = 255
        boxes.append((x0, y0, x1, y1))
    return picture, boxes


@pytest.fixture
def csv(tmp_path):
    """Fractured X-rays of many shapes, all but three with boxes, others without; a source for every eight of them."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(2 * N):
        label, width, height = ("fractured", "healthy")[number % 2], *rng.integers(60, 200, 2)
        picture, boxes = white_boxes(rng, height, width)
        name, source = f"{rng.bytes(4).hex()}.png", f"source {number // 8}"
        if label == "healthy" or number < 6:
            picture, boxes = rng.integers(0, 60, (height, width), np.uint8), [("", "", "", "")]
        cv2.imwrite(str(tmp_path / name), picture)
        rows += [(name, label, source, *box) for box in boxes]
    table = pd.DataFrame(rows, columns=["path", "label", "source", "x0", "y0", "x1", "y1"])
    table.to_csv(tmp_path / "xrays.csv", index=False)
    return tmp_path / "xrays.csv"


def load(csv, **options):
    return loading.load(str(csv), image_size=SIZE, **{"group_by": "names"} | options)


def check(xrays):
    """Each stored square is white where its boxes say, and nowhere else; returns how many have boxes."""
    centre = (np.arange(SIZE) + 0.5) / SIZE
    for picture, boxes in zip(xrays.images(np.arange(len(xrays))), xrays.boxes, strict=True):
        inside = np.zeros((SIZE, SIZE), bool)
        for left, top, right, bottom in boxes[~np.isnan(boxes).any(axis=1)]:
            inside |= ((centre >= top) & (centre < bottom))[:, None] & (centre >= left) & (centre < right)
        white = picture > 160
        # A pixel at each edge may be half white.
        assert (inside ^ white).sum() <= 0.5 * (cv2.dilate(white.astype(np.uint8), np.ones((3, 3))) - white).sum()
        assert white.any() == (~np.isnan(boxes)).any()
    return int(xrays.has_boxes.sum())


def test_boxes_lie_where_pictures_are_white_on_every_side_of_the_split(csv):
    dataset = load(csv)
    assert sum(check(side) for side in dataset.sides) == N - 3
    for side in dataset.sides:
        assert not side.has_boxes[side.label == 0].any()
        positions = np.arange(len(side))[::-2]
        assert check(side.subset(positions)) == side.has_boxes[positions].sum()
    assert sum(check(one_of_each(side)) for side in dataset.sides) == N - 3


def test_they_follow_into_folds_and_held_out_sources(csv):
    dataset = load(csv)
    n_pool = int(dataset.train.has_boxes.sum() + dataset.validation.has_boxes.sum())
    assert check(folds.joined(dataset)) == n_pool
    sets = folds.cross_validation_sets(dataset, 3, seed=0)
    assert sum(check(each.test) for each in sets) == n_pool
    for each in (*sets, *HeldOutSources.of(dataset).sets(dataset, seed=0)):
        assert sum(map(check, each.sides)) == n_pool


def test_somebody_elses_xrays_have_theirs(csv):
    assert check(load(csv, split="external").test) == N - 3


def test_none_are_read_where_none_are_wanted(csv):
    dataset = load(csv, boxes="none")
    assert all(side.boxes.shape == (len(side), 0, 4) for side in dataset.sides)
    assert load(csv).split_fingerprint == dataset.split_fingerprint  # boxes move nobody


def test_the_table_of_a_split_is_data_with_boxes(csv, tmp_path):
    first = load(csv)
    (tmp_path / "elsewhere").mkdir()
    splits.save(first.index, tmp_path / "elsewhere" / "splits.csv")
    again = load(tmp_path / "elsewhere" / "splits.csv", split="published")
    for side, same in zip(first.sides, again.sides, strict=True):
        assert (side.table["sha256"] == same.table["sha256"]).all()
        np.testing.assert_allclose(side.boxes, same.boxes, atol=1e-5)
    splits.save(load(csv, boxes="none").index, tmp_path / "elsewhere" / "splits.csv")
    assert list(pd.read_csv(tmp_path / "elsewhere" / "splits.csv")) == splits.SAVED


def test_files_of_the_audit_have_theirs(csv):
    files = loading.read_files(str(csv), image_size=SIZE)
    assert check(files.xrays(files.table)) == N - 3
    assert len(files.table) == 2 * N  # a file with two boxes is one file


def test_boxes_mean_a_picture_as_it_is_displayed(csv):
    """A JPEG that is to be turned by 90 degrees: its box is given in the upright picture's pixels."""
    upright = np.zeros((80, 120), np.uint8)
    upright[10:30, 60:110] = 255
    turn = Image.Exif()
    turn[_EXIF_ORIENTATION] = 6  # turn clockwise to display
    content = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(content, "JPEG", exif=turn, quality=95)
    (csv.parent / "turned.jpg").write_bytes(content.getvalue())
    with open(csv, "a", encoding="utf-8") as file:
        file.write("turned.jpg,fractured,source 0,60,10,110,30\n")
    assert sum(check(side) for side in load(csv).sides) == N - 2


def test_a_turned_copy_has_no_boxes_of_its_original(csv):
    table = pd.read_csv(csv)
    name = table.loc[table["x0"].notna(), "path"].iloc[0]
    original = cv2.imread(str(csv.parent / name), cv2.IMREAD_GRAYSCALE)
    copy = f"{name.removesuffix('.png')}-rotated1.png"
    cv2.imwrite(str(csv.parent / copy), np.zeros_like(original))
    with open(csv, "a", encoding="utf-8") as file:
        file.write(f"{copy},fractured,source 0,,,,\n")
    index = load(csv).index.set_index(load(csv).index["path"].str.rpartition("/")[2])
    assert index.loc[name, "group"] == index.loc[copy, "group"]
    assert index.loc[name, "boxes"]
    assert index.loc[copy, "boxes"] == ""
