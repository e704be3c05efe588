import time

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data.copies import groups
from fracture_mae.data.copies.groups import assign, families, label_conflicts, large, source_of


def family_of(*names: str) -> list[str]:
    paths = pd.Series([f"/x/{name}" for name in names])
    return families(paths, pd.Series("", index=paths.index)).str.removeprefix("/").tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("12.jpg", "12"),
        ("12-rotated1.jpg", "12"),
        ("12-rotated1-rotated3 (2).jpg", "12"),
        ("12-rotated1 - Copy (2).jpg", "12"),
        ("12 - Copy.png", "12"),
        ("12_flipped.jpg", "12"),
        ("12-rot90_flip.jpg", "12"),
        ("12_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "12"),
        ("IMG0001234.jpg", "IMG0001234"),
        ("copy.jpg", "copy"),
        ("carrot1.jpg", "carrot1"),
        ("(3).jpg", "(3)"),
    ],
)
def test_what_copying_and_turning_append_is_no_part_of_the_family(name, expected):
    assert family_of(name) == [expected]


def test_a_number_behind_the_root_marks_a_copy_where_the_bare_name_is():
    assert family_of("12.jpg", "12 (1).jpg", "12(2).png", "12 (1)-rotated2.jpg") == ["12"] * 4
    assert family_of("12-rotated1.jpg", "12 (1).jpg") == ["12"] * 2


def test_files_renamed_in_bulk_are_different_xrays():
    names = ["wrist (1).jpg", "wrist (2).jpg", "wrist (2)-rotated1.jpg", "wrist (2) (1).jpg"]
    assert family_of(*names) == ["wrist (1)", "wrist (2)", "wrist (2)", "wrist (2)"]


def table(*rows):
    frame = pd.DataFrame(rows, columns=["path", "sha256", "scope", "given"])
    return frame.assign(group=assign(frame, given=frame["given"]))


def test_same_content_is_one_group_whatever_the_name():
    groups = table(("/a/1.jpg", "aa", "f", ""), ("/b/other.jpg", "aa", "n", ""), ("/a/2.jpg", "bb", "f", ""))["group"]
    assert groups[0] == groups[1] != groups[2]


def test_name_families_join_within_a_scope_alone():
    groups = table(
        ("/train/f/1.jpg", "aa", "f", ""), ("/test/f/1-rotated2.jpg", "bb", "f", ""), ("/train/n/1.jpg", "cc", "n", "")
    )["group"]
    assert groups[0] == groups[1] != groups[2]


def test_given_groups_join_and_empty_ones_do_not():
    groups = table(
        ("/1.jpg", "aa", "f", "p1"), ("/2.jpg", "bb", "f", "p1"), ("/3.jpg", "cc", "f", ""), ("/4.jpg", "dd", "f", "")
    )["group"]
    assert groups[0] == groups[1]
    assert groups.nunique() == 3


def test_joins_are_transitive():
    # 1 and 2 share content, 2 and 3 a family, 3 and 4 a given group: all four are one X-ray
    groups = table(
        ("/1.jpg", "aa", "f", ""), ("/2.jpg", "aa", "f", ""), ("/2 (1).jpg", "bb", "f", "p"), ("/9.jpg", "cc", "f", "p")
    )["group"]
    assert groups.nunique() == 1


def test_a_group_is_named_by_its_smallest_content():
    groups = table(("/1.jpg", "ff" * 32, "f", ""), ("/1 (2).jpg", "ab" * 32, "f", ""))["group"]
    assert groups.tolist() == ["ab" * 6] * 2


def test_sources_follow_the_style_of_names_and_stay_whole_in_a_group():
    rows = [(f"/{n}-rotated1.jpg", f"r{n}", "f", "") for n in range(3)] + [("/0.jpg", "r0 plain", "f", "")]
    rows += [(f"/IMG{n}.jpg", f"i{n}", "f", "") for n in range(3)] + [("/x-ray of a hand.jpg", "odd", "f", "")]
    frame = table(*rows)
    found = source_of(frame["path"], frame["group"], frame["given"])
    assert found.tolist() == ["0 rotated"] * 4 + ["IMG0"] * 3 + ["other"]


def test_a_given_source_holds_for_the_whole_group():
    paths, group = pd.Series(["/1.jpg", "/2.jpg", "/3.jpg"]), pd.Series(["a", "a", "b"])
    assert source_of(paths, group, pd.Series(["", "clinic", ""])).tolist() == ["clinic", "clinic", "other"]


