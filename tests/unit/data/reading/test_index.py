from pathlib import Path

import numpy as np
import pytest

from fracture_mae.data import attributes, loading, splits
from fracture_mae.data.reading import index
from fracture_mae.errors import FractureMaeError
from tests.builders import csv_of, write_noise


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def rows(table, root: Path, *columns: str) -> list[tuple]:
    return [
        (str(Path(row.path).relative_to(root)), *(getattr(row, name) for name in columns)) for row in table.itertuples()
    ]


def test_label_folders(tmp_path):
    touch(
        tmp_path,
        "fractured/1.jpg",
        "fractured/deep/2.JPG",
        "healthy/1.png",
        "healthy/.hidden",
        "healthy/.ipynb_checkpoints/1.png",
        "healthy/notes.txt",
        "README.md",
    )
    table, names = index.read(str(tmp_path), "fractured")
    assert rows(table, tmp_path, "label", "label_name", "split_published") == [
        ("fractured/1.jpg", 1, "fractured", ""),
        ("fractured/deep/2.JPG", 1, "fractured", ""),
        ("healthy/1.png", 0, "healthy", ""),
    ]
    assert names == ("healthy", "fractured")


def test_the_positive_class_is_named_not_guessed(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    for positive, expected in (("a", [1, 0]), ("b", [0, 1])):
        assert index.read(str(tmp_path), positive)[0]["label"].tolist() == expected


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_published_splits(tmp_path, validation):
    touch(tmp_path, "Train/fractured/1.jpg", f"{validation}/fractured/2.jpg", "test/not fractured/1.jpg")
    table, _ = index.read(str(tmp_path), "fractured")
    assert sorted(table["split_published"]) == ["test", "train", "validation"]


def test_names_are_compared_across_splits_but_not_across_folders_below_a_label(tmp_path):
    touch(tmp_path, "train/fractured/p1/1.jpg", "train/fractured/p2/1.jpg", "test/fractured/p1/1.jpg", "test/not/1.jpg")
    table, _ = index.read(str(tmp_path), "fractured")
    assert table.set_index(table["path"].str[len(str(tmp_path)) + 1 :])["scope"].to_dict() == {
        "train/fractured/p1/1.jpg": "fractured/p1",
        "test/fractured/p1/1.jpg": "fractured/p1",
        "train/fractured/p2/1.jpg": "fractured/p2",
        "test/not/1.jpg": "not",
    }


def csv(tmp_path: Path, text: str) -> str:
    touch(tmp_path, "x/1.jpg", "x/2.jpg")
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "x.csv")


def test_csv(tmp_path):
    text = "path,label,group,split,other\nx/1.jpg,fractured,007,val,-\nx/2.jpg,no,,train,-\n"
    table, names = index.read(csv(tmp_path, text), "fractured")
    assert table[["label", "given_group", "split_published", "given_source"]].to_numpy().tolist() == [
        [1, "007", "validation", ""],
        [0, "", "train", ""],
    ]
    assert names == ("no", "fractured")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,kind\nx/1.jpg,a\n", "has the columns path, kind.*label is missing"),
        ("bone,label\nx/1.jpg,a\n", "has the columns bone, label.*path is missing"),
        ("x/1.jpg,fractured\nx/2.jpg,no\n", "path,label in the first line.*path is missing"),
        ("path,label\nx/1.jpg,fractured\nx/2.jpg,\n", "1 rows have no label: line 3"),
        ("path,label\nx/1.jpg,fractured\nx/9.jpg,no\n", "1 rows name files that do not exist.*line 3"),
        ("path,label,split\nx/1.jpg,fractured,fold 1\nx/2.jpg,no,test\n", "1 rows have a split other than"),
        ("path,label\n", "no rows"),
        ("", "no CSV that can be read"),
        ('path,label\n"x/1.jpg,a\nx\n', "no CSV that can be read"),
    ],
)
def test_bad_csvs_say_what_and_where(tmp_path, text, message):
    with pytest.raises(FractureMaeError, match=message):
        index.read(csv(tmp_path, text), "fractured")


