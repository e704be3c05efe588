import json
import shutil

import pandas as pd
import pytest

from fracture_mae.data.reading.box_files.reading import read
from fracture_mae.errors import FractureMaeError

A, B = "fractured/a.png", "healthy/b.png"  # both 200 pixels wide and 100 high


class Folder:
    """X-rays as far as boxes need them: names, sizes and labels; no pictures."""

    def __init__(self, root):
        self.root = root
        self.rows = {}
        self.add(A)
        self.add(B, label=0)

    def add(self, path, *, label=1, width=200, height=100, sha256=None):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).touch()
        size = {"width": width, "height": height}
        self.rows[path] = {"path": str(self.root / path), "sha256": sha256 or path, "label": label, **size}

    def write(self, name, *lines):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text("\n".join(lines), encoding="utf-8")
        return self.root / name

    def coco(self, name, file_name, bbox, **size):
        image = {"id": 1, "file_name": file_name} | size
        found = {"images": [image], "annotations": [{"id": 1, "image_id": 1, "bbox": bbox}]}
        return self.write(name, json.dumps(found))

    def read(self, option="auto", root="."):
        files = pd.DataFrame(list(self.rows.values()))
        found = read(self.root / root, files, option)
        assert found.index.equals(files.index)
        return {path: text for path, text in zip(self.rows, found, strict=True) if text}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


HEADER = "image,x0,y0,x1,y1"
# 50 to 100 of 200 pixels from the left, 20 to 60 of 100 from the top.
BOX, IN_SHARES = "50,20,100,60", "0.25 0.2 0.5 0.6"
YOLO, BBOX = "0 0.375 0.4 0.25 0.4", [50, 20, 50, 40]


def test_nothing_there_is_no_box(folder, caplog):
    assert folder.read() == {}
    assert not caplog.text


def test_pixels_become_shares_of_width_and_height(folder):
    folder.write("boxes.csv", HEADER, f"{A},{BOX}", f"{A},0,0,200,100")
    assert folder.read() == {A: f"{IN_SHARES}; 0 0 1 1"}
    assert folder.read("none") == {}


def test_shares_stay(folder):
    folder.write("boxes.csv", HEADER, f"{A},0.25,0.2,0.5,0.6")
    assert folder.read() == {A: IN_SHARES}


@pytest.mark.parametrize(
    "place",
    ["boxes.csv", "fractured/boxes.csv", "annotations/all.json", "fractured/_annotations.coco.json", "coco.json"],
)
def test_files_of_all_pictures_are_found_beside_them_or_above(folder, place):
    if place.endswith(".csv"):
        folder.write(place, HEADER, f"a.png,{BOX}")
    else:
        folder.coco(place, "a.png", BBOX, width=200, height=100)
    assert folder.read() == {A: IN_SHARES}


@pytest.mark.parametrize(
    "place",
    ["fractured/a.txt", "fractured/labels/a.txt", "labels/fractured/a.txt", "labels/a.txt", "labels/other/a.txt"],
)
def test_texts_are_found_beside_their_pictures_or_in_labels(folder, caplog, place):
    folder.write(place, YOLO)
    assert folder.read() == {A: IN_SHARES}
    assert not caplog.text  # it is a stranger to none


def test_texts_in_labels_of_pictures_in_images(tmp_path):
    folder = Folder(tmp_path)
    folder.rows.clear()
    for split in ("train", "test"):  # the same name twice
        folder.add(f"{split}/images/a.png")
    folder.write("train/labels/a.txt", YOLO)
    assert folder.read() == {"train/images/a.png": IN_SHARES}


def test_columns_of_the_csv_itself_and_what_lies_beside_its_pictures(folder):
    folder.add("elsewhere/c.png")
    folder.write("list/xrays.csv", "path,label,x0,y0,x1,y1", f"../{A},fractured,{BOX}", f"../{B},healthy,,,,")
    folder.write("elsewhere/c.txt", YOLO)
    assert folder.read(root="list/xrays.csv") == {A: IN_SHARES, "elsewhere/c.png": IN_SHARES}
    folder.write("list/plain.csv", "path,label", f"../{A},fractured")
    folder.write("list/boxes.csv", HEADER, f"../{A},0,0,200,100")
    assert folder.read(root="list/plain.csv")[A] == "0 0 1 1"


