from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import folds
from fracture_mae.data.folds import assign, cross_validation_sets
from fracture_mae.errors import FractureMaeError
from tests import builders


def files(sizes_of_label):
    """A table with X-rays of the given numbers of files, by label."""
    rows = [
        {"group": f"{label}-{number}", "patient": f"{label}-{number}", "label": label}
        for label, sizes in sizes_of_label.items()
        for number, size in enumerate(sizes)
        for _ in range(size)
    ]
    return pd.DataFrame(rows)


UNEVEN = {0: [1] * 40 + [20] * 5, 1: [1] * 15 + [8] * 5}  # 45 and 20 X-rays


def test_folds_part_no_xray_and_hold_each_file_once():
    table = files(UNEVEN)
    fold = assign(table, 5, seed=0)
    assert set(fold) == set(range(5))
    assert pd.Series(fold).groupby(table["group"]).nunique().eq(1).all()


@pytest.mark.parametrize("seed", range(5))
def test_folds_hold_like_numbers_of_xrays_of_each_label_and_size(seed):
    table = files(UNEVEN).assign(fold=lambda t: assign(t, 5, seed=seed))
    counts = table.groupby(["fold", "label"])["group"].nunique().unstack()
    assert counts[0].between(7, 11).all()  # 45 / 5 = 9
    assert counts[1].between(3, 5).all()  # 20 / 5 = 4
    # One of the five X-rays with many copies each, so like numbers of files, which folds drawn by chance would not have.
    many = table[table.groupby("group")["label"].transform("size") > 1]
    assert many.groupby(["fold", "label"])["group"].nunique().eq(1).all()


def test_folds_are_drawn_by_the_seed():
    table = files(UNEVEN)
    first = assign(table, 5, seed=0)
    np.testing.assert_array_equal(first, assign(table, 5, seed=0))
    assert (first != assign(table, 5, seed=1)).any()
    shuffled = table.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(assign(shuffled, 5, seed=0), first[shuffled.index])  # not by the order of files


def test_a_patient_with_xrays_under_both_labels_is_in_one_fold():
    table = files({0: [2] * 12, 1: [2] * 12})
    patient = table["group"].isin(["0-1", "1-1"])
    table.loc[patient, "patient"] = "patient"
    for seed in range(10):
        assert len(set(assign(table, 4, seed=seed)[patient])) == 1


def pooled_dataset():
    """24 X-rays, half of them of each label, every third with three files; the last four X-rays are for test."""
    group = np.repeat(np.arange(24), np.where(np.arange(24) % 3 == 0, 3, 1))
    whole = builders.xrays("all", group % 2, group)
    return builders.split_dataset(whole, validation=np.flatnonzero(group < 4), test=np.flatnonzero(group >= 20))


def contents(xrays):
    return set(xrays.table["sha256"])


def test_each_fold_is_trained_tuned_and_judged_on_other_xrays():
    dataset = pooled_dataset()
    sets = cross_validation_sets(dataset, 4, seed=0)
    for data in sets:
        groups = [set(side.group) for side in (data.train, data.validation, data.test)]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20
        assert all(set(side.label) == {0, 1} for side in (data.train, data.validation, data.test))
        assert [side.name for side in (data.train, data.validation, data.test)] == ["train", "validation", "test"]
    held_out = pd.concat([data.test.table for data in sets])
    assert held_out["sha256"].is_unique
    assert set(held_out["sha256"]) == contents(dataset.train) | contents(dataset.validation)
    assert len({data.split_fingerprint for data in sets}) == 4


def test_each_file_keeps_its_own_picture():
    for data in cross_validation_sets(pooled_dataset(), 2, seed=0):
        for side in (data.train, data.validation, data.test):
            pictures = side.images(np.arange(len(side)))
            assert [builders.hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures] == side.table[
                "sha256"
            ].tolist()


def test_the_test_xrays_are_not_read():
    dataset = pooled_dataset()
    poisoned = replace(dataset, test=None, index=dataset.index.assign(label=1 - dataset.index["label"]))
    for honest, other in zip(cross_validation_sets(dataset, 3, 0), cross_validation_sets(poisoned, 3, 0), strict=True):
        assert honest.split_fingerprint == other.split_fingerprint
        pd.testing.assert_frame_equal(honest.index, other.index)


def test_a_file_on_both_published_sides_counts_once():
    dataset = pooled_dataset()
    leaky = replace(dataset, validation=dataset.train.subset(np.arange(3)))
    held_out = pd.concat([data.test.table for data in cross_validation_sets(leaky, 3, 0)])
    assert sorted(held_out["sha256"]) == sorted(contents(dataset.train))


@pytest.mark.parametrize(("n_folds", "needed"), [(11, 11), (20, 20)])
def test_more_folds_than_xrays_of_a_label_are_refused(n_folds, needed):
    message = (
        f"--cross-validate {n_folds}: X-rays found in training and validation: 10 fractured, 10 not fractured.*"
        f"Expected: {needed} or more of each of two labels"
    )
    with pytest.raises(FractureMaeError, match=message):
        cross_validation_sets(pooled_dataset(), n_folds, 0)


def test_a_label_that_is_missing_is_too_few():
    with pytest.raises(
        FractureMaeError, match=r"--n-folds 2: X-rays found in some: 5 fractured, .* Expected: 2 or more"
    ):
        folds.check_enough(builders.xrays("some", [1] * 5), 2, "--n-folds 2")


def test_two_folds_need_four_xrays_of_a_label():
    """Of three, one fold gets two, and the one that is left cannot both train and validate."""
    few = builders.xrays("few", [1, 1, 1, *[0] * 9])
    with pytest.raises(FractureMaeError, match=r"3 fractured, 8 not fractured.* Expected: 4 or more"):
        cross_validation_sets(builders.split_dataset(few, validation=[0, 4], test=[11]), 2, 0)


def test_the_inner_validation_part_is_about_a_sixth():
    group = np.arange(240)
    whole = builders.xrays("many", group % 2)
    sets = cross_validation_sets(builders.split_dataset(whole, validation=[0, 1], test=[2, 3]), 5, 0)
    assert {len(data.validation) for data in sets} <= set(range(28, 36))  # 238 · 4/5 / 6 = 32
    assert folds.N_INNER_FOLDS == 6
