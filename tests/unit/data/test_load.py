import logging

import cv2
import numpy as np
import pytest

from fracture_mae import data
from fracture_mae.errors import FractureMaeError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five X-rays of each class; of the first of each also a byte-identical and a rotated copy in another split."""
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for label in ("fractured", "healthy"):
        for split, numbers in {"train": (0, 1, 2), "val": (3,), "test": (4,)}.items():
            (tmp_path / "xrays" / split / label).mkdir(parents=True)
            for number in numbers:
                picture = rng.integers(0, 255, (40, 30), np.uint8)
                cv2.imwrite(str(tmp_path / "xrays" / split / label / f"{number}.png"), picture)
        source = tmp_path / "xrays" / "train" / label / "0.png"
        (tmp_path / "xrays" / "test" / label / "0 (1).png").write_bytes(source.read_bytes())
        turned = np.rot90(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE))
        cv2.imwrite(str(tmp_path / "xrays" / "test" / label / "0-rotated1.png"), turned)
    return tmp_path / "xrays"


def test_grouped_keeps_copies_together_and_exact_ones_once(folder):
    dataset = data.load(str(folder), image_size=32)
    assert dataset.leakage == 0
    assert dataset.index.groupby("group")["split"].nunique().eq(1).all()
    assert dataset.index["group"].nunique() == 10
    assert len(dataset.index) == 14
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 12


def test_published_leaks_and_says_so(folder):
    dataset = data.load(str(folder), image_size=32, split="published")
    assert dataset.leakage == pytest.approx(2 / 4)  # of four X-rays in test two stand in training too
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [6, 2, 6]


def test_pixels_and_labels_belong_together(folder):
    dataset = data.load(str(folder), image_size=40)
    for xrays in (dataset.train, dataset.validation, dataset.test):
        for position, path in enumerate(xrays.table["path"]):
            picture = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
            if picture.shape == (40, 30):
                assert (xrays.images(np.array([position]))[0][:, 5:35] == picture).all()
            assert xrays.label[position] == ("/fractured/" in path)


def test_fingerprints_follow_contents_labels_and_split_but_not_names(folder):
    first = data.load(str(folder), image_size=32)
    again = data.load(str(folder.rename(folder.parent / "moved")), image_size=32, split_seed=1)
    assert first.fingerprint == again.fingerprint
    assert first.split_fingerprint != again.split_fingerprint
    other = data.load(str(folder.parent / "moved"), image_size=32, positive_label="healthy")
    assert other.fingerprint != first.fingerprint


def test_rejected_files_are_listed_and_counted(folder, caplog):
    (folder / "train" / "healthy" / "broken.jpg").write_bytes(b"nothing")
    (folder / "train" / "healthy" / "gone.jpg").symlink_to(folder / "nowhere")
    with caplog.at_level(logging.WARNING):
        dataset = data.load(str(folder), image_size=32)
    assert sorted(dataset.rejected["reason"]) == ["not an image file", "the file cannot be opened"]
    assert "2 of 16 files are not used" in caplog.text
    assert len(dataset.index) == 14


def test_an_xray_under_both_labels_is_set_aside(folder):
    content = (folder / "train" / "healthy" / "1.png").read_bytes()
    (folder / "train" / "fractured" / "77.png").write_bytes(content)
    dataset = data.load(str(folder), image_size=32)
    assert len(dataset.rejected) == 2
    assert dataset.rejected["reason"].str.startswith("label conflict").all()


def test_nothing_readable_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    for label in ("fractured", "healthy"):
        (tmp_path / "xrays" / label).mkdir(parents=True)
        (tmp_path / "xrays" / label / "1.jpg").write_bytes(label.encode())
    with pytest.raises(FractureMaeError, match=r"none of the 2 files can be used.*not an image"):
        data.load(str(tmp_path / "xrays"), image_size=32)
