from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import folds
from fracture_mae.data.held_out_sources import MOST_FOLDS, HeldOutSources, choose_validation, gather, inner_folds
from fracture_mae.errors import FractureMaeError
from tests import builders

FOUR = {"Bern": (12, 8), "Oslo": (8, 8), "Rome": (6, 10), "Turin": (5, 5)}


def dataset_of(counts, **columns):
    """Every sixth X-ray is for validation, every seventh for test."""
    whole = builders.of_sources(counts)
    whole = replace(whole, table=whole.table.assign(**columns))
    number = np.arange(len(whole))
    return builders.split_dataset(
        whole, validation=number[number % 6 == 1], test=number[(number % 7 == 3) & (number % 6 != 1)]
    )


def all_of(counts, **columns):
    """No X-ray is for test."""
    whole = builders.of_sources(counts)
    whole = replace(whole, table=whole.table.assign(**columns))
    return builders.split_dataset(whole, validation=range(0, len(whole), 6), test=[])


def test_each_source_is_held_out_once_and_never_trained_on_then():
    dataset = dataset_of(FOUR)
    held = HeldOutSources.of(dataset)
    sets = held.sets(dataset, seed=0)
    assert len(sets) == held.n_folds == 4
    for number, data in enumerate(sets):
        (source,) = set(data.test.table["source"])
        assert held.named(number) == source
        trained = pd.concat([data.train.table, data.validation.table])
        assert source not in set(trained["source"])
        assert set(trained["source"]) == set(FOUR) - {source}
        assert all(set(side.label) == {0, 1} for side in data.sides)
    held_out = pd.concat([data.test.table for data in sets])
    assert held_out["sha256"].is_unique
    expected = pd.concat([dataset.train.table, dataset.validation.table])
    assert sorted(held_out["sha256"]) == sorted(expected["sha256"])  # and no X-ray of test


def test_test_xrays_are_not_read():
    dataset = dataset_of(FOUR)
    poisoned = replace(dataset, test=None)
    assert HeldOutSources.of(poisoned).fingerprint == HeldOutSources.of(dataset).fingerprint


def test_sizes_and_who_can_be_judged_alone_by_hand():
    held = HeldOutSources.of(all_of({"A": (6, 5), "B": (0, 7), "C": (9, 4), "D": (5, 0)}))
    assert held.sources[["n_files", "n_xrays", "n_negative", "n_positive"]].to_numpy().tolist() == [
        [11, 11, 6, 5],
        [7, 7, 0, 7],
        [13, 13, 9, 4],
        [5, 5, 5, 0],
    ]
    assert held.alone == ["A"]
    assert held.sources["not_alone"].tolist()[1:] == [
        "positive ones alone",
        "9 negative and 4 positive, fewer than 5 of one",
        "negative ones alone",
    ]
    assert held.sources["fold"].sort_values().index.tolist() == ["C", "A", "B", "D"]  # the largest first
    assert str(held).startswith(
        "4 sources in 4 folds, one model each: A (11 X-rays); B (7 X-rays, positive ones alone)"
    )


def test_copies_count_once():
    group = [f"x{number // 2}" for number in range(28)]
    held = HeldOutSources.of(all_of({"A": (6, 8), "B": (8, 6)}, group=group, patient=group))
    assert held.sources["n_files"].tolist() == [14, 14]
    assert held.sources[["n_negative", "n_positive"]].to_numpy().tolist() == [[3, 4], [4, 3]]


def test_sources_that_share_a_patient_are_held_out_as_one():
    dataset = all_of(FOUR)
    by_source = dataset.index.groupby("source")["sha256"].first()
    held = HeldOutSources.of(_together(dataset, by_source[["Bern", "Turin"]]))
    assert held.sources.index.tolist() == ["Bern + Turin", "Oslo", "Rome"]
    assert held.sources.loc["Bern + Turin", "n_xrays"] == 30
    assert pd.Series(held.fold).groupby(held.xrays.table["patient"]).nunique().eq(1).all()


def _together(dataset, contents):
    """The same where these contents are of one patient."""

    def mark(table):
        return table.assign(patient=table["patient"].mask(table["sha256"].isin(contents), "patient"))

    sides = {side.name: replace(side, table=mark(side.table)) for side in dataset.sides}
    return replace(dataset, index=mark(dataset.index), **sides)


