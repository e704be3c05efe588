"""Layouts of public collections, names of classes and splits, and what lies between the X-rays."""

import logging
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fracture_mae.data import attributes, loading, splits
from fracture_mae.data.reading import class_names, identities, index
from fracture_mae.errors import FractureMaeError
from tests.builders import csv_of, write_noise

DRAWN, NONE_DRAWN = "0 0.5 0.5 0.1 0.1", ""
COCO = (
    '{"images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}], '
    '"annotations": [{"image_id": 1, "bbox": [1, 1, 2, 2]}]}'
)


def tree(root: Path, *names: str, **texts: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def read(root: Path, positive_label: str = "fractured", **options):
    """File → label and split, and the names of the classes."""
    table, names = index.read(str(root), positive_label, **options)
    found = zip(table["path"], table["label"], table["split_published"], strict=True)
    return {str(Path(path).relative_to(root)): (label, split) for path, label, split in found}, names


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("fractured", "not fractured"),
        ("Fractured", "Non_fractured"),
        (" FRACTURE ", "no-fracture"),
        ("broken", "not_broken"),
        ("abnormal", "normal"),
        ("Positive", "NEGATIVE"),
        ("1", "0"),
        ("yes", "no"),
        ("True", "False"),
        ("fractured", "any other word"),
    ],
)
def test_the_positive_class_is_known_by_its_name(tmp_path, positive, negative):
    tree(tmp_path, f"{positive}/1.jpg", f"{negative}/2.jpg")
    found, names = read(tmp_path)
    assert found == {f"{positive}/1.jpg": (1, ""), f"{negative}/2.jpg": (0, "")}
    assert names == (negative.strip(), positive.strip())


def test_a_spelling_that_was_not_asked_for_is_told(tmp_path, caplog):
    tree(tmp_path, "abnormal/1.jpg", "normal/2.jpg")
    read(tmp_path)
    assert "the positive class is 'abnormal' and the other one 'normal'" in caplog.text
    assert read(tmp_path, "healthy")[0]["normal/2.jpg"] == (1, "")


def test_one_class_has_one_name_however_its_folders_are_called(tmp_path):
    tree(tmp_path, "train/Fractured/1.jpg", "test/fractured/2.jpg", "train/normal/1.jpg", "test/healthy/3.jpg")
    tree(tmp_path, "val/Normal /4.jpg")
    found, names = read(tmp_path)
    assert (sorted(label for label, _ in found.values()), names) == ([0, 0, 0, 1, 1], ("Normal", "fractured"))
    table, _ = index.read(str(tmp_path), "fractured")
    assert set(table["label_name"]) == set(names)
    assert table["scope"].nunique() == 3  # fractured, normal and healthy: names are compared across splits


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (["broken", "whole"], "--positive-label broken or --positive-label whole"),
        (["fractured", "broken"], "of one class alone"),
        (["fractured"], "evaluate --split external"),
        (["fractured", "normal", "unsure"], "exactly two"),
        (["possible fracture", "normal"], "--positive-label normal or --positive-label 'possible fracture'"),
    ],
)
def test_what_is_uncertain_is_asked(tmp_path, folders, told):
    tree(tmp_path, *(f"{folder}/1.jpg" for folder in folders))
    with pytest.raises(FractureMaeError, match=told):
        read(tmp_path)


def test_a_classifiers_names_are_compared_by_what_they_mean(tmp_path):
    tree(tmp_path, "Abnormal/1.jpg")
    assert read(tmp_path, label_names=("healthy", "fractured")) == (
        {"Abnormal/1.jpg": (1, "")},
        ("healthy", "fractured"),
    )
    assert class_names.alike(("Non_fractured", "Fractured"), ("not fractured", "broken"))
    assert not class_names.alike(("fractured", "healthy"), ("healthy", "fractured"))
    assert not class_names.alike(("whole", "broken"), ("healthy", "broken"))


@pytest.mark.parametrize(
    "name", ["train", "Training", "train_set", "TRAIN images", "train2017", "trn", "train-data", " Train "]
)
def test_names_of_splits(tmp_path, name):
    tree(tmp_path, f"{name}/fractured/1.jpg", "dev/healthy/2.jpg", "Hold-out/healthy/3.jpg")
    found, _ = read(tmp_path)
    assert sorted(split for _, split in found.values()) == ["test", "train", "validation"]


