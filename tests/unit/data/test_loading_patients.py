from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import loading, splits
from fracture_mae.data.folds import cross_validation_sets
from fracture_mae.data.synthetic.xray import xray
from tests.builders import csv_of, write_noise


@pytest.fixture
def two_columns(tmp_path):
    """40 patients of two X-rays each, of which every fourth has one of either label, the others two alike; xray counts within
    the patient.

    Of each patient's first X-ray there are two files.
    """
    rng = np.random.default_rng(0)
    lines = ["path,label,patient,xray"]
    for patient in range(40):
        for xray_, n_files in ((1, 2), (2, 1)):
            fractured = patient % 2 if patient % 4 else xray_ % 2
            for file in range(n_files):
                name = f"{patient}_{xray_}_{'ab'[file]}.png"
                write_noise(tmp_path / name, rng)
                lines.append(f"{name},{'fractured' if fractured else 'healthy'},patient {patient},{xray_}")
    return csv_of(tmp_path, lines)


@pytest.mark.parametrize("group_by", ["column", "names"])
def test_two_xrays_of_a_patient_are_two_on_one_side(two_columns, group_by):
    for seed in range(5):
        dataset = loading.load(two_columns, image_size=32, group_by=group_by, split_seed=seed)
        table = dataset.index
        assert (table["group"].nunique(), table["patient"].nunique(), len(table)) == (80, 40, 120)
        assert set(table["patient"]) == {f"patient {number}" for number in range(40)}
        assert table.groupby("group")["label"].nunique().eq(1).all()
        assert table.groupby("group").size().value_counts().to_dict() == {1: 40, 2: 40}
        assert table.groupby("patient")["split"].nunique().eq(1).all()
        assert table.groupby("patient")["label"].nunique().eq(2).sum() == 10
        for fold in cross_validation_sets(dataset, 3, seed):
            sides = [set(side.table["patient"]) for side in fold.sides]
            assert not any(one & other for one, other in combinations(sides, 2))


def test_another_xray_of_a_patient_does_not_move_the_patient(two_columns, tmp_path):
    def sides():
        index = loading.load(two_columns, image_size=32, group_by="column").index
        return index.groupby("patient")["split"].first()

    first = sides()
    write_noise(tmp_path / "new.png", np.random.default_rng(9))
    with open(two_columns, "a", encoding="utf-8") as file:
        file.write("\nnew.png,healthy,patient 2,3")
    assert sides().equals(first)


def test_an_xray_that_the_csv_calls_one_is_a_conflict_under_both_labels(two_columns, tmp_path):
    text = Path(two_columns).read_text(encoding="utf-8")
    old = "1_1_a.png,fractured,patient 1,1"
    assert old in text
    Path(two_columns).write_text(text.replace(old, old.replace("fractured", "healthy")), encoding="utf-8")
    rejected = loading.load(two_columns, image_size=32, group_by="column").rejected
    assert sorted(Path(path).name for path in rejected["path"]) == ["1_1_a.png", "1_1_b.png"]
    assert rejected["reason"].str.startswith("label conflict").all()


def test_pictures_join_what_the_columns_hold_apart(tmp_path, caplog):
    """Files 0 and 6 show one X-ray, of patients a and g; so do 1 and 7, as two X-rays of patient b."""
    pictures = [xray(np.random.default_rng(seed), fractured=False, size=128) for seed in range(10)]
    for number, of in ((6, 0), (7, 1)):
        pictures[number] = cv2.warpAffine(pictures[of], cv2.getRotationMatrix2D((64, 64), 20, 1), (128, 128)[::-1])
    patients = ["a", "b", "c", "d", "e", "f", "g", "b", "a", "g"]
    rows = ["path,label,patient,xray"]
    for number, (picture, patient) in enumerate(zip(pictures, patients, strict=True)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        rows.append(f"{number}.png,{'fractured' if number in (1, 3, 5, 7) else 'healthy'},{patient},x{number}")
    dataset = loading.load(csv_of(tmp_path, rows), image_size=32)
    table = dataset.index.set_index(dataset.index["path"].map(lambda path: int(Path(path).stem))).sort_index()
    assert table["group"].nunique() == 8
    assert table["patient"].tolist() == ["a", "b", "c", "d", "e", "f", "a", "b", "a", "a"]
    assert table.loc[[0, 6], "group"].nunique() == table.loc[[1, 7], "group"].nunique() == 1
    assert "2 X-rays have files to which the CSV gives different values of xray or patient" in caplog.text


def test_the_split_with_patients_is_read_again_with_them(two_columns, tmp_path):
    first = loading.load(two_columns, image_size=32, group_by="column", split_seed=3)
    splits.save(first.index, tmp_path / "splits.csv")
    for options in ({"split": "published"}, {"split_seed": 4}):
        again = loading.load(str(tmp_path / "splits.csv"), image_size=32, group_by="column", **options)
        columns = ["path", "group", "patient", "split"]
        pd.testing.assert_frame_equal(again.index[columns], first.index[columns])
