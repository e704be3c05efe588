import cv2
import numpy as np
import pytest

from fracture_mae.config import options
from fracture_mae.data.reading import preprocessing
from fracture_mae.data.reading.preprocessing import FILM, FILM_EQUALISED, FILM_SQUARES, LETTERBOX, n_squares, preprocess
from fracture_mae.evaluation.properties import border
from tests.unit.data.reading.test_film import film_of, framed, limb_on_black

FILMS = (FILM, FILM_EQUALISED)


def grainy(height, width):
    """A film without a frame."""
    picture = np.random.default_rng(0).normal(110, 12, (height, width))
    return picture.clip(0, 255).astype(np.uint8)


def whole(picture, size, how):
    """The square, or the middle one of several, and where the picture lies in it."""
    squares, placements = preprocess(picture, size, how)
    return squares[len(squares) // 2], placements[len(squares) // 2]


def test_options_offer_what_there_is():
    assert tuple(preprocessing.PREPROCESSINGS) == options.PREPROCESSINGS


@pytest.mark.parametrize("how", preprocessing.PREPROCESSINGS)
@pytest.mark.parametrize("shape", [(300, 240), (50, 200), (1, 1000), (1, 1)])
def test_squares_are_squares_and_always_the_same(how, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    (square, placement), (again, there) = whole(picture, 48, how), whole(picture, 48, how)
    assert (square.shape, square.dtype) == ((48, 48), np.uint8)
    assert (square == again).all()
    assert placement == there


@pytest.mark.parametrize("how", [LETTERBOX, FILM])
def test_a_placement_says_where_a_bone_went(how):
    picture, (left, top, *_) = framed(film_of(), (0, 30, 20, 60, 10))
    picture[top + 80 : top + 140, left + 30 : left + 90] = 255
    square, placement = whole(picture, 96, how)
    corners = placement.apply(np.array([[left + 30, top + 80], [left + 90, top + 140]]))
    rows, columns = np.nonzero(square > 230)
    (x0, y0), (x1, y1) = corners
    inside = (columns + 0.5 > x0 - 2) & (columns + 0.5 < x1 + 2) & (rows + 0.5 > y0 - 2) & (rows + 0.5 < y1 + 2)
    assert inside.mean() > 0.95
    assert len(rows) > 0.8 * (x1 - x0) * (y1 - y0)
    assert whole(picture, 96, FILM)[1] == whole(picture, 96, FILM_EQUALISED)[1]


def test_a_film_is_stretched_over_the_square_by_hand():
    picture, (left, top, right, bottom) = framed(film_of(), (255, 25, 25, 60, 60))
    _, placement = whole(picture, 100, FILM)
    assert placement.apply(np.array([[left, top], [right, bottom]])) == pytest.approx(
        np.array([[0, 0], [100, 100]]), abs=2.5
    )


@pytest.mark.parametrize("how", FILMS)
def test_frames_make_no_difference(how):
    plain = whole(film_of(), 64, how)[0].astype(float)
    for frame in [(0, 40, 40, 90, 90), (255, 10, 60, 0, 0), (128, 20, 20, 20, 20)]:
        square = whole(framed(film_of(), frame)[0], 64, how)[0]
        assert np.abs(square - plain)[4:-4, 4:-4].mean() < 12
        assert np.abs(np.array(border(square)) - border(plain.astype(np.uint8))).max() < 0.1


@pytest.mark.parametrize("level", [0, 255])
def test_corners_of_a_rotation_are_filled_with_the_brightness_around(level):
    turn = cv2.getRotationMatrix2D((120, 150), 25, 1)
    turned = cv2.warpAffine(film_of(), turn, (240, 300), borderValue=level)
    square, _ = whole(turned, 64, FILM)
    corners = np.array([square[:5, :5], square[:5, -5:], square[-5:, :5], square[-5:, -5:]])
    assert ((corners > 50) & (corners < 130)).all()  # as the film itself


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("how", [FILM_EQUALISED, FILM_SQUARES])
def test_equalised_corners_are_an_even_grey_without_a_seam(how, level):
    """Had they a part in the mean of the neighbourhood, the grain beside them would be much brighter or darker than grey."""
    turn = cv2.getRotationMatrix2D((120, 120), 25, 1)
    turned = cv2.warpAffine(grainy(240, 240), turn, (240, 240), borderValue=level)
    square, _ = whole(turned, 64, how)
    even = cv2.morphologyEx((square == 128).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0
    assert even[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    seam = (cv2.dilate(even.astype(np.uint8), np.ones((5, 5))) > 0) & ~even
    assert seam.sum() > 50
    assert abs(square[seam].mean() - 128) < 10


def test_squares_keep_the_film_around_a_limb_that_the_stretched_film_leaves_out():
    picture = limb_on_black()
    height, width = picture.shape
    squares, placements = preprocess(picture, 60, FILM_SQUARES)
    assert len(squares) == 3
    assert [placement.scale_x for placement in placements] == pytest.approx([60 / min(height, width)] * 3, rel=0.01)
    assert whole(picture, 60, FILM)[1].scale_x > 1.1 * 60 / width


def test_equalised_films_have_the_same_brightness_contrast_and_detail():
    film = film_of().astype(float)
    dim, sharp = film / 2 + 10, film + np.random.default_rng(1).normal(0, 8, film.shape)
    squares = [whole(each.clip(0, 255).astype(np.uint8), 64, FILM_EQUALISED)[0] for each in (film, dim, sharp)]
    brightness = [square.mean() for square in squares]
    assert np.ptp(brightness) < 5
    detail = [preprocessing._detail(square) for square in squares]
    assert max(detail) <= preprocessing._DETAIL
    assert np.ptp(detail) < 0.02


def test_a_letterbox_is_as_it_always_was():
    square, _ = whole(np.full((50, 100), 200, np.uint8), 32, LETTERBOX)
    assert (square[8:24] == 200).all()
    assert square.sum() == 200 * 16 * 32


@pytest.mark.parametrize(("upright", "length"), [(True, 300), (False, 300), (True, 201), (True, 500)])
def test_three_squares_along_the_longer_side(upright, length):
    """A film of 100 × 300 pixels becomes three of 100 × 100; of 500 pixels, three of 100 × 167, so that nothing is left out."""
    film = grainy(length, 100)
    picture = film if upright else np.ascontiguousarray(film.T)
    squares, placements = preprocess(picture, 50, FILM_SQUARES)
    assert squares.shape == (3, 50, 50)
    side = max(100, -(-length // 3))
    side += (length - side) % 2
    starts = [0, (length - side) // 2, length - side]
    for start, placement in zip(starts, placements, strict=True):
        corners = [(0, start), (100, start + side)] if upright else [(start, 0), (start + side, 100)]
        assert placement.apply(corners) == pytest.approx(np.array([[0, 0], [50, 50]]), abs=1e-9)


def test_squares_show_what_lies_there():
    """A bright bar at the lower end of a long film is in the last square alone; all of a square film are the same."""
    film = grainy(300, 100)
    marked = film.copy()
    marked[260:280, 40:60] = 255
    plain, seen = (preprocess(each, 50, FILM_SQUARES)[0].astype(int) for each in (film, marked))
    differs = np.abs(plain - seen).reshape(3, -1).max(axis=1)
    assert differs[0] == 0
    assert differs[2] > 50
    same = preprocess(grainy(120, 120), 50, FILM_SQUARES)[0]
    assert (same == same[:1]).all()


def test_the_middle_square_is_one_of_an_odd_number():
    assert [n_squares(how) for how in preprocessing.PREPROCESSINGS] == [1, 1, 1, 3]