@pytest.mark.parametrize(
    ("layout", "n_split"),
    [
        (["images/Fractured/1.jpg", "images/Non_fractured/2.jpg"], 0),  # FracAtlas
        (["My set/data/train/fractured/1.jpg", "My set/data/test/healthy/2.jpg"], 2),  # folders of an archive around it
        (["fractured/train/1.jpg", "healthy/test/2.jpg"], 2),
        (["wrist/abnormal/1.jpg", "hand/normal/2.jpg"], 0),
        (["train/wrist/abnormal/1.jpg", "valid/hand/normal/2.jpg"], 2),
        (["images/cast/1.jpg", "images/no cast/2.jpg"], 0),
        (["train/fractured/1.jpg", "train/healthy/2.jpg", "test/fractured/3.jpg"], 3),  # a class is empty in test
    ],
)
def test_folders_in_any_order(tmp_path, layout, n_split):
    tree(tmp_path, *layout)
    found, _ = read(tmp_path, "cast" if "cast" in layout[0] else "fractured")
    assert [found[name][0] for name in layout[:2]] == [1, 0]
    assert (len(found), sum(split != "" for _, split in found.values())) == (len(layout), n_split)


def test_masks_are_no_xrays(tmp_path):
    tree(tmp_path, "images/fractured/1.jpg", "images/healthy/2.jpg", "masks/fractured/1.png", "masks/healthy/2.png")
    with pytest.raises(FractureMaeError, match="holds the labels 'images'"):
        read(tmp_path)


def test_mura(tmp_path):
    place = "MURA-v1.1/{}/XR_{}/patient0000{}/study1_{}/image1.png"
    names = [place.format("train", "WRIST", 1, "positive"), place.format("valid", "HAND", 2, "negative")]
    tree(tmp_path, *names)
    assert read(tmp_path)[0] == {names[0]: (1, "train"), names[1]: (0, "validation")}
    table, _ = index.read(str(tmp_path), "fractured")
    assert table["given_patient"].tolist() == ["patient00001", "patient00002"]
    assert attributes.texts(table, "body_part").tolist() == ["wrist", "hand"]


@pytest.mark.parametrize(
    ("pictures", "texts"),
    [
        (["images/1.jpg", "images/2.jpg"], {"labels/1.txt": DRAWN, "labels/2.txt": NONE_DRAWN}),
        (["train/images/1.jpg", "test/images/2.jpg"], {"train/labels/1.txt": DRAWN, "test/labels/2.txt": NONE_DRAWN}),
        (["images/train/1.jpg", "images/val/2.jpg"], {"labels/train/1.txt": DRAWN, "labels/val/2.txt": NONE_DRAWN}),
        (["train/1.jpg", "train/2.jpg"], {"train/_annotations.coco.json": COCO}),
        (["images/1.jpg", "images/2.jpg"], {"annotations/instances.json": COCO}),
    ],
)
def test_boxes_decide_where_no_folder_does(tmp_path, caplog, pictures, texts):
    tree(tmp_path, *pictures, "README.roboflow.txt", **texts)
    found, names = read(tmp_path)
    assert [found[name][0] for name in pictures] == [1, 0]
    assert names == ("not fractured", "fractured")
    assert (
        "the 1 pictures with a box are taken for fractured, the 1 of which a file says that none is drawn"
        in caplog.text
    )


def test_pictures_that_nobody_has_annotated_are_left_out_and_counted(tmp_path, caplog):
    tree(
        tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", **{"labels/1.txt": DRAWN, "labels/2.txt": NONE_DRAWN}
    )
    assert set(read(tmp_path)[0]) == {"images/1.jpg", "images/2.jpg"}
    assert "1 of which nothing is said are left out" in caplog.text
    (tmp_path / "labels" / "2.txt").unlink()
    with pytest.raises(FractureMaeError, match=r"all have boxes around fractures.*--positive-label none"):
        read(tmp_path)
    assert index.read_if_labelled(str(tmp_path), "fractured")[1] is None


