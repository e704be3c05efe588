import cv2
import numpy as np
import pytest

from fracture_mae.data.copies import markers
from fracture_mae.data.copies.keypoints import KeypointStore
from fracture_mae.data.synthetic.xray import xray

NAMES = [f"x{number}" for number in range(8)]


def lettered(picture, text, place):
    return cv2.putText(picture.copy(), text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 245, 1, cv2.LINE_AA)


def places(number):
    return 10 + 10 * number, 20 + 25 * number


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [xray(rng, fractured=bool(number % 2), size=256) for number in range(8)]


@pytest.fixture
def find(tmp_path):
    def found(pictures):
        pictures = dict(zip(NAMES, pictures, strict=True))
        return markers.find(pictures.get, NAMES, store=KeypointStore(tmp_path / "features.bin"), num_workers=1)

    return found


def test_two_x_rays_with_the_same_lettering_are_found_wherever_it_stands(find, pictures):
    pictures = list(pictures)
    pictures[1] = lettered(pictures[1], "K7RB2XN4ME", (10, 20))
    pictures[5] = lettered(pictures[5], "K7RB2XN4ME", (140, 230))
    (marker,), n_common = find(pictures)
    assert (marker.a, marker.b, n_common) == ("x1", "x5", 0)
    assert marker.inliers >= markers.MIN_INLIERS
    assert marker.correlation > 0.9
    # Ten letters, 62 pixels long and 9 high, whose lower left corner was said.
    assert np.allclose(marker.box_a, (10, 11, 70, 22), atol=6)
    assert np.allclose(marker.box_b, (140, 221, 200, 232), atol=6)


def test_other_lettering_on_each_x_ray_is_no_marker_of_two(find, pictures):
    words = [
        "K7RB2XN4ME",
        "PD3TZ9GHA5",
        "VUF8YLC62S",
        "9MXKZB4TRE",
        "H5GQA7WNDP",
        "C2YSJ8LFVU",
        "TR4E9KB7XM",
        "6DPUH3ZGAQ",
    ]
    assert find([lettered(x, word, places(n)) for n, (x, word) in enumerate(zip(pictures, words, strict=True))]) == (
        [],
        0,
    )


def test_a_stamp_on_all_x_rays_is_left_out_and_counted(find, pictures):
    assert find([lettered(x, "ST. JAMES H.", places(n)) for n, x in enumerate(pictures)]) == ([], 1)


def test_a_plain_letter_is_too_little(find, pictures):
    assert find([lettered(x, "L", places(n)) for n, x in enumerate(pictures)]) == ([], 0)


def test_copies_of_one_x_ray_are_no_further_exposures(find, pictures):
    pictures = [lettered(x, "K7RB2XN4ME", (10, 20)) if n == 1 else x for n, x in enumerate(pictures)]
    pictures[5] = cv2.GaussianBlur(pictures[1], (0, 0), 0.5)
    assert find(pictures) == ([], 0)


@pytest.mark.parametrize(("n_sharing", "n_pairs", "n_common"), [(5, 4, 0), (6, 0, 1)])
def test_a_marker_is_common_from_the_sixth_x_ray_on(n_sharing, n_pairs, n_common):
    # Each is like the next one alone, in overlapping boxes.
    box = (10, 10, 70, 22)
    chain = [markers.Marker(f"x{n}", f"x{n + 1}", 40, 0.9, box, box) for n in range(n_sharing - 1)]
    apart = markers.Marker("x0", "y", 40, 0.9, (10, 200, 70, 212), box)  # another marker of the first
    assert markers._of_few([*chain, apart]) == ([*chain, apart][-n_pairs - 1 :], n_common)


def test_fewer_keypoints_tell_that_a_marker_is_common_but_make_no_pair():
    box = (10, 10, 70, 22)
    pairs = [markers.Marker("x0", f"x{n}", 40 if n == 1 else 12, 0.9, box, box) for n in range(1, 6)]
    assert markers._of_few(pairs) == ([], 1)
    assert markers._of_few(pairs[:4]) == (pairs[:1], 0)
    assert markers._of_few(pairs[1:]) == ([], 0)


def test_a_letter_that_many_words_share_makes_no_word_common():
    word, letter = (10, 10, 70, 22), (10, 10, 22, 22)
    pair = markers.Marker("x0", "x1", 40, 0.9, word, word)
    assert markers._of_few([pair, *(markers.Marker("x0", f"x{n}", 13, 0.9, letter, letter) for n in range(2, 8))]) == (
        [pair],
        0,
    )