def test_a_copy_that_a_csv_says_is_from_elsewhere_joins_both_sources():
    """`source` is one for all copies of an X-ray; what the CSV said of each is in `given_source`."""
    given = ["A"] * 14 + ["B"] * 14 + ["C"] * 14
    group = [f"x{number}" for number in range(42)]
    group[14] = group[0]  # neither is fractured
    columns = {"given_source": given, "source": ["B", *given[1:]], "group": group, "patient": group}
    dataset = all_of({"A": (7, 7), "B": (7, 7), "C": (7, 7)}, **columns)
    assert HeldOutSources.of(dataset).sources.index.tolist() == ["A + B", "C"]


def test_many_sources_share_folds_and_none_is_parted():
    sizes = [40, 30, *[3] * 24]
    table = pd.DataFrame(
        [
            {"source": f"s{number:02}", "group": f"{number}-{i}"}
            for number, size in enumerate(sizes)
            for i in range(size)
        ]
    )
    fold = gather(table, MOST_FOLDS)
    assert pd.Series(fold).groupby(table["source"]).nunique().eq(1).all()
    n_xrays = pd.Series(fold).value_counts()
    assert n_xrays.sort_index().tolist() == [40, 30, *[9] * 8]  # 24 sources of three in eight folds
    assert gather(table.iloc[::-1], MOST_FOLDS)[::-1].tolist() == fold.tolist()


def test_few_sources_have_a_fold_each():
    table = pd.DataFrame({"source": list("aabbbc"), "group": range(6)})
    assert gather(table, 10).tolist() == [1, 1, 0, 0, 0, 2]


def test_validation_is_of_whole_sources_where_there_are_enough():
    counts = {"A": (20, 20), "B": (20, 20), "C": (15, 15), "D": (7, 7)}
    table = builders.of_sources(counts).table
    chosen = choose_validation(table, seed=0)
    assert set(table["source"][chosen]) == {"D"}  # 14 of 124: the nearest to a sixth, of those below a third
    assert chosen.sum() == 14


@pytest.mark.parametrize(
    "counts",
    [
        {"A": (20, 20), "B": (20, 20)},  # two sources
        {"A": (20, 20), "B": (20, 20), "C": (30, 4)},  # a third one with too few of a label
        {"A": (30, 10), "B": (10, 30), "C": (20, 25)},  # each has more than a third of a label
    ],
)
def test_validation_is_of_whole_xrays_elsewhere(counts):
    table = builders.of_sources(counts).table
    np.testing.assert_array_equal(choose_validation(table, seed=0), folds.grouped_validation(table, 0))


def test_settings_are_chosen_across_sources():
    table = builders.of_sources(FOUR).table
    fold = inner_folds(table, 4, seed=0)
    assert pd.Series(fold).groupby(table["source"]).nunique().eq(1).all()
    assert len(set(fold)) == 4
    two = builders.of_sources({"A": (10, 10), "B": (10, 10)}).table
    np.testing.assert_array_equal(inner_folds(two, 4, seed=0), folds.assign(two, 4, 0))


def test_a_single_source_is_refused():
    with pytest.raises(
        FractureMaeError, match=r"--cross-validate sources: all X-rays .* are of one source, 'A'. Expected: two or more"
    ):
        HeldOutSources.of(all_of({"A": (10, 10)}))


def test_a_label_that_one_source_alone_has_is_refused():
    message = r"without Bern there are in training and validation: 1 fractured, 16 not fractured.* Expected: 2 or more of each label"
    with pytest.raises(FractureMaeError, match=message):
        HeldOutSources.of(all_of({"Bern": (3, 9), "Oslo": (16, 1)}))


def test_other_sources_are_another_fingerprint():
    """The contents are the same, and so is their split."""
    dataset = all_of(FOUR)
    other = all_of(FOUR, source=[f"s{number % 4}" for number in range(sum(map(sum, FOUR.values())))])
    assert other.split_fingerprint == dataset.split_fingerprint
    assert HeldOutSources.of(other).fingerprint != HeldOutSources.of(dataset).fingerprint
