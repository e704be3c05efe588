import csv
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fracture_mae.data.synthetic import dataset
from fracture_mae.data.synthetic.xray import xray
from fracture_mae.errors import FractureMaeError

SMALL = {"n_xrays": 24, "size": 64, "progress": False}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def groups(folder):
    with open(folder / dataset.GROUPS_FILE, newline="", encoding="utf-8") as file:
        return {row["path"]: row["xray"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return dataset.materialise(tmp_path_factory.mktemp("root"), **SMALL)


def test_groups_name_each_file_once(folder):
    assert set(groups(folder)) == set(contents(folder)) - {dataset.GROUPS_FILE}


def test_half_of_the_xrays_are_fractured(folder):
    xrays = {(path.split("/")[1], xray) for path, xray in groups(folder).items()}
    assert Counter(label for label, _ in xrays) == {"fractured": 12, "not fractured": 12}


def test_every_file_is_a_grey_picture_of_the_asked_size(folder):
    for path in groups(folder):
        picture = cv2.imread(str(folder / path), cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint8
        assert picture.ndim == 2
        assert max(picture.shape) == 64


def test_no_published_split_lacks_a_label(tmp_path):
    folder = dataset.materialise(tmp_path, n_xrays=6, copies=0, size=64, progress=False)
    assert Counter(path.rsplit("/", 1)[0] for path in groups(folder)) == {
        f"{split}/{label}": 1 for split in ("train", "val", "test") for label in ("fractured", "not fractured")
    }


def test_the_same_arguments_give_the_same_files_and_another_seed_others(folder, tmp_path):
    assert contents(dataset.materialise(tmp_path, **SMALL)) == contents(folder)
    other = dataset.materialise(tmp_path, **SMALL, seed=1)
    assert not set(contents(other).values()) & set(contents(folder).values())


def test_a_larger_set_begins_with_a_smaller_one(folder, tmp_path):
    smaller = dataset.materialise(tmp_path, **SMALL | {"n_xrays": 8})
    assert groups(smaller).items() <= groups(folder).items()
    pictures = {path: content for path, content in contents(smaller).items() if path != dataset.GROUPS_FILE}
    assert pictures.items() <= contents(folder).items()


def test_a_copy_holds_the_bytes_of_what_it_copies(folder):
    by_xray_and_name = {(groups(folder)[path], path.rsplit("/", 1)[1]): path for path in groups(folder)}
    copies = [(xray, name) for xray, name in by_xray_and_name if "- Copy" in name]
    assert copies
    for made_from, name in copies:
        parent = name.rsplit(" (", 1)[0] + name[-4:]
        assert (folder / by_xray_and_name[made_from, name]).read_bytes() == (
            folder / by_xray_and_name[made_from, parent]
        ).read_bytes()


def test_a_rotated_file_has_black_corners_and_the_middle_of_its_parent():
    picture = np.full((100, 100), 200, np.uint8)
    rotated = dataset._rotated(np.random.default_rng(0), picture, np.array([40.0, 40.0, 60.0, 60.0]))[0]
    assert [rotated[corner] for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [0, 0, 0, 0]
    np.testing.assert_array_equal(rotated[30:70, 30:70], 200)


def test_most_xrays_have_no_copies_and_a_tenth_has_many():
    rng = np.random.default_rng(0)
    numbers = np.array([dataset._number_of_copies(rng, 1.5) for _ in range(20_000)])
    # 0.1 * (6 + ... + 15) / 10 + 0.18 * (1 + ... + 4) / 4 = 1.05 + 0.45
    assert numbers.mean() == pytest.approx(1.5, abs=0.08)
    assert (numbers == 0).mean() == pytest.approx(0.72, abs=0.01)
    assert (numbers >= 6).mean() == pytest.approx(0.10, abs=0.01)


def test_fractured_xrays_lie_in_the_folder_fractured(tmp_path, monkeypatch):
    monkeypatch.setattr(
        dataset,
        "xray_and_place",
        lambda rng, *, fractured, size: (np.full((size, size), 255 * fractured, np.uint8), np.zeros(4)),
    )
    folder = dataset.materialise(tmp_path, **SMALL)
    for path in groups(folder):
        middle = cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE)[32, 32]
        assert (middle > 128) == ("/fractured/" in path)


def test_no_copies(tmp_path):
    folder = dataset.materialise(tmp_path, **SMALL, copies=0)
    assert len(set(groups(folder).values())) == len(groups(folder)) == 24


def test_a_second_call_writes_nothing(folder, monkeypatch):
    monkeypatch.setattr(dataset, "_write", lambda *_: pytest.fail("written again"))
    assert dataset.materialise(folder.parent, **SMALL) == folder


def test_an_interrupted_call_leaves_nothing_that_looks_whole(folder, tmp_path, monkeypatch):
    calls = []

    def fail_at_the_tenth(*args, **kwargs):
        calls.append(args)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return np.zeros((64, 64), np.uint8), np.zeros(4)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "xray_and_place", fail_at_the_tenth)
        with pytest.raises(KeyboardInterrupt):
            dataset.materialise(tmp_path, **SMALL)
    assert not (tmp_path / folder.name).exists()
    assert contents(dataset.materialise(tmp_path, **SMALL)) == contents(folder)


def test_two_processes_at_once_both_succeed(folder, tmp_path):
    code = (
        "import sys, pathlib; from fracture_mae.data.synthetic.dataset import materialise; print('ready', flush=True); input();"
        "print(materialise(pathlib.Path(sys.argv[1]), n_xrays=24, size=64, progress=False))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert answers == [str(tmp_path / folder.name)] * 2
    assert contents(tmp_path / folder.name) == contents(folder)


@pytest.mark.parametrize(
    ("argument", "value"), [("n_xrays", 5), ("copies", -0.1), ("copies", 5.1), ("seed", -1), ("size", 63)]
)
def test_arguments_out_of_range_are_refused(tmp_path, argument, value):
    with pytest.raises(FractureMaeError, match=f"{argument}={value}, expected"):
        dataset.materialise(tmp_path, **{argument: value})


def test_neither_brightness_nor_file_size_nor_shape_tells_the_label():
    labels = np.arange(300) % 2 == 0
    pictures = [xray(np.random.default_rng(seed), fractured=bool(label), size=96) for seed, label in enumerate(labels)]
    for feature in (
        np.mean,
        np.std,
        lambda picture: len(cv2.imencode(".jpg", picture)[1]),
        lambda p: np.divide(*p.shape),
    ):
        # The AUROC of noise has a standard deviation of sqrt(301 / (12 * 150 * 150)) = 0.033.
        assert roc_auc_score(labels, [feature(picture) for picture in pictures]) == pytest.approx(0.5, abs=0.1)


def test_boxes_hold_the_fracture_and_turn_with_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "xray_and_place", lambda *_, fractured, size: drawn(fractured))
    root = dataset.materialise(tmp_path, **SMALL, copies=2, boxes=True)
    table = pd.read_csv(root / dataset.BOXES_FILE)
    assert set(table["path"]) == {path for path in groups(root) if "/fractured/" in path}
    assert any("rotated" in path for path in table["path"])
    for path, x0, y0, x1, y1 in table.itertuples(index=False):
        rows, columns = np.nonzero(cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED) > 128)
        assert (x0 - 1 <= columns).all()
        assert (columns <= x1 + 1).all()
        assert (y0 - 1 <= rows).all()
        assert (rows <= y1 + 1).all()


def drawn(fractured):
    """A white square where the box is."""
    picture, box = np.zeros((64, 48), np.uint8), np.array([8.0, 30.0, 20.0, 40.0])
    picture[30:40, 8:20] = 255 * fractured
    return picture, box


def test_with_boxes_or_without_the_pictures_are_the_same(folder, tmp_path):
    boxed = contents(dataset.materialise(tmp_path, **SMALL, boxes=True))
    boxed.pop(dataset.BOXES_FILE)
    assert boxed == contents(folder)
