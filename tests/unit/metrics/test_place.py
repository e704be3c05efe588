import numpy as np
import pytest

from fracture_mae.metrics import place
from fracture_mae.metrics.place import Marks

NONE = [np.nan] * 4
UPPER_LEFT, LOWER_RIGHT = [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]
EVERYWHERE = [0, 0, 1, 1]


def boxes(*of_files):
    """Boxes of each file, filled up to as many."""
    most = max(map(len, of_files))
    return np.array([[*each, *[NONE] * (most - len(each))] for each in of_files], dtype=np.float32).reshape(-1, most, 4)


def test_the_pointing_game_by_hand():
    hot = np.zeros((4, 4, 4))
    hot[0, 1, 1] = hot[1, 2, 2] = hot[2, 0, 3] = hot[3, 0, 0] = 1
    # In its box; outside; in the second one of two; the centre (0.125, 0.125) is beside a box that does reach into the patch.
    told = boxes([UPPER_LEFT], [UPPER_LEFT], [LOWER_RIGHT, [0.7, 0, 1, 0.3]], [[0.13, 0, 0.5, 0.5]])
    assert place.hottest_inside(hot, told).tolist() == [1, 0, 1, 0]


def test_x_is_to_the_right_and_y_down():
    hot = np.zeros((1, 2, 4))
    hot[0, 0, 3] = 1  # upper right
    assert place.hottest_inside(hot, boxes([[0.75, 0, 1, 0.5]])).tolist() == [1]
    assert place.hottest_inside(hot, boxes([[0, 0.5, 0.5, 1]])).tolist() == [0]


def test_a_map_that_says_the_same_everywhere_has_what_a_guess_has():
    told = boxes([UPPER_LEFT], [[0.25, 0.25, 0.75, 1]], [EVERYWHERE, UPPER_LEFT])
    film = np.tile(EVERYWHERE, (3, 1)).astype(float)
    chance = place.covered(told, film)
    np.testing.assert_allclose(chance, [1 / 4, 3 / 8, 1])
    np.testing.assert_allclose(place.hottest_inside(np.full((3, 8, 8), -2.0), told), chance)


def test_chance_is_of_the_film_and_what_two_boxes_cover_counts_once():
    # 0.4 x 0.4 and 0.4 x 0.4 overlapping in 0.2 x 0.2; the film is the left half, which cuts the second box to 0.3 wide.
    told = boxes([[0, 0, 0.4, 0.4], [0.2, 0.2, 0.6, 0.6]])
    film = np.array([[0, 0, 0.5, 1]])
    np.testing.assert_allclose(place.covered(told, film), [(0.16 + 0.12 - 0.04) / 0.5], rtol=1e-6)


def test_chance_of_random_maps():
    rng = np.random.default_rng(0)
    maps = rng.random((4000, 8, 8))
    told = np.tile(boxes([[0.25, 0, 0.5, 0.5]]), (4000, 1, 1))
    assert place.hottest_inside(maps, told).mean() == pytest.approx(1 / 8, abs=0.021)  # 4 standard deviations


def test_no_two_marks_touch():
    maps = np.array(
        [[[1, 3, 2], [3, 0, 0], [0, 0, 1.5]]]
    )  # two equal neighbours, and one that is the least of nobody's
    assert place.peaks(maps)[0].tolist() == [[False, True, False], [False, False, False], [False, False, True]]
    assert place.peaks(np.zeros((1, 3, 3)))[0].sum() == 1
    marks = place.peaks(np.random.default_rng(0).integers(0, 4, (50, 6, 6)).astype(float))
    for touching in ((marks[:, 1:], marks[:, :-1]), (marks[..., 1:], marks[..., :-1])):
        assert not np.logical_and(*touching).any()
    assert not (marks[:, :-1, :-1] & marks[:, 1:, 1:]).any()


def three_marks():
    """A fractured file with a mark of 3 in its one box and one of 2 outside; a healthy one with a mark of 2.5."""
    maps = np.full((2, 4, 4), -9.0)
    maps[0, 0, 0], maps[0, 3, 3], maps[1, 1, 1] = 3, 2, 2.5
    return Marks.of(maps, boxes([UPPER_LEFT], []))


