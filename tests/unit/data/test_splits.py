import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import splits
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError


def files(sizes_by_label: dict[int, list[int]], name: str = "") -> pd.DataFrame:
    """X-rays `NAMElabel-number`, each known by its own name whatever is added to it."""
    rows = [
        (f"{name}{label}-{number}", label, f"{name}{label}-{number}", f"{name}{label}-{number}-{copy}", "")
        for label, sizes in sizes_by_label.items()
        for number, size in enumerate(sizes)
        for copy in range(size)
    ]
    return pd.DataFrame(rows, columns=["patient", "label", "identity", "sha256", "given_split"])


def xrays_of(table: pd.DataFrame) -> pd.DataFrame:
    return table.groupby("patient").agg(label=("label", "first"), split=("split", "first"), size=("label", "size"))


def much_copied(n: int, rng: np.random.Generator) -> list[int]:
    """Numbers of files as in the synthetic set: one of ten X-rays has 7 to 16, some have 2 to 5, most have one."""
    draw = rng.random(n)
    return (1 + np.select([draw < 0.1, draw < 0.28], [rng.integers(6, 16, n), rng.integers(1, 5, n)], 0)).tolist()


SKEWED = files({0: [40] * 20 + [1] * 80, 1: [68] * 20 + [1] * 180})
# As in a public set: some dozen X-rays have most of the files.
PUBLIC = files(
    {0: [166, 85, 84] + [41] * 4 + [28] * 36 + [1] * 47, 1: [123, 81, 72] + [40] * 16 + [2] * 12 + [1] * 203}
)


def test_no_group_stands_on_two_sides():
    table = SKEWED.assign(split=splits.grouped(SKEWED, seed=3))
    splits.check(table)
    assert (table.groupby("patient")["split"].nunique() == 1).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("table", [SKEWED, PUBLIC], ids=["skewed", "public"])
def test_each_label_has_its_share_of_xrays_and_of_much_copied_ones(table, seed):
    """Two standard deviations of chance of all, 1.25 of those with eight files or more, for test and validation."""
    groups = xrays_of(table.assign(split=splits.grouped(table, seed)))
    for label in (0, 1):
        mine = groups[groups["label"] == label]
        for part, tolerance in ((mine, 2), (mine[mine["size"] >= 8], 1.25)):
            counts = part["split"].value_counts()
            for side in ("validation", "test"):
                assert abs(counts[side] - 0.15 * len(part)) <= tolerance * np.sqrt(0.15 * 0.85 * len(part))
            assert counts["train"] > 0.5 * len(part)


def test_no_side_has_most_of_the_files():
    share = [
        mine.groupby("split")["size"].sum()[list(splits.NAMES)] / mine["size"].sum()
        for seed in range(20)
        for _, mine in xrays_of(PUBLIC.assign(split=splits.grouped(PUBLIC, seed))).groupby("label")
    ]
    assert np.mean(share, axis=0) == pytest.approx(splits.FRACTIONS, abs=0.03)
    assert np.min(share, axis=0) == pytest.approx(splits.FRACTIONS, abs=0.2)