def test_boxes_do_not_overrule_a_folder(tmp_path):
    """Somebody else's X-rays, of one class alone."""
    tree(tmp_path, "Fractured/1.jpg", "Fractured/2.jpg", **{"Fractured/1.txt": DRAWN, "Fractured/2.txt": NONE_DRAWN})
    found, _ = read(tmp_path, label_names=("healthy", "fractured"))
    assert {label for label, _ in found.values()} == {1}


def test_a_list_that_lies_beside_the_pictures_is_named(tmp_path):
    tree(tmp_path, "images/1.jpg", **{"my list.csv": "image_id;fractured\n1;1\n", "other.csv": "a,b\n1,2\n"})
    with pytest.raises(FractureMaeError, match=r"--data-dir '.*/my list.csv'"):
        read(tmp_path)


def test_three_augmentations_of_roboflow_are_one_xray(tmp_path):
    """Turned by some degrees, mirrored and brighter; each stands under another label's folder of another X-ray's augmentations."""
    rng = np.random.default_rng(0)
    for number in range(8):
        picture = cv2.resize(rng.integers(0, 255, (24, 24), np.uint8), (200, 200), interpolation=cv2.INTER_CUBIC)
        turn = cv2.getRotationMatrix2D((100, 100), 8, 1)
        made = [picture, cv2.flip(cv2.warpAffine(picture, turn, (200, 200)), 1), cv2.convertScaleAbs(picture, beta=25)]
        for split, digit, each in zip(("train", "valid", "test"), "0af", made, strict=True):
            place = tmp_path / split / ("Fractured" if number % 2 else "normal") / f"{number}_png.rf.{digit * 32}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), each)
    index_ = loading.load(str(tmp_path), image_size=32).index
    name = index_["path"].map(lambda path: Path(path).name.split("_")[0])
    assert index_.groupby(name)["group"].nunique().eq(1).all()
    assert index_["group"].nunique() == 8


JUNK = [
    *(
        "__MACOSX/fractured/._1.jpg",
        "__MACOSX/fractured/2.jpg",
        "@eaDir/1.jpg/SYNOPHOTO_THUMB.jpg",
        "lost+found/1.jpg",
        "$RECYCLE.BIN/1.jpg",
        ".DS_Store",
    ),
    *("#recycle/1.jpg", "System Volume Information/1.jpg", ".Trash-1000/1.jpg", "._1.jpg"),
]


@pytest.mark.parametrize("place", ["", "train", "train/fractured", "test/healthy/patient"])
def test_what_systems_leave_behind_is_left_out_and_counted(tmp_path, caplog, place):
    kept = ["train/fractured/1.jpg", "train/healthy/2.jpg", "test/healthy/patient/3.jpg"]
    tree(tmp_path, *kept, *(f"./{place}/{name}" for name in (*JUNK, "Thumbs.db", "desktop.ini")))
    assert sorted(read(tmp_path)[0]) == sorted(kept)
    assert f"{len(JUNK) + 2} files that are hidden or that a system has left behind are left out" in caplog.text
    assert len(index.read_unlabelled(str(tmp_path))) == len(kept)


def test_files_beside_the_folders_of_classes_are_told(tmp_path, caplog):
    tree(tmp_path, "overview.jpg", "fractured/1.jpg", "healthy/2.jpg")
    assert len(read(tmp_path)[0]) == 2
    assert "1 files lie beside the folders of the classes and are not used, the first of them" in caplog.text


def test_links_are_followed_and_loops_are_told(tmp_path, caplog):
    elsewhere = tree(tmp_path / "elsewhere", "p1/1.jpg", "p1/deep/2.jpg", "3.jpg")
    root = tree(tmp_path / "root", "fractured/0.jpg", "healthy/0.jpg")
    (root / "fractured" / "patient").symlink_to(elsewhere / "p1")
    (root / "healthy" / "4.jpg").symlink_to(elsewhere / "3.jpg")
    (root / "healthy" / "again").symlink_to(root)  # to a folder that it lies in
    (root / "healthy" / "above").symlink_to(tmp_path)  # and one above
    (elsewhere / "p1" / "deep" / "back").symlink_to(elsewhere / "p1")
    (root / "healthy" / "itself").symlink_to(root / "healthy" / "itself")
    (root / "healthy" / "pipe").symlink_to("/dev/null")
    found, _ = read(root)
    assert sorted(found) == [
        *("fractured/0.jpg", "fractured/patient/1.jpg", "fractured/patient/deep/2.jpg"),
        *("healthy/0.jpg", "healthy/4.jpg", "healthy/itself"),
    ]
    assert "3 links lead back to a folder that they lie in, and are not followed" in caplog.text


