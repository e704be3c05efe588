"""What was searched once is never searched again, and nothing that is torn or damaged is believed."""

import os
import threading

import pandas as pd
import pytest

from fracture_mae.data.copies import links as links_module
from fracture_mae.data.copies.links import Link, LinkStore, Searched, as_table, groups


def link(a, b):
    return Link(a, b, "aligned", 40, 0.75, 1.5, -30.25, True, False, 0.1 + 0.8, 0.95, 0.9)


class Search:
    """Finds a link for each pair of `same` that is there, and remembers what it was told."""

    def __init__(self, *same):
        self.same = same
        self.known = []

    def __call__(self, ids):
        def search(known):
            self.known.append(list(known.ids))
            return as_table(link(*pair) for pair in self.same if set(pair) <= set(ids))

        return search


@pytest.fixture
def store(tmp_path):
    return LinkStore(tmp_path / "links")


def test_a_second_run_searches_nothing_and_finds_the_same(store):
    search = Search("ab")
    first = store.find(["a", "b", "c"], search("abc"))
    again = LinkStore(store.folder).find(["c", "a", "b"], search("abc"))
    assert search.known == [[]]
    pd.testing.assert_frame_equal(first, again)
    assert again.to_numpy().tolist() == [list(link("a", "b"))]


def test_added_pictures_alone_are_new(store):
    search = Search("ab", "bd")
    store.find("abc", search("abc"))
    found = store.find("abcd", search("abcd"))
    assert search.known == [[], ["a", "b", "c"]]
    assert found[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["b", "d"]]


def test_of_several_sets_the_one_that_knows_most_is_built_on(store):
    search = Search()
    for ids in ("ab", "bcdx", "ey"):
        store.find(ids, search(ids))
    store.find("abcde", search("abcde"))
    assert search.known[-1] == ["b", "c", "d"]


def test_fewer_pictures_need_no_search(store):
    search = Search("ab", "bc", "de")
    store.find("abcdef", search("abcdef"))
    assert store.find("abcf", search("abcf"))[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["b", "c"]]
    assert len(search.known) == 1


def test_copies_that_hung_together_through_a_picture_that_is_gone_are_searched_again(store):
    search = Search("ab", "bc", "de")
    store.find("abcdef", search("abcdef"))
    store.find("acdef", search("acdef"))
    assert search.known[-1] == ["d", "e", "f"]


def test_what_a_killed_writer_left_counts_as_nothing(store):
    search = Search("ab")
    store.find("ab", search("ab"))
    (file,) = store.folder.glob("*.json")
    file.rename(file.with_suffix(".4711"))  # killed before it was moved into place
    assert len(store.find("ab", search("ab"))) == 1
    assert search.known == [[], []]


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-9], lambda x: x.replace(b"aligned", b"aligner"), lambda x: b"", bytes]
)
def test_a_damaged_file_counts_as_nothing_and_is_replaced(store, damage):
    search = Search("ab")
    store.find("ab", search("ab"))
    (file,) = store.folder.glob("*.json")
    file.write_bytes(damage(file.read_bytes()) if damage is not bytes else b"\xff\xfe\0")
    for _ in range(2):
        assert store.find("ab", search("ab"))["method"].tolist() == ["aligned"]
    assert search.known == [[], []]


def test_the_sets_used_last_are_kept(store, monkeypatch):
    monkeypatch.setattr(links_module, "_KEPT", 2)
    search = Search()
    for age, ids in ((30, "ab"), (20, "cd")):
        store.find(ids, search(ids))
        for file in set(store.folder.glob("*.json")):
            os.utime(file, (file.stat().st_mtime - age,) * 2)
    store.find("ab", search("ab"))  # used again
    store.find("ef", search("ef"))
    assert len(list(store.folder.glob("*.json"))) == 2
    store.find("ab", search("ab"))
    assert len(search.known) == 3
    store.find("cd", search("cd"))
    assert len(search.known) == 4


def test_of_two_that_search_the_same_one_waits(store):
    started, finish, searches = threading.Event(), threading.Event(), []

    def slow(known):
        searches.append(known)
        started.set()
        finish.wait(10)
        return as_table()

    first, second = (threading.Thread(target=store.find, args=("ab", slow)) for _ in range(2))
    first.start()
    started.wait(10)
    second.start()
    finish.set()
    first.join(10)
    second.join(10)
    assert len(searches) == 1


def test_no_pictures(store):
    assert store.find([], Search()("")).empty


def test_groups_are_connected_components():
    table = pd.DataFrame({"a": ["b", "b", "x"], "b": ["c", "d", "y"]})
    expected = {"a": "a", "b": "b", "c": "b", "d": "b", "x": "x", "y": "x"}
    assert groups(table, ["d", "y", "a", "x", "c", "b"]).to_dict() == expected


def test_restricting_keeps_what_still_hangs_together():
    searched = Searched(list("abcde"), as_table([link("a", "b"), link("b", "c"), link("d", "e")]))
    known = searched.restrict(["b", "c", "e", "z"])
    assert known.ids == ["b", "c", "e"]
    assert known.links[["a", "b"]].to_numpy().tolist() == [["b", "c"]]
    assert list(known.links.columns) == list(Link._fields)