def test_three_marks_by_hand():
    marks = three_marks()
    assert (marks.best.tolist(), marks.false.tolist(), marks.false_of.tolist()) == ([3], [2.5, 2], [1, 0])
    found = place.found_at(marks, (0, 0.5, 1), np.ones(2))
    assert {name: float(value) for name, value in found.items()} == dict.fromkeys(found, 1.0)
    per_file, of_boxes, of_files = place.froc_curve(marks, np.ones(2))
    assert per_file.tolist() == [0, 0.5, 1]
    assert of_boxes.tolist() == of_files.tolist() == [1, 1, 1]


def test_what_is_found_hangs_on_the_false_marks_that_are_allowed():
    # Two boxes of one file, marked at 1 and not at all; false marks: 4 in the healthy file, 2 and 0.5 in the fractured one.
    maps = np.full((2, 6, 6), -9.0)
    maps[0, 0, 0], maps[0, 0, 4], maps[0, 5, 0], maps[1, 1, 1] = 1, 2, 0.5, 4
    marks = Marks.of(maps, boxes([[0, 0, 0.2, 0.2], [0.7, 0.7, 0.9, 0.9]], []))
    assert marks.best.tolist() == [1, -np.inf]
    np.testing.assert_array_equal(marks.best_of_file, [1, np.nan])
    found = {name: float(value) for name, value in place.found_at(marks, (0.5, 1, 2), np.ones(2)).items()}
    # Above 2 (the second false mark, which would make 1 a file) nothing; at 1 a file the limit is 0.5, below the mark of 1.
    assert found == {
        "found_at_0.5": 0,
        "boxes_found_at_0.5": 0,
        "found_at_1": 1,
        "boxes_found_at_1": 0.5,
        "found_at_2": 1,
        "boxes_found_at_2": 0.5,
    }
    per_file, of_boxes, of_files = place.froc_curve(marks, np.ones(2))
    assert (per_file.tolist(), of_boxes.tolist(), of_files.tolist()) == (
        [0, 0.5, 1, 1.5],
        [0, 0, 0.5, 0.5],
        [0, 0, 1, 1],
    )


def test_weights_are_as_good_as_repeated_files():
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 9, (12, 5, 5)).astype(float)  # many ties
    told = np.full((12, 2, 4), np.nan)
    told[:6, 0], told[:3, 1] = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.8]
    draws = rng.multinomial(12, np.full(12, 1 / 12), size=5)
    together = place.found_at(Marks.of(maps, told), (0.5, 1), draws / 3)  # whatever they add up to
    for number, draw in enumerate(draws):
        files = np.repeat(np.arange(12), draw)
        alone = place.found_at(Marks.of(maps[files], told[files]), (0.5, 1), np.ones(12))
        assert {name: values[number] for name, values in together.items()} == pytest.approx(alone)


def test_a_mark_within_half_a_patch_hits():
    maps = np.full((1, 4, 4), -9.0)
    maps[0, 1, 1] = 1  # centre (0.375, 0.375), a patch is 0.25 wide
    assert Marks.of(maps, boxes([[0.49, 0.3, 0.6, 0.4]])).best.tolist() == [1]
    assert Marks.of(maps, boxes([[0.51, 0.3, 0.6, 0.4]])).best.tolist() == [-np.inf]
    inside_one = Marks.of(maps, boxes([[0.26, 0.26, 0.27, 0.27]]))  # between centres, and hit all the same
    assert (inside_one.best.tolist(), inside_one.false.tolist()) == ([1], [])


def test_equal_false_marks_count_together():
    maps = np.full((2, 5, 5), -9.0)
    maps[0, 0, 0] = maps[1, 0, 0] = maps[1, 4, 4] = 2
    marks = Marks.of(maps, boxes([[0, 0, 0.2, 0.2]], []))
    assert float(place.found_at(marks, (0.5,), np.ones(2))["found_at_0.5"]) == 0  # 2 false marks at 2, not 1
    assert float(place.found_at(marks, (1,), np.ones(2))["found_at_1"]) == 1
