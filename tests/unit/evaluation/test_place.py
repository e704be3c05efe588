import numpy as np
import pytest

from fracture_mae.evaluation import place
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.place import Maps
from fracture_mae.metrics.rates import wilson
from tests.unit.evaluation.maps import UPPER_LEFT, maps_of

CERTAINTY = Certainty(200, 0)


def test_copies_of_an_xray_count_as_one():
    # One X-ray of three files, two of them right; one that is wrong; a healthy one.
    maps = maps_of([1, 1, 1, 1, 0], [UPPER_LEFT] * 4 + [""], [(0, 0), (1, 1), (3, 3), (3, 3), (0, 0)], [0, 0, 0, 1, 2])
    found = place.judge(maps, "test", "", CERTAINTY)
    assert found.metrics["test/xray/pointing_game"] == pytest.approx((2 / 3 + 0) / 2)
    assert found.metrics["test/xray/pointing_game_chance"] == pytest.approx(1 / 4)
    assert found.metrics["test/xray/pointing_game_times_chance"] == pytest.approx(4 / 3)
    assert found.metrics["test/n_xrays_with_boxes"] == 2
    # Every mark at 1, right or wrong, has the same score: none is above the first false one, but all are where all are allowed.
    assert found.metrics["test/xray/found_at_0.5"] == 0
    assert found.metrics["test/xray/found_at_1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found.tables["test/hottest_patch.csv"]["inside"].tolist() == [1, 1, 0, 0]
    assert found.tables["test/hottest_patch.csv"]["x"].tolist() == [0.125, 0.375, 0.875, 0.875]


def test_chance_is_of_the_film():
    # The film is the middle half of the square, and the box its upper left quarter: an eighth of the square.
    maps = maps_of([1, 1, 0], [UPPER_LEFT, UPPER_LEFT, ""], [(1, 1), (2, 3), (0, 0)], height=16)
    np.testing.assert_allclose(place.film_of(maps.xrays), [[0, 0.25, 1, 0.75]] * 3)
    found = place.judge(maps, "test", "", CERTAINTY)
    assert found.metrics["test/xray/pointing_game_chance"] == pytest.approx(1 / 4)
    assert found.metrics["test/xray/pointing_game"] == 0.5


def test_a_fracture_of_unknown_place_counts_nowhere():
    known = maps_of([1, 1, 0], [UPPER_LEFT, UPPER_LEFT, ""], [(0, 0), (3, 3), (2, 2)])
    more = maps_of([1, 1, 0, 1], [UPPER_LEFT, UPPER_LEFT, "", ""], [(0, 0), (3, 3), (2, 2), (1, 1)])
    expected = place.judge(known, "test", "", CERTAINTY).tables["test/place.csv"]
    found = place.judge(more, "test", "", CERTAINTY).tables["test/place.csv"]
    columns = ["metric", "estimate", "n_groups", "n_xrays"]
    assert found[columns].to_dict() == expected[columns].to_dict()
    assert found["n_groups"].tolist() == [2] * 3 + [3] * 6  # those with a box, and the healthy one


def test_a_map_that_is_always_right_is_not_certain():
    maps = maps_of([1] * 12 + [0] * 2, [UPPER_LEFT] * 12 + [""] * 2, [(1, 1)] * 14)
    table = place.judge(maps, "test", "", CERTAINTY).tables["test/place.csv"].set_index("metric")
    # Wilson's interval of 12 of 12: from 12 / (12 + 1.96²) on.
    assert table.loc["pointing_game", ["low", "estimate", "high"]].tolist() == pytest.approx([0.757506, 1, 1], abs=1e-6)
    assert table.loc["pointing_game_times_chance", "low"] == pytest.approx(4 * 0.757506, abs=1e-5)


def test_patients_are_drawn_whole():
    hottest = [(0, 0)] * 20 + [(3, 3)] * 20
    single = maps_of([1] * 40, [UPPER_LEFT] * 40, hottest)
    alike = single.predictions.assign(patient=np.arange(40) // 4)
    together = Maps(single.xrays, alike, single.heat, "")
    ends = []
    for maps in (single, together):
        table = place.judge(maps, "test", "", CERTAINTY).tables["test/place.csv"].set_index("metric")
        ends.append(table.loc["pointing_game", ["low", "high"]].tolist())
    # Twenty of forty, and five of the ten patients.
    assert [end for each in ends for end in each] == pytest.approx([*wilson(0.5, 40)[1:], *wilson(0.5, 10)[1:]])


def test_where_no_boxes_are_nothing_is_said():
    maps = maps_of([1, 0], ["", ""], [(0, 0), (1, 1)])
    found = place.judge(maps, "test", "", CERTAINTY)
    assert (found.metrics, found.tables, found.figures) == ({}, {}, {})
    assert place.digest(found, "test") == ""


def test_the_digest_is_in_words():
    maps = maps_of([1, 1, 0], [UPPER_LEFT, UPPER_LEFT, ""], [(0, 0), (3, 3), (2, 2)])
    first, second = place.digest(place.judge(maps, "test", "", CERTAINTY), "test").splitlines()
    assert first.startswith("where, on test, of 2 X-rays with boxes: the hottest patch lies in a box in 0.500 [")
    assert first.endswith("(by chance: 0.250)")
    assert second.startswith("  at 0.5, 1, 2 false marks per X-ray the fracture is found in 0.000")


def test_maps_of_folds_are_joined_in_their_order():
    maps = maps_of([1, 1, 0, 0], [UPPER_LEFT, "", "", ""], [(0, 0), (3, 3), (2, 2), (1, 1)])
    whole = place.joined([maps.subset(np.array([2, 3])), maps.subset(np.array([0, 1]))])
    assert whole.predictions["path"].tolist() == maps.predictions["path"].iloc[[2, 3, 0, 1]].tolist()
    np.testing.assert_array_equal(whole.heat, maps.heat[[2, 3, 0, 1]])
    assert whole.with_place.tolist() == [False, False, True, False]
