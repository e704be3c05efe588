import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import splits
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError


def files(sizes_by_label: dict[int, list[int]]) -> pd.DataFrame:
    rows = [
        (f"{label}-{number}", label, f"{label}-{number}-{copy}")
        for label, sizes in sizes_by_label.items()
        for number, size in enumerate(sizes)
        for copy in range(size)
    ]
    return pd.DataFrame(rows, columns=["group", "label", "sha256"])


SKEWED = files({0: [40] * 20 + [1] * 80, 1: [68] * 20 + [1] * 180})


def test_no_group_stands_on_two_sides():
    table = SKEWED.assign(split=splits.grouped(SKEWED, seed=3))
    splits.check(table)
    assert (table.groupby("group")["split"].nunique() == 1).all()


def test_each_label_has_its_share_of_xrays_and_of_files_and_of_much_copied_xrays():
    table = SKEWED.assign(split=splits.grouped(SKEWED, seed=3))
    groups = table.groupby("group").agg(label=("label", "first"), split=("split", "first"), size=("label", "size"))
    for label in (0, 1):
        mine = groups[groups["label"] == label]
        assert mine["split"].value_counts(normalize=True).to_dict() == pytest.approx(
            {"train": 0.70, "validation": 0.15, "test": 0.15}, abs=0.011
        )
        assert mine[mine["size"] > 1]["split"].value_counts().to_dict() == {"train": 14, "validation": 3, "test": 3}
        share = table[table["label"] == label]["split"].value_counts(normalize=True)
        assert share.to_dict() == pytest.approx({"train": 0.70, "validation": 0.15, "test": 0.15}, abs=0.02)


# As in a public set: some dozen X-rays have most of the files.
PUBLIC = files(
    {0: [166, 85, 84] + [41] * 4 + [28] * 36 + [1] * 47, 1: [123, 81, 72] + [40] * 16 + [2] * 12 + [1] * 203}
)


@pytest.mark.parametrize("seed", range(5))
def test_a_few_xrays_with_most_of_the_files_tilt_no_side(seed):
    table = PUBLIC.assign(split=splits.grouped(PUBLIC, seed))
    groups = table.groupby("group").agg(label=("label", "first"), split=("split", "first"), size=("label", "size"))
    positive = groups.groupby("split")["label"].mean()
    assert positive.to_dict() == pytest.approx(dict.fromkeys(splits.NAMES, groups["label"].mean()), abs=0.015)
    for _, mine in groups.groupby("label"):
        of_many = mine[mine["size"] > 20]["split"].value_counts(normalize=True)[list(splits.NAMES)]
        assert of_many.tolist() == pytest.approx(splits.FRACTIONS, abs=0.02)
        share = (mine.groupby("split")["size"].sum() / mine["size"].sum())[list(splits.NAMES)]
        assert share.tolist() == pytest.approx(splits.FRACTIONS, abs=0.08)


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_rows():
    shuffled = SKEWED.sample(frac=1, random_state=1)
    assert splits.grouped(SKEWED, 5).equals(splits.grouped(shuffled, 5).sort_index())
    assert not splits.grouped(SKEWED, 5).equals(splits.grouped(SKEWED, 6))


def test_exact_copies_do_not_make_an_xray_larger():
    thrice = pd.concat([SKEWED, SKEWED[SKEWED["group"] == "0-99"], SKEWED[SKEWED["group"] == "0-99"]])
    assert splits.grouped(thrice, 5).iloc[: len(SKEWED)].equals(splits.grouped(SKEWED, 5))


def test_too_few_xrays_are_counted_in_the_error():
    with pytest.raises(FractureMaeError, match="label 0: 2, label 1: 3"):
        splits.grouped(files({0: [9, 9], 1: [1, 1, 1]}), 0)


def test_three_xrays_of_each_label_are_enough():
    table = files({0: [1, 1, 1], 1: [5, 1, 1]})
    table["split"] = splits.grouped(table, 0)
    assert (table.groupby("label")["split"].nunique() == 3).all()


def test_published_is_taken_as_it_stands_and_must_be_whole():
    stated = pd.DataFrame({"split_published": ["train", "validation", "test"]})
    assert splits.published(stated).tolist() == ["train", "validation", "test"]
    with pytest.raises(FractureMaeError, match="validation is missing"):
        splits.published(stated.drop(1))
    with pytest.raises(FractureMaeError, match="1 files belong to no split"):
        splits.published(pd.concat([stated, pd.DataFrame({"split_published": [""]})]))


def test_leakage_counts_xrays_of_test_that_stand_elsewhere():
    sides = {"test": "abcd", "train": "aef", "validation": "be"}
    table = pd.DataFrame(
        [(group, name) for name, groups in sides.items() for group in groups], columns=["group", "split"]
    )
    # a and b of a, b, c and d; and e of b and e.
    assert splits.leakage(table) == Leakage(with_label=2 / 4, validation=1 / 2)
    assert splits.leakage(table[table["split"] != "validation"]) == Leakage(with_label=1 / 4)
    assert splits.leakage(table[table["split"] == "train"]) == Leakage()


def test_check_refuses_a_torn_group():
    with pytest.raises(FractureMaeError, match="1 X-rays stand on two sides"):
        splits.check(pd.DataFrame({"group": list("aab"), "split": ["train", "test", "train"]}))


def test_a_patient_with_both_labels_stays_whole():
    both = pd.DataFrame({"group": ["p", "p"], "label": [0, 1], "sha256": ["p0", "p1"]})
    table = pd.concat([SKEWED, both], ignore_index=True)
    table["split"] = splits.grouped(table, 0)
    splits.check(table)
    splits.check_labels(table)


def test_patients_with_both_labels_count_as_positive():
    rows = [(f"both {n}", label, f"{n}-{label}") for n in range(3) for label in (0, 1)]
    rows += [(f"healthy {n}", 0, f"h{n}") for n in range(60)]
    table = pd.DataFrame(rows, columns=["group", "label", "sha256"])
    table["split"] = splits.grouped(table, 0)
    splits.check_labels(table)  # one of the three on each side


def test_a_side_without_a_label_is_refused():
    table = pd.DataFrame({"group": list("abcdef"), "label": [0, 1] * 3, "split": np.repeat(splits.NAMES, 2)})
    splits.check_labels(table)
    with pytest.raises(FractureMaeError, match="validation: 1 negative, 0 positive"):
        splits.check_labels(table.drop(3))


def test_fractions_sum_to_one():
    assert np.sum(splits.FRACTIONS) == pytest.approx(1)
