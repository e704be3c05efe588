import pandas as pd
import pytest

from fracture_mae.audit import leakage


@pytest.fixture
def table():
    """Eight files of five X-rays: A stands in train twice (the same bytes) and turned in test, B in train and test, byte for byte."""
    rows = [
        # split, sha256, picture, X-ray, label
        ("train", "a1", "A", "A", 1),
        ("train", "a1", "A", "A", 1),
        ("train", "b1", "B", "B", 0),
        ("train", "c1", "C", "C", 0),
        ("validation", "d1", "D", "D", 1),
        ("test", "a2", "A", "A", 1),
        ("test", "b1", "B", "B", 0),
        ("test", "c2", "C2", "C", 0),  # by its name alone
    ]
    table = pd.DataFrame(rows, columns=["split_published", "sha256", "content_group", "group", "label"])
    path = [f"/{number}.png" for number in range(len(table))]
    return table.assign(xray=table["group"], path=path, label_name=table["label"].map({1: "yes", 0: "no"}))


def share(between, split, other):
    row = between[(between["split"] == split) & (between["other"] == other)].iloc[0]
    return [row[f"share, {unit}"] for unit in ("same bytes", "same picture", "same X-ray")]


def test_leakage_by_hand(table):
    between = leakage.between_splits(table)
    assert len(between) == 6
    assert share(between, "test", "train") == pytest.approx([1 / 3, 2 / 3, 1])
    assert share(between, "train", "test") == pytest.approx([1 / 4, 3 / 4, 1])  # of four files, copies counted as files
    assert share(between, "train", "validation") == share(between, "validation", "test") == [0, 0, 0]
    assert between[["split", "other"]].to_numpy().tolist()[0] == ["train", "validation"]
    assert between.loc[0, "files"] == 4


def test_another_xray_of_a_patient_is_told_apart(table):
    # D in validation and C, in train and test, are two X-rays of one patient.
    patient = table["group"].replace("D", "C")
    between = leakage.between_splits(table.assign(patient=patient, given_patient=patient))
    row = between[(between["split"] == "validation") & (between["other"] == "test")].iloc[0]
    assert (row["share, same X-ray"], row["share, same patient"]) == (0, 1)
    assert "share, same patient" not in leakage.between_splits(table.assign(patient=patient, given_patient=""))


def test_without_published_splits_nothing_leaks_between_them(table):
    between = leakage.between_splits(table.assign(split_published=""))
    assert between.empty
    assert "share, same X-ray" in between
    assert leakage.splits_in(table.assign(split_published="")) == []


def test_independent_xrays_by_hand(table):
    found = leakage.independent_xrays(table).set_index(["split", "label"])
    assert found.loc[("all", "yes")].tolist() == [4, 3, 2, 3]  # files, contents, X-rays, files of the largest
    assert found.loc[("all", "no")].tolist() == [4, 3, 2, 2]
    assert found.loc[("train", "yes")].tolist() == [2, 1, 1, 2]
    assert ("validation", "no") not in found.index


def test_group_sizes(table):
    found = leakage.group_sizes(table)
    assert found.index[0] == "A"
    assert found.loc["A"].tolist() == [3, 2, "yes"]
    assert found["files"].sum() == 8


def conflicting():
    """Under both labels: one content, and an X-ray by two different files; a patient with two X-rays is no conflict."""
    rows = [("s", "S", "S", 1), ("s", "S", "S", 0), ("t1", "T", "T", 1), ("t2", "T", "T", 0)]
    rows += [("p1", "P", "P", 1), ("p2", "P2", "P", 0), ("q", "Q", "Q", 1), ("q", "Q", "Q", 1)]
    table = pd.DataFrame(rows, columns=["sha256", "xray", "group", "label"])
    return table.assign(
        path=[f"/{number}" for number in range(len(rows))], label_name=table["label"].map({1: "yes", 0: "no"})
    )


def test_label_conflicts_are_listed_with_their_kind():
    found = leakage.label_conflicts(conflicting())
    assert found["path"].tolist() == ["/0", "/1", "/2", "/3"]
    assert found["conflict"].tolist() == ["same bytes"] * 2 + ["same X-ray"] * 2
    assert found["set_aside"].str.startswith("label conflict").all()


def test_of_a_clear_majority_only_the_misplaced_file_is_set_aside():
    table = pd.DataFrame({"sha256": list("abcde"), "xray": "X", "label": [1, 1, 1, 1, 0], "path": list("12345")})
    found = leakage.label_conflicts(table)
    assert (found["set_aside"] == "").tolist() == [True] * 4 + [False]
    assert leakage.usable(table)["sha256"].tolist() == list("abcd")


def test_usable_files_are_distinct_and_have_one_label():
    assert leakage.usable(conflicting())["sha256"].tolist() == ["p1", "p2", "q"]


def test_sizes_of_a_group_with_both_labels_name_both():
    assert leakage.group_sizes(conflicting()).loc["P", "label"] == "no and yes"
