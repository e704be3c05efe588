from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import loading, unlabelled
from fracture_mae.data.shown import PICTURE_ONLY, WITH_LABEL, Shown
from fracture_mae.data.synthetic.xray import xray
from fracture_mae.data.types import UNLABELLED
from fracture_mae.errors import FractureMaeError
from tests import builders

pytestmark = pytest.mark.usefixtures("one_cache")
DATA = "synthetic:n_xrays=30,copies=0.5,size=256"
# What is done to a picture so that its bytes, its size and its place are others.
CHANGES = [
    lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    lambda picture: picture[:, ::-1],
    lambda picture: cv2.resize(picture, None, fx=0.8, fy=0.8),
    lambda picture: picture,
]


@pytest.fixture(scope="module")
def labelled(module_cache):
    return loading.load(DATA, image_size=32)


def write_copies(dataset, folder):
    """Every X-ray again as a JPEG, changed, under a name that says nothing; file name -> (group, split)."""
    folder.mkdir()
    made = {}
    for number, row in enumerate(dataset.index.drop_duplicates("group").itertuples()):
        file = folder / f"{number}.jpg"
        picture = CHANGES[number % len(CHANGES)](cv2.imread(row.path, cv2.IMREAD_GRAYSCALE))
        cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        made[file.name] = row.group, row.split
    return made


def write_others(folder, n):
    """X-rays that are no copies of any other."""
    for number in range(n):
        cv2.imwrite(
            str(folder / f"new-{number}.png"), xray(np.random.default_rng(1000 + number), fractured=False, size=256)
        )


def names(paths):
    return {Path(path).name for path in paths}


