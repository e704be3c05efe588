from dataclasses import replace
from pathlib import Path

import cv2
import pandas as pd
import pytest

from fracture_mae.data import loading, shown
from fracture_mae.data.shown import PICTURE_ONLY, WITH_LABEL, Shown, leakage_of
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError

pytestmark = pytest.mark.usefixtures("one_cache")
DATA = "synthetic:n_xrays=30,copies=1,size=256"


@pytest.fixture(scope="module")
def dataset(module_cache):
    return loading.load(DATA, image_size=32)


@pytest.fixture(scope="module")
def of_encoder(dataset):
    return Shown.of(dataset, PICTURE_ONLY)


def elsewhere(dataset, folder, change):
    """The same X-rays in the same folders, each file's picture changed."""
    for row in dataset.index.drop_duplicates("sha256").itertuples():
        file = folder / row.split / row.label_name / f"{row.sha256}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = change(cv2.imread(row.path, cv2.IMREAD_GRAYSCALE))
        cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return folder


def original(dataset, path):
    """The X-ray, in `dataset`, that a file of `elsewhere` was made from."""
    return dataset.index.drop_duplicates("sha256").set_index("sha256")["group"][Path(path).stem]


@pytest.mark.parametrize(
    "change", [lambda picture: picture, lambda picture: cv2.rotate(picture[::-1, 20:], cv2.ROTATE_90_CLOCKWISE)]
)
def test_copies_are_found_under_other_bytes(dataset, of_encoder, tmp_path, change):
    other = loading.load(str(elsewhere(dataset, tmp_path, change)), image_size=32, split_seed=1)
    assert not set(other.index["sha256"]) & set(dataset.index["sha256"])
    first = other.test.table.drop_duplicates("group").set_index("group")["path"]
    trained_on = set(dataset.index.loc[dataset.index["split"] != "test", "group"])
    expected = {group: PICTURE_ONLY if original(dataset, path) in trained_on else "" for group, path in first.items()}
    assert set(expected.values()) == {PICTURE_ONLY, ""}
    how = of_encoder.among_test(other)
    assert how.to_dict() == expected
    share = sum(map(bool, expected.values())) / len(expected)
    assert leakage_of(how, other) == Leakage(picture_only=pytest.approx(share))


def test_what_was_kept_from_it_is_not_found(dataset, of_encoder):
    assert leakage_of(of_encoder.among_test(dataset), dataset) == Leakage()


def test_another_split_of_the_same_files_costs_no_search(dataset, of_encoder, monkeypatch):
    other = loading.load(DATA, image_size=32, split_seed=1)
    monkeypatch.setattr(shown.search, "find", None)
    how = of_encoder.among_test(other)
    side = dataset.index.drop_duplicates("group").set_index("group")["split"]
    assert (how == PICTURE_ONLY).equals(side[how.index] != "test")
    assert set(how) == {PICTURE_ONLY, ""}
    labelled = Shown.of(dataset, WITH_LABEL)
    assert (of_encoder | labelled).among_test(other).equals(how.replace(PICTURE_ONLY, WITH_LABEL))


def test_another_xray_of_the_patient_that_was_shown_counts(dataset, of_encoder):
    test = dataset.test.table["group"].unique()[0]
    trained_on = dataset.train.table["group"].iloc[0]
    patient = dataset.index["patient"].replace({test: "p", trained_on: "p"})
    table = dataset.test.table.assign(patient=dataset.test.table["patient"].replace({test: "p"}))
    # As if the split were published, or all stood in test: a patient who is on another side, or was shown there.
    sides = (dataset.index["split"], WITH_LABEL), ("test", PICTURE_ONLY)
    for split, expected in sides:
        index = dataset.index.assign(patient=patient, split=split)
        whole = table if isinstance(split, pd.Series) else index.drop_duplicates("sha256").reset_index(drop=True)
        other = replace(dataset, index=index, test=replace(dataset.test, table=whole))
        how = of_encoder.among_test(other)
        assert how[test] == expected
        assert (how[[group for group in dataset.test.table["group"].unique() if group != test]] == "").all()


def test_names_are_not_relied_on_where_copies_were_not_searched_for(dataset, of_encoder):
    other = loading.load(DATA, image_size=32, split_seed=3, group_by="names")
    side = dataset.index.drop_duplicates("sha256").set_index("sha256")["split"]
    how = of_encoder.among_test(other)
    first = other.test.table.drop_duplicates("group").set_index("group")["sha256"]
    assert (how == PICTURE_ONLY).equals((side[first[how.index]] != "test").set_axis(how.index))


def test_a_label_counts_more_than_a_picture():
    encoder = Shown(pd.Series({"a": PICTURE_ONLY, "b": PICTURE_ONLY}), {"a": b"1"})
    classifier = Shown(pd.Series({"b": WITH_LABEL, "c": WITH_LABEL}), {"c": b"3"})
    expected = {"a": PICTURE_ONLY, "b": WITH_LABEL, "c": WITH_LABEL}
    for both in (encoder | classifier, classifier | encoder):
        assert both.contents.to_dict() == expected
        assert both.thumbnails == {"a": b"1", "c": b"3"}


def test_it_is_kept_beside_a_model_and_is_small(of_encoder, dataset, tmp_path):
    of_encoder.save(tmp_path)
    found = Shown.load(tmp_path)
    assert found.contents.equals(of_encoder.contents)
    assert found.thumbnails == of_encoder.thumbnails
    n_xrays = len(set(dataset.train.group)) + len(set(dataset.validation.group))
    assert len(found.thumbnails) == n_xrays
    assert (tmp_path / "shown.zip").stat().st_size < 20_000 * n_xrays
    assert Shown.load(tmp_path / "nowhere") is None
    for damaged in (b"", b"no zip", (tmp_path / "shown.zip").read_bytes()[:-100]):
        (tmp_path / "shown.zip").write_bytes(damaged)
        with pytest.raises(FractureMaeError, match=r"shown\.zip, which says what the model was shown, is damaged"):
            Shown.load(tmp_path)


def test_leakage_in_words():
    assert str(Leakage()) == "0%"
    assert not Leakage()
    assert str(Leakage(with_label=1 / 500)) == "of the test X-rays 0.2% with label were shown in training"
    both = Leakage(with_label=0.25, picture_only=0.5, validation=0.1)
    assert str(both) == (
        "of the test X-rays 25% with label and 50% as picture only were shown in training; of the validation X-rays 10% stand in "
        "training too"
    )