def added_to_320(seed: int, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """320 X-rays, half of them fractured, and n others, in turns of either label."""
    rng = np.random.default_rng(seed)
    old = files({label: much_copied(160, rng) for label in (0, 1)}, "old ")
    new = files({label: much_copied((n + label) // 2, rng) for label in (0, 1)}, "new ")
    return old, new


def moved(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> int:
    """How many of the old X-rays another side gets once new ones stand beside them."""
    together = pd.concat([new, old], ignore_index=True)
    before = old.assign(split=splits.grouped(old, seed)).groupby("patient")["split"].first()
    after = together.assign(split=splits.grouped(together, seed)).groupby("patient")["split"].first()
    return int((before != after[before.index]).sum())


def test_an_xray_more_moves_one_of_320_at_most():
    counts = [moved(*added_to_320(seed, 1), seed) for seed in range(20)]
    assert max(counts) <= 1
    assert np.mean(counts) <= 0.1


def test_half_as_many_xrays_more_move_less_than_one_in_a_hundred():
    counts = np.array([moved(*added_to_320(seed, 160), seed) for seed in range(20)])
    assert counts.mean() <= 0.005 * 320
    assert (counts <= 0.01 * 320).mean() >= 0.9
    assert counts.max() <= 0.03 * 320


def test_copies_of_xrays_that_are_there_move_none_but_for_the_balance_of_sizes():
    counts = []
    for seed in range(20):
        old, _ = added_to_320(seed, 0)
        copies = old.drop_duplicates("patient").sample(160, random_state=seed)
        counts.append(moved(old, copies.assign(sha256="copy of " + copies["sha256"]), seed))
    assert max(counts) <= 0.01 * 320
    assert np.mean(counts) <= 0.5


def test_a_label_is_split_alike_however_many_there_are_of_the_other():
    few, many = files({0: [1] * 50, 1: [1] * 50}), files({0: [1] * 400, 1: [1] * 50})
    for seed in range(5):
        fractured = (table.assign(split=splits.grouped(table, seed)) for table in (few, many))
        first, second = (table[table["label"] == 1].set_index("patient")["split"] for table in fractured)
        assert first.equals(second)


def test_what_is_given_is_kept_and_the_rest_brings_the_shares_near_theirs():
    table = files({0: [1] * 200, 1: [2] * 200})
    given = table["patient"].isin(table["patient"].unique()[:150])  # of the healthy ones alone, all in training
    stated = table.assign(given_split=np.where(given, "train", ""))
    split = splits.grouped(stated, 3)
    assert (split[given] == "train").all()
    counts = xrays_of(table.assign(split=split)).groupby("label")["split"].value_counts().unstack()
    reach = 2 * np.sqrt(200 * 0.15 * 0.85)
    assert (counts[["validation", "test"]] >= 30 - reach).all(axis=None)
    alone = splits.grouped(table, 3)
    assert split[table["label"] == 1].equals(alone[table["label"] == 1])


def test_an_xray_given_to_several_sides_is_held_out_and_counted(caplog):
    table = files({0: [3] * 10, 1: [3] * 10})
    table.loc[table["patient"] == "0-0", "given_split"] = ["train", "test", "validation"]
    table.loc[table["patient"] == "1-4", "given_split"] = ["train", "validation", ""]
    table.loc[table["patient"] == "1-5", "given_split"] = ["", "train", "train"]
    side = xrays_of(table.assign(split=splits.grouped(table, 0)))["split"]
    assert side[["0-0", "1-4", "1-5"]].tolist() == ["test", "validation", "train"]
    assert "2 X-rays or patients have files on several sides" in caplog.text


def test_an_xray_is_known_by_what_a_csv_calls_it_or_by_its_original():
    rows = [
        ("/a/12-rotated1.jpg", "aa", "g", "g", 90, "", "", ""),
        ("/a/12.jpg", "cc", "g", "g", 40, "", "", ""),
        ("/b/export.jpg", "bb", "g", "g", 30, "", "", ""),
        ("/b/3.jpg", "dd", "h", "p1", 40, "patient 2", "", "x"),
        ("/b/4.jpg", "ee", "i", "p1", 40, "patient 1", "a", "y"),
        ("/b/5.jpg", "ff", "i", "p1", 40, "", "a", "z"),
        ("/b/6.jpg", "gg", "j", "j", 40, "", "b", "x"),
        ("/b/7.jpg", "hh", "k", "k", 40, "", "", "w"),
    ]
    given = ["given_patient", "given_group", "given_xray"]
    table = pd.DataFrame(rows, columns=["path", "sha256", "group", "patient", "height", *given])
    table["width"] = table["height"]
    for frame in (table, table[::-1]):
        assert splits.identity(frame).sort_index().tolist() == ["cc"] * 3 + ["patient 1"] * 3 + ["b", "w"]


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_rows():
    shuffled = SKEWED.sample(frac=1, random_state=1)
    assert splits.grouped(SKEWED, 5).equals(splits.grouped(shuffled, 5).sort_index())
    assert not splits.grouped(SKEWED, 5).equals(splits.grouped(SKEWED, 6))


def test_exact_copies_do_not_make_an_xray_larger():
    thrice = pd.concat([SKEWED, SKEWED[SKEWED["patient"] == "0-99"], SKEWED[SKEWED["patient"] == "0-99"]])
    assert splits.grouped(thrice, 5).iloc[: len(SKEWED)].equals(splits.grouped(SKEWED, 5))


def test_too_few_xrays_are_counted_in_the_error():
    with pytest.raises(FractureMaeError, match="label 0: 2, label 1: 3"):
        splits.grouped(files({0: [9, 9], 1: [1, 1, 1]}), 0)


def test_three_xrays_of_each_label_are_enough():
    table = files({0: [1, 1, 1], 1: [5, 1, 1]})
    table["split"] = splits.grouped(table, 0)
    assert (table.groupby("label")["split"].nunique() == 3).all()


@pytest.mark.parametrize(("n", "fewest"), [(3, 1), (7, 1), (8, 2), (29, 2), (30, 3), (60, 6)])
def test_each_side_has_the_fewest_that_it_needs_of_a_label(n, fewest):
    for seed in range(10):
        table = files({0: [1] * n, 1: [1] * n})
        counts = table.assign(split=splits.grouped(table, seed)).groupby(["label", "split"]).size()
        assert len(counts) == 6
        assert counts.min() >= fewest


def test_published_is_taken_as_it_stands_and_must_be_whole():
    stated = pd.DataFrame({"split_published": ["train", "validation", "test"]})
    assert splits.published(stated).tolist() == ["train", "validation", "test"]
    with pytest.raises(FractureMaeError, match="validation is missing"):
        splits.published(stated.drop(1))
    with pytest.raises(FractureMaeError, match="1 files belong to no split"):
        splits.published(pd.concat([stated, pd.DataFrame({"split_published": [""]})]))


def test_leakage_counts_xrays_of_test_that_stand_elsewhere():
    sides = {"test": "abcd", "train": "aef", "validation": "be"}
    rows = [(group, group, name) for name, groups in sides.items() for group in groups]
    table = pd.DataFrame(rows, columns=["group", "patient", "split"])
    # a and b of a, b, c and d; and e of b and e.
    assert splits.leakage(table) == Leakage(with_label=2 / 4, validation=1 / 2)
    assert splits.leakage(table[table["split"] != "validation"]) == Leakage(with_label=1 / 4)
    assert splits.leakage(table[table["split"] == "train"]) == Leakage()
    # c is another X-ray of the patient whom f, in training, shows.
    table["patient"] = table["patient"].replace({"f": "p", "c": "p"})
    assert splits.leakage(table) == Leakage(with_label=3 / 4, validation=1 / 2)


def test_check_refuses_a_torn_group():
    with pytest.raises(FractureMaeError, match="1 X-rays or patients stand on two sides"):
        splits.check(pd.DataFrame({"patient": list("aab"), "split": ["train", "test", "train"]}))


def test_a_patient_with_both_labels_stays_whole():
    both = pd.DataFrame({"patient": "p", "label": [0, 1], "identity": "p", "sha256": ["p0", "p1"], "given_split": ""})
    table = pd.concat([SKEWED, both], ignore_index=True)
    table["group"] = table["patient"] + table["label"].astype(str)
    table["split"] = splits.grouped(table, 0)
    splits.check(table)
    splits.check_labels(table)


def test_patients_with_both_labels_count_as_positive():
    rows = [(f"both {n}", label, f"{n}-{label}") for n in range(3) for label in (0, 1)]
    rows += [(f"healthy {n}", 0, f"h{n}") for n in range(60)]
    table = pd.DataFrame(rows, columns=["patient", "label", "sha256"])
    table = table.assign(identity=table["patient"], given_split="", group=table["sha256"])
    table["split"] = splits.grouped(table, 0)
    splits.check_labels(table)  # one of the three on each side


def test_a_side_without_a_label_is_refused():
    table = pd.DataFrame({"group": list("abcdef"), "label": [0, 1] * 3, "split": np.repeat(splits.NAMES, 2)})
    splits.check_labels(table)
    with pytest.raises(FractureMaeError, match="validation: 1 negative, 0 positive"):
        splits.check_labels(table.drop(3))


def test_fractions_sum_to_one():
    assert np.sum(splits.FRACTIONS) == pytest.approx(1)
