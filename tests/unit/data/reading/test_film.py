"""The field is found in films that are put into frames of every kind, at places known by hand."""

import cv2
import numpy as np
import pytest

from fracture_mae.data.reading import film

SHAPE = (300, 240)  # of the film without a frame
BONE = (slice(40, 260), slice(100, 130))
LIMB = np.zeros(SHAPE, bool)
LIMB[40:, 60:100] = LIMB[220:, 60:200] = True
CLOSE = 6  # pixels of an edge that may be lost or left


def film_of(shape=SHAPE, seed=0):
    """A grey, grainy film that grows brighter to the right, with a bright bone down its middle."""
    picture = np.random.default_rng(seed).normal(70, 6, shape) + np.linspace(0, 40, shape[1])
    picture[BONE] += 90
    return cv2.GaussianBlur(picture, (0, 0), 1).clip(0, 255).astype(np.uint8)


def limb_on_black(level=3):
    """What an overexposed film shows: a bent limb on an even ground that reaches all edges but the lower one."""
    picture = np.full(SHAPE, level, np.uint8)
    picture[LIMB] = film_of()[LIMB]
    return picture


def framed(picture, *frames):
    """The picture inside frames (level, top, bottom, left, right), the innermost first, and its box in the whole."""
    box = np.array([0, 0, picture.shape[1], picture.shape[0]])
    for level, top, bottom, left, right in frames:
        picture = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=level)
        box += [left, top, left, top]
    return picture, box


def box_of(field):
    return np.array([field.left, field.top, field.right, field.bottom])


def emptiness(field):
    size = (field.right - field.left, field.bottom - field.top)
    return cv2.resize(field.empty.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


FRAMES = {
    "none": (),
    "black bars at the sides": ((0, 0, 0, 80, 60),),
    "black bars above and below": ((0, 70, 50, 0, 0),),
    "one white bar": ((255, 0, 40, 0, 0),),
    "white frame": ((255, 20, 30, 25, 15),),
    "grey frame": ((128, 20, 30, 25, 15),),
    "nearly black frame": ((11, 40, 40, 40, 40),),
    "white in black": ((255, 12, 12, 12, 12), (0, 40, 40, 90, 90)),
    "black in white": ((0, 30, 30, 30, 30), (255, 10, 10, 10, 10)),
    "three, one inside the other": ((255, 15, 15, 15, 15), (0, 20, 20, 20, 20), (200, 15, 15, 15, 15)),
    "letterbox of black and white": ((0, 60, 60, 0, 0), (255, 0, 0, 30, 30)),
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("quality", [None, 60])
def test_frames_are_left_out_and_nothing_else(frames, quality):
    picture, box = framed(film_of(), *frames)
    if quality:
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)
    field = film.find(picture)
    assert np.abs(box_of(field) - box).max() <= CLOSE
    empty = emptiness(field)
    assert empty.mean() < 0.06
    assert not empty[BONE[0].start + box[1] - field.top : -60, BONE[1].start + box[0] - field.left :][:150, :30].any()


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("angle", [3, 17, 45, 80, -30])
def test_corners_of_a_rotation_are_masked_and_the_bone_is_not(level, angle):
    height, width = SHAPE
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    corners = cv2.transform(np.array([[[0, 0], [width, 0], [width, height], [0, height]]], float), turn)[0]
    turn[:, 2] -= corners.min(axis=0)
    size = np.ceil(np.ptp(corners, axis=0)).astype(int)
    options = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
    picture = cv2.warpAffine(film_of(), turn, size, borderValue=level, **options)
    shown = cv2.warpAffine(np.ones(SHAPE, np.uint8), turn, size, **options)
    bone = np.zeros(SHAPE, np.uint8)
    bone[BONE] = 1
    bone = cv2.warpAffine(bone, turn, size, **options)
    field = film.find(picture)
    empty = emptiness(field)
    assert (empty != (field.of(shown) == 0)).mean() < 0.05
    assert not empty[field.of(bone) > 0].any()
    assert field.of(bone).sum() == bone.sum()


def test_a_limb_on_an_even_ground_is_kept_with_all_that_stands_beside_it():
    picture = limb_on_black()
    picture[10:25, 200:230] = 240  # a marker
    field = film.find(picture)
    assert np.abs(box_of(field) - [60, 10, 230, 300]).max() <= CLOSE
    within = cv2.erode(LIMB.astype(np.uint8), np.ones((2 * CLOSE + 1, 2 * CLOSE + 1))) > 0
    assert not emptiness(field)[field.of(within)].any()


def test_text_in_a_frame_is_no_part_of_the_film():
    picture, box = framed(film_of(), (0, 60, 60, 90, 90))
    cv2.putText(picture, "R 12:45", (20, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    assert np.abs(box_of(film.find(picture)) - box).max() <= CLOSE


def test_of_two_films_side_by_side_both_are_kept():
    picture = np.full((340, 540), 255, np.uint8)
    picture[20:320, 20:260], picture[20:320, 280:520] = film_of(), film_of(seed=1)
    assert np.abs(box_of(film.find(picture)) - [20, 20, 520, 320]).max() <= CLOSE


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((80, 60), np.uint8),
        np.full((80, 60), 255, np.uint8),
        np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8),
        np.pad(np.random.default_rng(0).integers(0, 255, (6, 6), dtype=np.uint8), 60),
        np.full((1, 400), 9, np.uint8),
        np.zeros((1, 1), np.uint8),
    ],
    ids=["black", "white", "noise", "a speck on black", "a line", "a pixel"],
)
def test_where_no_field_is_found_the_picture_stays_whole(picture):
    field = film.find(picture)
    assert box_of(field).tolist() == [0, 0, picture.shape[1], picture.shape[0]]
    assert not field.empty.any()


def test_large_pictures_have_the_same_field():
    picture, box = framed(film_of(), (0, 40, 30, 50, 20))
    large = cv2.resize(picture, None, fx=7, fy=7, interpolation=cv2.INTER_CUBIC)
    assert np.abs(box_of(film.find(large)) - 7 * box).max() <= 7 * CLOSE