@pytest.mark.parametrize("kind", ["csv", "json", "folder", "folder of texts"])
def test_a_place_that_is_named_is_the_only_one(folder, tmp_path_factory, kind):
    folder.write("fractured/a.txt", "0 0.5 0.5 1 1")
    elsewhere = Folder(tmp_path_factory.mktemp("elsewhere"))
    option = {
        "csv": elsewhere.write("mine.csv", HEADER, f"a.png,{BOX}"),
        "json": elsewhere.coco("mine.json", "pictures/a.png", BBOX),
        "folder": elsewhere.write("deep/boxes.csv", HEADER, f"some/a.png,{BOX}").parents[1],
        "folder of texts": elsewhere.write("texts/fractured/a.txt", YOLO).parents[1],
    }
    for path in option.values():  # one at a time
        if path != option[kind] and path.is_file():
            path.unlink()
    if kind == "folder":
        shutil.rmtree(elsewhere.root / "texts")
    assert folder.read(str(option[kind])) == {A: IN_SHARES}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("nowhere.csv", "nowhere.csv does not exist"),
        ("fractured", "holds no boxes of these X-rays"),
        ("plain.csv", "holds no boxes"),
        ("fractured/a.png", "holds no boxes"),
        ("strange.csv", "none of its pictures is among the 2 X-rays"),
    ],
)
def test_a_place_that_is_named_must_hold_boxes(folder, option, told):
    folder.write("plain.csv", "path,label", f"{A},fractured")
    folder.write("strange.csv", HEADER, f"other.png,{BOX}")
    with pytest.raises(FractureMaeError, match=told):
        folder.read(str(folder.root / option))


def test_the_path_goes_before_the_name(folder):
    folder.add("other/a.png")
    folder.write("boxes.csv", HEADER, f"other/a.png,{BOX}")
    assert folder.read() == {"other/a.png": IN_SHARES}
    folder.write("boxes.csv", HEADER, f"pictures/other/a.png,{BOX}")
    with pytest.raises(
        FractureMaeError, match=r"boxes.csv: line 2 names the picture pictures/other/a.png, which may be"
    ):
        folder.read()
    folder.write("boxes.csv", HEADER, f"a.png,{BOX}")
    with pytest.raises(FractureMaeError, match="Write its path"):
        folder.read()


def test_the_end_of_a_path_is_enough(folder):
    folder.add("more/other/a.png")
    folder.write("boxes.csv", HEADER, f"other/a.png,{BOX}")
    assert folder.read() == {"more/other/a.png": IN_SHARES}


def test_other_folders_do_not_matter_where_the_name_is_one_of_a_kind(folder, caplog):
    folder.write("boxes.csv", HEADER, f"somewhere\\a.png,{BOX}")
    assert folder.read() == {A: IN_SHARES}
    assert not caplog.text


def test_two_names_with_one_ending_are_not_both_the_only_file_called_so(folder, caplog):
    folder.write("boxes.csv", HEADER, f"{A},{BOX}", "gone/a.png,0,0,200,100")
    assert folder.read() == {A: IN_SHARES}
    assert "1 pictures with boxes in" in caplog.text


def test_a_text_that_may_belong_to_two_pictures(folder):
    folder.add("healthy/a.png", label=0)
    folder.write("labels/a.txt", YOLO)
    with pytest.raises(FractureMaeError, match=r"a.txt may hold the boxes of .*a.png or of .*a.png"):
        folder.read()


def test_what_is_not_used_is_counted(folder, caplog):
    folder.write(
        "boxes.csv",
        HEADER,
        *(f"{A},{BOX}", f"{A},10,10,10,40", f"{B},{BOX}", f"100%.png,{BOX}", "gone.png,,,,"),
    )
    folder.write("labels/stranger.txt", YOLO)
    folder.write("labels/classes.txt", "fracture")
    assert folder.read() == {A: IN_SHARES}
    assert [record.getMessage().replace(str(folder.root), "ROOT") for record in caplog.records] == [
        "1 of 2 text files in ROOT/labels belong to no X-ray here, the first of them stranger.txt: they are not read.",
        "1 pictures with boxes in ROOT/boxes.csv are not among the X-rays, the first of them 100%.png: their boxes are not used.",
        "1 boxes have no width or no height, the first of them in ROOT/boxes.csv, line 3: they are not used.",
        f"1 X-rays have boxes and are not of the positive class, the first of them ROOT/{B}: the label counts, their boxes are not "
        "used.",
    ]


def test_other_kinds_of_boxes_are_told(folder, caplog):
    folder.write("boxes.csv", f"finding,{HEADER}", f"fracture,{A},{BOX}", f"metal,{A},{BOX}", f"metal,{A},0,0,9,9")
    folder.read()
    assert "boxes are of 2 kinds, and all count as the place of a fracture: metal (2), fracture (1)." in caplog.text


def test_boxes_measured_on_a_smaller_copy_are_scaled(folder):
    folder.write("boxes.csv", f"{HEADER},width,height", f"{A},25,10,50,30,100,50")
    assert folder.read() == {A: IN_SHARES}
    (folder.root / "boxes.csv").unlink()
    folder.coco("coco.json", A, [100, 40, 100, 80], width=400, height=200)
    assert folder.read() == {A: IN_SHARES}


def test_a_copy_that_is_a_pixel_off_is_of_the_same_shape(folder):
    folder.add("fractured/c.png", width=512, height=283)
    folder.write("boxes.csv", f"{HEADER},width,height", "c.png,0,0,32,18,64,35")  # 35.4 rounded down
    assert folder.read() == {"fractured/c.png": "0 0 0.5 0.514286"}