def test_a_folder_called_rotated_rotates_nothing():
    paths = pd.Series([f"/rotated/{n}.jpg" for n in range(3)])
    assert set(source_of(paths, paths, pd.Series("", index=paths.index))) == {"0"}


def test_links_join():
    frame = pd.DataFrame({"path": ["/1.jpg", "/2.jpg", "/3.jpg"], "sha256": ["aa", "bb", "cc"], "scope": "f"})
    groups = assign(frame, links=[(np.array([0]), np.array([2]))])
    assert groups.tolist() == ["aa", "bb", "aa"]


def test_groups_do_not_depend_on_the_order_of_rows():
    frame = table(
        ("/1.jpg", "cc", "f", ""),
        ("/1-rotated1.jpg", "aa", "f", ""),
        ("/2.jpg", "aa", "f", "p"),
        ("/3.jpg", "bb", "f", "p"),
    )
    backwards = frame[::-1].reset_index(drop=True)
    assert set(frame["group"]) == set(assign(backwards, given=backwards["given"])) == {"aa"}


def conflicts(*rows):
    frame = pd.DataFrame(rows, columns=["group", "sha256", "label"])
    reasons = label_conflicts(frame, frame["group"])
    return ["" if not reason else reason.split()[2] for reason in reasons]


def test_an_xray_under_one_label_is_no_conflict():
    assert conflicts(("x", "a", 1), ("x", "b", 1), ("y", "c", 0)) == [""] * 3


def test_nobody_can_tell_which_of_two_labels_is_right():
    assert conflicts(("x", "a", 1), ("x", "b", 0), ("x", "c", 1), ("y", "d", 0)) == ["copies"] * 3 + [""]


def test_one_copy_in_the_wrong_folder_does_not_cost_the_others():
    rows = [("x", "a", 0), ("x", "b", 0), ("x", "c", 0), ("x", "d", 1)]
    assert conflicts(*rows) == [""] * 3 + ["most"]
    # Equal bytes are one copy however often they are there: now it is two against one.
    assert conflicts(("x", "a", 0), ("x", "b", 0), ("x", "b", 0), ("x", "d", 1)) == ["copies"] * 4


def test_equal_bytes_under_both_labels_count_for_both():
    assert conflicts(("x", "a", 0), ("x", "a", 1)) == ["copies"] * 2
    assert conflicts(("x", "a", 0), ("x", "b", 0), ("x", "c", 0), ("x", "a", 1)) == [""] * 3 + ["most"]


def test_a_group_is_large_from_twenty_files_and_a_twentieth_of_all():
    def with_others(n):
        return pd.Series(["many"] * 20 + ["fewer"] * 19 + [f"{number}" for number in range(n)])

    assert large(with_others(0)) == large(with_others(361)) == ["many"]  # 20 of 400
    assert large(with_others(362)) == []


@pytest.mark.parametrize(
    "mark",
    [
        " - Copy",
        "-rotated",
        " copy 2",
        "(1)",
        " (1)",
        " ",
        "-",
        "_",
        "_ -",
        "rot-",
        "_jpg.rf.",
        f"_jpg.rf.{'a1' * 16}",
        "1",
        "\n",
    ],
)
def test_a_name_of_any_marks_is_parsed_at_once(mark):
    """It took three times longer for each further copy: 14 took five seconds."""
    names = pd.Series([f"IMG{mark * 300}"[: 255 - len(end)] + end for end in ("", " final.jpg", "(", "-cop.jpg")])
    started = time.process_time()
    groups.parse(names)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("IMG - Copy - Copy (2)", ("IMG", "", " - Copy - Copy (2)")),
        ("12 (1)-rotated2 - Copy", ("12", " (1)", "-rotated2 - Copy")),
        ("12-rotated1_ (3)", ("12", "", "-rotated1_ (3)")),
        ("12 - Copy-", ("12", "", " - Copy-")),
        ("copy", ("copy", "", "")),
        (f"a_jpeg.rf.{'0f' * 16}", ("a", "", f"_jpeg.rf.{'0f' * 16}")),
        ("a_png.rf.Xk3pQ0aZr8TfLmBv2c1d", ("a", "", "_png.rf.Xk3pQ0aZr8TfLmBv2c1d")),
    ],
)
def test_marks_of_copies(name, parts):
    assert tuple(groups.parse(pd.Series([f"{name}.jpg"])).iloc[0]) == parts
