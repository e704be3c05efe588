import cv2
import numpy as np
import pytest

from fracture_mae.config import options
from fracture_mae.data.reading import preprocessing
from fracture_mae.data.reading.preprocessing import FILM, FILM_EQUALISED, LETTERBOX, preprocess
from fracture_mae.evaluation.properties import border
from tests.unit.data.reading.test_film import film_of, framed

FILMS = (FILM, FILM_EQUALISED)


def test_options_offer_what_there_is():
    assert tuple(preprocessing.PREPROCESSINGS) == options.PREPROCESSINGS


@pytest.mark.parametrize("how", preprocessing.PREPROCESSINGS)
@pytest.mark.parametrize("shape", [(300, 240), (50, 200), (1, 1000), (1, 1)])
def test_squares_are_squares_and_always_the_same(how, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    (square, placement), (again, there) = preprocess(picture, 48, how), preprocess(picture, 48, how)
    assert (square.shape, square.dtype) == ((48, 48), np.uint8)
    assert (square == again).all()
    assert placement == there


@pytest.mark.parametrize("how", [LETTERBOX, FILM])
def test_a_placement_says_where_a_bone_went(how):
    picture, (left, top, *_) = framed(film_of(), (0, 30, 20, 60, 10))
    picture[top + 80 : top + 140, left + 30 : left + 90] = 255
    square, placement = preprocess(picture, 96, how)
    corners = placement.apply(np.array([[left + 30, top + 80], [left + 90, top + 140]]))
    rows, columns = np.nonzero(square > 230)
    (x0, y0), (x1, y1) = corners
    inside = (columns + 0.5 > x0 - 2) & (columns + 0.5 < x1 + 2) & (rows + 0.5 > y0 - 2) & (rows + 0.5 < y1 + 2)
    assert inside.mean() > 0.95
    assert len(rows) > 0.8 * (x1 - x0) * (y1 - y0)
    assert preprocess(picture, 96, FILM)[1] == preprocess(picture, 96, FILM_EQUALISED)[1]


def test_a_film_is_stretched_over_the_square_by_hand():
    picture, (left, top, right, bottom) = framed(film_of(), (255, 25, 25, 60, 60))
    _, placement = preprocess(picture, 100, FILM)
    assert placement.apply(np.array([[left, top], [right, bottom]])) == pytest.approx(
        np.array([[0, 0], [100, 100]]), abs=2.5
    )


@pytest.mark.parametrize("how", FILMS)
def test_frames_make_no_difference(how):
    plain = preprocess(film_of(), 64, how)[0].astype(float)
    for frame in [(0, 40, 40, 90, 90), (255, 10, 60, 0, 0), (128, 20, 20, 20, 20)]:
        square = preprocess(framed(film_of(), frame)[0], 64, how)[0]
        assert np.abs(square - plain)[4:-4, 4:-4].mean() < 12
        assert np.abs(np.array(border(square)) - border(plain.astype(np.uint8))).max() < 0.1


@pytest.mark.parametrize("level", [0, 255])
def test_corners_of_a_rotation_are_filled_with_the_brightness_around(level):
    turn = cv2.getRotationMatrix2D((120, 150), 25, 1)
    turned = cv2.warpAffine(film_of(), turn, (240, 300), borderValue=level)
    square, _ = preprocess(turned, 64, FILM)
    corners = np.array([square[:5, :5], square[:5, -5:], square[-5:, :5], square[-5:, -5:]])
    assert ((corners > 50) & (corners < 130)).all()  # as the film itself


def test_equalised_films_have_the_same_brightness_contrast_and_detail():
    film = film_of().astype(float)
    dim, sharp = film / 2 + 10, film + np.random.default_rng(1).normal(0, 8, film.shape)
    squares = [preprocess(each.clip(0, 255).astype(np.uint8), 64, FILM_EQUALISED)[0] for each in (film, dim, sharp)]
    brightness = [square.mean() for square in squares]
    assert np.ptp(brightness) < 5
    detail = [preprocessing._detail(square) for square in squares]
    assert max(detail) <= preprocessing._DETAIL
    assert np.ptp(detail) < 0.02


def test_a_letterbox_is_as_it_always_was():
    square, _ = preprocess(np.full((50, 100), 200, np.uint8), 32, LETTERBOX)
    assert (square[8:24] == 200).all()
    assert square.sum() == 200 * 16 * 32