def closed(monkeypatch, *folders: Path):
    """As for a user without the right to read them, which tests that run as root have."""
    scandir = os.scandir

    def refuse(path):
        if not isinstance(path, int) and Path(path) in folders:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, caplog):
    rng = np.random.default_rng(0)
    for label in ("fractured", "healthy"):
        for number in range(4):
            place = tmp_path / "xrays" / label / f"p{number}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_noise(place, rng)
    shut = tmp_path / "xrays" / "healthy" / "p0"
    closed(monkeypatch, shut)
    dataset = loading.load(str(tmp_path / "xrays"), image_size=32)
    assert f"the folder {shut} cannot be read (Permission denied)" in caplog.text
    assert dataset.rejected.to_numpy().tolist() == [[str(shut), "the folder cannot be opened: Permission denied"]]
    assert len(dataset.index) == 7
    assert str(shut) in set(index.read_unlabelled(str(tmp_path / "xrays"))["path"])
    closed(monkeypatch, tmp_path / "xrays")
    with pytest.raises(FractureMaeError, match="cannot be read: Permission denied"):
        index.read(str(tmp_path / "xrays"), "fractured")


NAMES = [
    "$a_^$",
    "100 %s",
    "\"quoted\" 'twice'",
    "line\nbreak",
    "a;b,c\td",
    "<b>&amp;",
    "{x}",
    "x" * 251,
    "#?%20",
    "\x1b[31m",
]


def test_any_name_travels_through_tables(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "$x^_ %s"
    for number, name in enumerate([*NAMES, *"0123"]):
        folder = root / ("fractured" if number % 2 else "not\nfractured $_^") / name[:100]
        folder.mkdir(parents=True)
        write_noise(folder / f"{name}.png", rng)
    first = loading.load(str(root), image_size=32)
    assert len(first.index) == len(NAMES) + 4
    splits.save(first.index, tmp_path / "splits.csv")
    again = loading.load(str(tmp_path / "splits.csv"), image_size=32, split="published")
    assert again.split_fingerprint == first.split_fingerprint


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_no_text_are_shown_legibly_and_found_again(tmp_path):
    rng = np.random.default_rng(0)
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xf6ntgen"))
    for number in range(8):
        folder = root / os.fsdecode(b"fractured" if number % 2 else b"hei\xdf") / os.fsdecode(b"p\xff%d" % number)
        folder.mkdir(parents=True)
        (folder / os.fsdecode(b"\xe4.png")).write_bytes(
            cv2.imencode(".png", rng.integers(0, 255, (40, 30), np.uint8))[1]
        )
    first = loading.load(str(root), image_size=32)
    assert (
        loading.load(str(first.index["path"].iloc[0]).rsplit("/", 3)[0], image_size=32).fingerprint == first.fingerprint
    )
    assert (first.name, first.label_names) == ("r\\xf6ntgen", ("hei\\xdf", "fractured"))
    assert first.index["path"].iloc[0] == f"{tmp_path}/r\\xf6ntgen/fractured/p\\xff1/\\xe4.png"
    splits.save(first.index, tmp_path / "splits.csv")
    identities._real.clear()  # as in another process
    again = loading.load(str(tmp_path / "splits.csv"), image_size=32, split="published")
    assert again.split_fingerprint == first.split_fingerprint
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / os.fsdecode(b"\xf6.jpg")).touch()
    (tmp_path / "list" / "2.jpg").touch()
    table, _ = index.read(csv_of(tmp_path / "list", ["path,label", "\\xf6.jpg,fractured", "2.jpg,no"]), "fractured")
    assert os.path.exists(identities.real_path(table["path"].iloc[1]))


def test_nothing_is_told_of_a_folder_without_junk(tmp_path, caplog):
    tree(tmp_path, "fractured/1.jpg", "healthy/2.jpg", "README.md", "data.yaml")
    with caplog.at_level(logging.WARNING):
        read(tmp_path)
    assert caplog.text == ""
