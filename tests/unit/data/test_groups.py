import pandas as pd
import pytest

from fracture_mae.data.groups import assign, family, source_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("12.jpg", "12"),
        ("12-rotated1.jpg", "12"),
        ("12-rotated1-rotated3 (2).jpg", "12"),
        ("12-rotated1 - Copy (2).jpg", "12"),
        ("12 - Copy.png", "12"),
        ("12(1).jpg", "12"),
        ("12_flipped.jpg", "12"),
        ("IMG0001234.jpg", "IMG0001234"),
        ("copy.jpg", "copy"),
        ("carrot1.jpg", "carrot1"),
    ],
)
def test_family(name, expected):
    assert family(name) == expected


def table(*rows):
    frame = pd.DataFrame(rows, columns=["path", "sha256", "scope", "given"])
    return frame.assign(group=assign(frame, family_scope=frame["scope"], given=frame["given"]))


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
    assert source_of(frame, frame["group"]).tolist() == ["0 rotated"] * 4 + ["IMG0"] * 3 + ["other"]