@pytest.fixture(scope="module")
def together(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together") / "pictures"
    made = write_copies(labelled, folder)
    (folder / "below").mkdir()
    write_others(folder / "below", 6)
    return unlabelled.add(labelled, str(folder), image_size=32), made


def test_nothing_of_test_or_validation_is_trained_on(together, labelled):
    dataset, made = together
    added = names(dataset.added["path"])
    assert {made[name][1] for name in added & set(made)} == {"train"}
    left_out = dataset.unlabelled[dataset.unlabelled["left_out"] != ""]
    reasons = dict(zip(names_in_order(left_out), left_out["left_out"], strict=True))
    assert reasons == {
        name: f"a copy of a {split} X-ray" for name, (_, split) in made.items() if split in ("test", "validation")
    }
    assert {f"new-{number}.png" for number in range(6)} <= added
    sentence = unlabelled.describe(dataset.unlabelled)
    assert sentence.startswith(
        f"{len(left_out)} of {len(made) + 6} unlabelled files are left out, unlabelled.csv lists them: "
    )


def test_copies_of_training_xrays_join_their_group(together):
    dataset, made = together
    rows = dataset.added.set_index(dataset.added["path"].map(lambda path: Path(path).name))
    for name, (group, split) in made.items():
        if split == "train":
            assert rows.loc[name, "group"] == group
    others = rows[rows.index.str.startswith("new-")]
    assert others["group"].nunique() == 6
    assert not others["group"].isin(dataset.index["group"]).any()


def test_the_labelled_xrays_stay_as_they_are(together, labelled):
    dataset, _ = together
    assert dataset.split_fingerprint == labelled.split_fingerprint
    assert dataset.fingerprint == labelled.fingerprint
    pd.testing.assert_frame_equal(dataset.index, labelled.index)
    for name in ("validation", "test"):
        assert getattr(dataset, name) is getattr(labelled, name)
    n = len(labelled.train)
    pd.testing.assert_series_equal(dataset.train.table["path"][:n], labelled.train.table["path"])
    assert len(dataset.train) == n + len(dataset.added)
    positions = np.arange(n)
    np.testing.assert_array_equal(dataset.train.images(positions), labelled.train.images(positions))
    last = cv2.imread(dataset.train.table["path"].iloc[-1], cv2.IMREAD_GRAYSCALE)
    assert abs(dataset.train.images(np.array([len(dataset.train) - 1])).mean() - last.mean()) < 25


def test_what_has_no_label_never_counts_as_negative(together):
    dataset, _ = together
    assert (dataset.added["label"] == UNLABELLED).all()
    assert np.isnan(dataset.train.known_label[-1])
    with pytest.raises(
        FractureMaeError, match=f"{len(dataset.added)} of {len(dataset.train)} X-rays in train have no label"
    ):
        _ = dataset.train.label
    assert dataset.validation.known_label.tolist() == dataset.validation.label.tolist()


def test_what_was_shown_tells_of_them(together, labelled):
    dataset, _ = together
    shown = Shown.of(dataset, PICTURE_ONLY)
    assert set(dataset.added["sha256"]) <= set(shown.contents.index)
    assert not set(dataset.unlabelled.loc[dataset.unlabelled["left_out"] != "", "sha256"]) & set(shown.contents.index)
    assert set(shown.among_test(labelled)) == {""}
    # Those that are copies of test X-rays would have been found out.
    test = dataset.unlabelled[dataset.unlabelled["left_out"] == "a copy of a test X-ray"]
    known = loading.read_picture(test["path"].iloc[0])
    leaky = Shown(pd.Series({"x": WITH_LABEL}, dtype=object), {"x": cv2.imencode(".jpg", known)[1].tobytes()})
    assert WITH_LABEL in set(leaky.among_test(labelled))


def test_the_same_folder_again_adds_nothing(labelled):
    dataset = unlabelled.add(labelled, DATA, image_size=32)
    assert len(dataset.added) == 0
    assert len(dataset.train) == len(labelled.train)
    assert dataset.unlabelled_fingerprint == ""
    reasons = dataset.unlabelled["left_out"].value_counts()
    splits = labelled.index["split"].value_counts()
    assert reasons["a copy of a test X-ray"] == splits["test"]
    assert reasons["a copy of a validation X-ray"] == splits["validation"]
    assert reasons["the same bytes as a file for training"] == splits["train"]


def test_xrays_of_a_patient_of_the_held_out_ones_are_left_out(tmp_path):
    lines = ["path,label,patient,split"]
    for number in range(12):
        split = ("train", "val", "test")[number % 3]
        label = "fractured" if number % 2 else "healthy"
        builders.write_noise(tmp_path / f"{number}.png", np.random.default_rng(number), (64, 48))
        lines.append(f"{number}.png,{label},p{number},{split}")
    dataset = loading.load(builders.csv_of(tmp_path, lines), image_size=32)
    more = tmp_path / "more"
    more.mkdir()
    lines = ["path,patient"]
    for number, patient in enumerate(["p0", "p1", "p2", "q", ""]):
        builders.write_noise(more / f"{number}.png", np.random.default_rng(100 + number), (64, 48))
        lines.append(f"{number}.png,{patient}")
    found = unlabelled.add(dataset, builders.csv_of(more, lines), image_size=32)
    reasons = dict(zip(names_in_order(found.unlabelled), found.unlabelled["left_out"], strict=True))
    assert reasons == {
        "0.png": "",
        "1.png": "of the patient of a validation X-ray",
        "2.png": "of the patient of a test X-ray",
        "3.png": "",
        "4.png": "",
    }
    rows = found.added.set_index(found.added["path"].str[-5:])
    assert rows.loc["0.png", "patient"] == "p0"  # joins its patient, who is for training


def names_in_order(table):
    return [Path(path).name for path in table["path"]]


def test_a_file_that_cannot_be_read_is_listed_as_rejected(labelled, tmp_path):
    write_others(tmp_path, 1)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    dataset = unlabelled.add(labelled, str(tmp_path), image_size=32)
    assert names(dataset.rejected["path"]) == {"broken.png"}
    assert names(dataset.added["path"]) == {"new-0.png"}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_nothing_there_is_told_in_a_sentence(labelled, tmp_path, make):
    make(tmp_path / "nothing")
    with pytest.raises(FractureMaeError, match=r"no such folder or CSV|holds no X-rays, neither in itself"):
        unlabelled.add(labelled, str(tmp_path / "nothing"), image_size=32)


def test_data_without_classes_are_split_by_xray(labelled, tmp_path):
    made = write_copies(labelled, tmp_path / "once")
    twice = tmp_path / "once" / "again"
    twice.mkdir()
    for name in made:
        picture = cv2.imread(str(tmp_path / "once" / name), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(twice / name), cv2.rotate(picture, cv2.ROTATE_180), [cv2.IMWRITE_JPEG_QUALITY, 80])
    dataset = loading.load(str(tmp_path / "once"), image_size=32, labels_needed=False)
    assert dataset.label_names is None
    assert len(dataset.index) == 2 * len(made)
    assert dataset.index.groupby("group")["split"].nunique().max() == 1
    assert dataset.index["group"].nunique() == len(made)
    shares = dataset.index["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.1)
    with pytest.raises(FractureMaeError, match="have no label"):
        _ = dataset.validation.label
    with pytest.raises(FractureMaeError, match=r"Expected: .*exactly two|in label folders"):
        loading.load(str(tmp_path / "once"), image_size=32)


def test_one_picture_cannot_be_split(tmp_path):
    write_others(tmp_path, 1)
    with pytest.raises(FractureMaeError, match=r"too few X-rays to split.*1 without a label. Expected: three or more"):
        loading.load(str(tmp_path), image_size=32, labels_needed=False)