def test_rows_of_one_path_are_its_boxes(tmp_path):
    text = "path,label,x0,y0,x1,y1\nx/1.jpg,fractured,1,2,3,4\nx/1.jpg,fractured,5,6,7,8\nx/2.jpg,no,,,,\n"
    table, _ = index.read(csv(tmp_path, text), "fractured")
    assert rows(table, tmp_path, "label") == [("x/1.jpg", 1), ("x/2.jpg", 0)]


@pytest.mark.parametrize("place", ["labels", "train/labels"])
def test_a_folder_of_boxes_is_no_label(tmp_path, place):
    """Not even beside the folders of splits; one that holds pictures is."""
    touch(tmp_path, "train/fractured/1.jpg", "train/healthy/1.jpg", "test/healthy/2.jpg", f"{place}/1.txt")
    assert set(index.read(str(tmp_path), "fractured")[0]["label_name"]) == {"fractured", "healthy"}
    touch(tmp_path, f"{place}/1.jpg")
    with pytest.raises(FractureMaeError, match="labels"):
        index.read(str(tmp_path), "fractured")


@pytest.mark.filterwarnings("ignore:Length of header")
def test_a_csv_as_spreadsheets_write_it(tmp_path):
    text = "\ufeffpath,label\r\nx/1.jpg,fractured ,\r\n\r\nx/2.jpg, no,\r\n"
    table, names = index.read(csv(tmp_path, text), "fractured")
    assert table["label"].tolist() == [1, 0]
    assert names == ("no", "fractured")


def test_labels_found_are_listed_when_they_do_not_fit(tmp_path):
    touch(tmp_path, "broken/1.jpg", "whole/1.jpg", "whole/2.jpg")
    with pytest.raises(
        FractureMaeError, match=r"'whole' \(2 files\), 'broken' \(1 files\).*'fractured'.*--positive-label"
    ):
        index.read(str(tmp_path), "fractured")
    touch(tmp_path, "cast/1.jpg")
    with pytest.raises(FractureMaeError, match="exactly two"):
        index.read(str(tmp_path), "broken")


def test_an_empty_class_is_no_class(tmp_path):
    touch(tmp_path, "fractured/1.jpg")
    (tmp_path / "healthy").mkdir()
    with pytest.raises(FractureMaeError, match="exactly two"):
        index.read(str(tmp_path), "fractured")


def test_split_folders_beside_others_are_refused(tmp_path):
    touch(tmp_path, "train/fractured/1.jpg", "fractured/1.jpg")
    with pytest.raises(FractureMaeError, match=r"\(train\) beside others \(fractured\)"):
        index.read(str(tmp_path), "fractured")


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no such folder"), ("file.zip", "is a file, but no CSV"), ("empty", "holds no files")],
)
def test_what_is_no_data(tmp_path, name, message):
    (tmp_path / "file.zip").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FractureMaeError, match=message):
        index.read(str(tmp_path / name), "fractured")


@pytest.mark.parametrize(
    "wrong", ["n_xray=5", "n_xrays=nan", "n_xrays", "seed=1.5", "copies=few", "boxes=perhaps", "size=1=2"]
)
def test_options_of_synthetic_are_checked(wrong):
    with pytest.raises(
        FractureMaeError, match=f"synthetic:seed=1,{wrong}: '{wrong}' is not understood. Expected: synth"
    ):
        index.read(f"synthetic:seed=1,{wrong}", "fractured")


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["1.jpg", "2.jpg"], ["", ""]),
        (["deep/er/1.jpg", "2.jpg"], ["", ""]),
        (["only/1.jpg", "only/2.jpg"], ["", ""]),
        (["a/1.jpg", "b/1.jpg", "c/1.jpg"], ["", "", ""]),
        (["test/1.jpg", "train/1.jpg", "val/deep/1.jpg"], ["test", "train", "validation"]),
    ],
)
def test_folders_without_two_classes_are_read_without_labels(tmp_path, files, splits):
    touch(tmp_path, *files, "notes.txt", ".hidden/3.jpg")
    table, names = index.read_if_labelled(str(tmp_path), "fractured")
    expected = zip(sorted(files), splits, strict=True)
    assert rows(table, tmp_path, "split_published") == [(name, split) for name, split in expected]
    assert names is None
    assert table["label"].tolist() == [-1] * len(files)
    with pytest.raises(FractureMaeError):
        index.read(str(tmp_path), "fractured")