def test_boxes_measured_on_a_turned_or_cropped_copy_are_refused(folder):
    folder.write("boxes.csv", f"{HEADER},width,height", f"{A},10,10,20,20,200,100", f"{A},10,10,20,20,100,200")
    with pytest.raises(
        FractureMaeError, match=r"boxes measured at 100 x 200 pixels on a picture of 200 x 100: line 3\."
    ):
        folder.read()


def test_rounding_at_the_edge_is_cut_off(folder):
    folder.write("boxes.csv", HEADER, f"{A},-1,0,201,100.4", f"{A},0,-0.2,100,50")
    assert folder.read() == {A: "0 0 1 1; 0 0 0.5 0.5"}
    (folder.root / "boxes.csv").unlink()
    folder.write("fractured/a.txt", "0 0.5 0.5 1.001 1.001")
    assert folder.read() == {A: "0 0 1 1"}


@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("boxes.csv", (HEADER, f"{A},{BOX}", f"{A},50,20,203,60"), r"reach out of their picture: line 3\..*200 x 100"),
        ("boxes.csv", (HEADER, f"{A},50,-3,100,60"), "line 2"),
        ("boxes.csv", (HEADER, f"{A},300,20,400,60"), "line 2"),
        (
            "fractured/a.txt",
            ("0 0.5 0.5 1 1", "0 0.9 0.5 0.4 0.1"),
            r"a.txt: boxes that reach out of their picture: line 2",
        ),
    ],
)
def test_boxes_outside_of_their_picture_are_refused(folder, name, lines, told):
    folder.write(name, *lines)
    with pytest.raises(FractureMaeError, match=told):
        folder.read()


def test_two_places_that_say_the_same(folder):
    folder.write("boxes.csv", HEADER, f"{A},{BOX}")
    folder.write("fractured/a.txt", "0 0.377 0.401 0.25 0.4")  # rounded
    assert folder.read() == {A: IN_SHARES}
    folder.write("fractured/a.txt", "")  # none drawn
    assert folder.read() == {A: IN_SHARES}


@pytest.mark.parametrize("text", ["0 0.4 0.4 0.25 0.4", f"{YOLO}\n0 0.8 0.8 0.1 0.1"])
def test_two_places_that_disagree(folder, text):
    folder.write("boxes.csv", HEADER, f"{A},{BOX}")
    folder.write("fractured/a.txt", text)
    with pytest.raises(
        FractureMaeError, match=r"boxes.csv, line 2, and .*a.txt, line 1, give different boxes for .*a.png"
    ):
        folder.read()
    assert folder.read(str(folder.root / "boxes.csv")) == {A: IN_SHARES}


def test_equal_bytes_have_equal_boxes(folder, caplog):
    folder.add("fractured/again.png", sha256=A)
    folder.write("boxes.csv", HEADER, f"again.png,{BOX}")
    assert folder.read() == {A: IN_SHARES, "fractured/again.png": IN_SHARES}
    assert not caplog.text
    folder.write("boxes.csv", HEADER, f"again.png,{BOX}", "a.png,0,0,200,100")
    assert folder.read() == {A: "0 0 1 1", "fractured/again.png": "0 0 1 1"}
    assert "2 files have the same bytes as another and other boxes" in caplog.text


def test_equal_bytes_are_not_ambiguous(folder):
    folder.add("train/a.png", sha256=A)
    folder.write("boxes.csv", HEADER, f"a.png,{BOX}")
    assert folder.read() == {A: IN_SHARES, "train/a.png": IN_SHARES}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", HEADER),
        ("boxes.csv", "image,boxes"),
        ("boxes.csv", f"{HEADER}\n{A},,,,"),
        ("boxes.csv", f"{HEADER}\ngone.png,,,,"),
        ("boxes.csv", f"{HEADER}\n{A},0,0,0,0"),
        ("coco.json", '{"images": [], "annotations": []}'),
        ("coco.json", '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}'),
        ("fractured/a.txt", ""),
    ],
)
def test_files_that_hold_no_box(folder, name, text):
    folder.write(name, text)
    assert folder.read() == {}


def test_files_read_by_nobody_twice(folder):
    """The CSV that the X-rays were read from may be called boxes.csv itself."""
    folder.write("boxes.csv", "path,label,x0,y0,x1,y1", f"{A},fractured,{BOX}", f"{B},healthy,,,,")
    assert folder.read(root="boxes.csv") == {A: IN_SHARES}


def test_a_file_that_is_not_called_boxes_csv_for_nothing(folder):
    folder.write("boxes.csv", "image,left,right", f"{A},1,2")
    with pytest.raises(FractureMaeError, match=r"boxes.csv has no columns of boxes. Expected: image,x0,y0,x1,y1"):
        folder.read()