def test_two_classes_are_read_with_labels_unless_told_otherwise(tmp_path):
    touch(tmp_path, "fractured/1.jpg", "healthy/1.jpg")
    table, names = index.read_if_labelled(str(tmp_path), "fractured")
    assert (table["label"].tolist(), names) == ([1, 0], ("healthy", "fractured"))
    table, names = index.read_if_labelled(str(tmp_path), "none")
    assert (table["label"].tolist(), names) == ([-1, -1], None)
    with pytest.raises(FractureMaeError, match=r"holds the labels .* say --positive-label none"):
        index.read_if_labelled(str(tmp_path), "cast")


def test_a_csv_without_labels(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    file = tmp_path / "xrays.csv"
    file.write_text("path,patient,split\n1.jpg,p1,train\n2.jpg,,\n", encoding="utf-8")
    table, names = index.read_if_labelled(str(file), "fractured")
    assert names is None
    assert rows(table, tmp_path, "label", "given_patient", "given_split") == [
        ("1.jpg", -1, "p1", "train"),
        ("2.jpg", -1, "", ""),
    ]
    with pytest.raises(FractureMaeError, match="Expected: path,label"):
        index.read(str(file), "fractured")


def test_no_picture_at_all_is_told_in_a_sentence(tmp_path):
    touch(tmp_path, "notes.txt", "deep/README.md")
    with pytest.raises(FractureMaeError, match="holds no X-rays, neither in itself nor in any folder below"):
        index.read_if_labelled(str(tmp_path), "fractured")


def test_other_columns_of_a_csv_travel_along(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").touch()
    lines = [
        "path,label,Age,body part,x0,y0,x1,y1,sha256",
        "a.png,healthy, 045Y ,wrist,,,,,00",
        "b.png,fractured,,hand,1,2,3,4,11",
    ]
    lines.append(
        "b.png,fractured,,thumb,2,2,3,4,11"
    )  # a second box; what is said of the X-ray is that of the first row
    table, _ = index.read(csv_of(tmp_path, lines), "fractured")
    assert attributes.names(table) == ["Age", "body part"]
    assert attributes.known(attributes.names(table)) == ["body part", "Age"]
    assert attributes.texts(table, "Age").tolist() == ["045Y", ""]
    assert attributes.texts(table, "body part").tolist() == ["wrist", "hand"]


def test_the_saved_split_keeps_the_columns_that_are_judged_by(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["path,label,age,report"]
    for number in range(16):
        write_noise(tmp_path / f"{number}.png", rng)
        lines.append(f"{number}.png,{'fractured' if number % 2 else 'healthy'},{number},text {number}")
    dataset = loading.load(csv_of(tmp_path, lines), image_size=32, group_by="names")
    saved = splits.saved(dataset.index)
    assert dict(zip(saved["path"].map(lambda path: Path(path).stem), saved["age"], strict=True)) == {
        str(number): str(number) for number in range(16)
    }
    assert "report" not in saved
    splits.save(dataset.index, tmp_path / "splits.csv")
    again = loading.load(str(tmp_path / "splits.csv"), image_size=32, group_by="names")
    assert attributes.names(again.index) == ["age"]
    assert attributes.names(again.test.table) == ["age"]
