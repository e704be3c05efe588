"""From a decoded picture to the square, or squares, that a network is shown, in one of several ways that a model is made with."""

from collections.abc import Callable

import cv2
import numpy as np

from fracture_mae.data.reading import film
from fracture_mae.data.reading.decoding import letterbox
from fracture_mae.data.reading.placement import Placement

# Raised when anything but the letterbox makes other pixels of a picture.
VERSION = 2
LETTERBOX, FILM, FILM_EQUALISED, FILM_SQUARES = "letterbox", "film", "film_equalised", "film_squares"
_N_SQUARES = {FILM_SQUARES: 3}  # that become of a picture; of the others one
_NEIGHBOURHOOD = (
    1 / 8
)  # of the side: standard deviation of the Gaussian in which brightness and contrast are made equal
_CONTRAST = 50  # grey levels of one local standard deviation
_FLOOR = 4  # grey levels added to it, so that noise on an even ground stays small
_DETAIL = 0.12  # what 2 % of the X-rays on which it was chosen have no more than at 224 pixels, see `_detail`
_MOST_BLUR = 3.0  # pixels, standard deviation
_N_HALVINGS = 5  # of the interval in which the blur is looked for
_LEAST_EXPOSED = 1e-3  # share of a neighbourhood; with less, nothing of it is shown
_COARSE = 56  # pixels; a neighbourhood's mean is worked out in a square shrunk to this


def n_squares(how: str) -> int:
    """How many squares become of each picture, an odd number k."""
    return _N_SQUARES.get(how, 1)


def suffix(how: str) -> str:
    """For the name of what is made from such squares, so that it is never taken for what others, or other versions, made.

    Empty for the letterbox, which earlier versions knew alone.
    """
    return "" if how == LETTERBOX else f"-{how}-v{VERSION}"


def preprocess(picture: np.ndarray, size: int, how: str) -> tuple[np.ndarray, list[Placement]]:
    """A picture, uint8 [height, width], as k squares, uint8 [k, size, size], and where it lies in each.

    Args:
        how: one of `PREPROCESSINGS`.
    """
    squares, placements = zip(*PREPROCESSINGS[how](picture, size), strict=True)
    return np.stack(squares), list(placements)


def stretched_film(picture: np.ndarray, size: int) -> tuple[np.ndarray, Placement]:
    """The exposed field alone, see `film.find`, stretched to the square: neither frames nor proportions tell where it comes from.

    What is empty within, such as the corners that a rotation leaves, is filled smoothly with the brightness around.
    """
    square, empty, placement = _whole_field(picture, size)
    return _filled(square, empty), placement


def equalised_film(picture: np.ndarray, size: int) -> tuple[np.ndarray, Placement]:
    """The same with brightness and contrast made equal everywhere, and with as much fine detail as most pictures have.

    Brightness and contrast: local contrast normalisation (N. Pinto, D. Cox and J. DiCarlo, "Why is real-world visual object
    recognition hard?", PLoS Computational Biology 4, 2008). Detail: each picture is blurred until it has no more than small and
    strongly compressed ones. What is empty within has no part in this, and becomes an even grey of 128.
    """
    square, empty, placement = _whole_field(picture, size)
    return _equalised(square, empty), placement


def squares_of_film(picture: np.ndarray, size: int) -> list[tuple[np.ndarray, Placement]]:
    """Three squares along the longer side of the field, as wide as its shorter side, each equalised as by `equalised_film`.

    They begin at its ends and in its middle, so bones keep their proportions, and are shown larger than in one square of the whole.
    Of a field more than three times as long as wide, parts between them would be missing: there they overlap no more, and are as
    long as a third of it. The film around a limb stays, as squares that are not stretched need no closer cut.
    """
    return squares_of_field(picture, film.find(picture, to_limb=False), size)


def squares_of_field(picture: np.ndarray, field: film.Field, size: int) -> list[tuple[np.ndarray, Placement]]:
    """What `squares_of_film` makes of the field of a picture."""
    height, width = field.bottom - field.top, field.right - field.left
    upright, longest = height >= width, max(height, width)
    side = max(min(height, width), -(-longest // _N_SQUARES[FILM_SQUARES]))
    side += (longest - side) % 2  # so that the middle one lies at a whole pixel
    found = []
    for number in range(_N_SQUARES[FILM_SQUARES]):
        start = (longest - side) * number // (_N_SQUARES[FILM_SQUARES] - 1)
        left, top = (field.left, field.top + start) if upright else (field.left + start, field.top)
        right, bottom = (field.right, top + side) if upright else (left + side, field.bottom)
        square, empty, placement = _cut_out(picture, field, (left, top, right, bottom), size)
        found.append((_equalised(square, empty), placement))
    return found


PREPROCESSINGS: dict[str, Callable[[np.ndarray, int], list[tuple[np.ndarray, Placement]]]] = {
    LETTERBOX: lambda picture, size: [letterbox(picture, size)],
    FILM: lambda picture, size: [stretched_film(picture, size)],
    FILM_EQUALISED: lambda picture, size: [equalised_film(picture, size)],
    FILM_SQUARES: squares_of_film,
}


def _whole_field(picture: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, Placement]:
    field = film.find(picture)
    return _cut_out(picture, field, (field.left, field.top, field.right, field.bottom), size)


def _cut_out(
    picture: np.ndarray, field: film.Field, box: tuple[int, int, int, int], size: int
) -> tuple[np.ndarray, np.ndarray, Placement]:
    """A part of the field (left, top, right, bottom in pixels of the picture) as a square; where that is empty, bool [size, size]."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    interpolation = cv2.INTER_AREA if max(height, width) > size else cv2.INTER_LINEAR
    square = cv2.resize(picture[top:bottom, left:right], (size, size), interpolation=interpolation)
    shape = field.bottom - field.top, field.right - field.left
    empty = cv2.resize(field.empty.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    empty = empty[top - field.top : bottom - field.top, left - field.left : right - field.left]
    empty = cv2.resize(empty, (size, size), interpolation=cv2.INTER_NEAREST) > 0
    scale_x, scale_y = size / width, size / height
    return square, empty, Placement(scale_x, scale_y, -left * scale_x, -top * scale_y)


def _equalised(square: np.ndarray, empty: np.ndarray) -> np.ndarray:
    return _with_less_detail(_locally_normalised(square, empty), _DETAIL)


def _filled(square: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """The square with a smooth continuation of its surroundings where it is empty.

    From coarse to fine, each pixel that is empty at one scale is taken from the next coarser one (push and pull: S. J. Gortler
    et al., "The lumigraph", SIGGRAPH 1996).
    """
    if not empty.any() or empty.all():
        return square
    weights = [(~empty).astype(np.float32)]
    sums = [square * weights[0]]
    while len(sums[-1]) > 1:
        half = ((len(sums[-1]) + 1) // 2,) * 2
        sums.append(cv2.resize(sums[-1], half, interpolation=cv2.INTER_AREA).reshape(half))
        weights.append(cv2.resize(weights[-1], half, interpolation=cv2.INTER_AREA).reshape(half))
    filled = sums[-1] / weights[-1]
    for total, weight in zip(sums[-2::-1], weights[-2::-1], strict=True):
        coarse = cv2.resize(filled, total.shape, interpolation=cv2.INTER_LINEAR)
        filled = total + coarse * (1 - weight)
    return np.where(empty, filled.round().clip(0, 255), square).astype(np.uint8)


def _locally_normalised(square: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Each pixel's distance from the mean of its neighbourhood, in its standard deviations, around a grey of 128.

    What is empty counts for no neighbourhood, so that no bright or dark seam runs along it.
    """
    exposed = (~empty).astype(np.float32)

    def blurred(values: np.ndarray) -> np.ndarray:
        shrunk = cv2.resize(values, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(shrunk, (0, 0), _COARSE * _NEIGHBOURHOOD, borderType=cv2.BORDER_REFLECT)

    share = blurred(exposed).clip(min=_LEAST_EXPOSED)

    def around(values: np.ndarray) -> np.ndarray:
        return cv2.resize(blurred(values * exposed) / share, values.shape, interpolation=cv2.INTER_LINEAR)

    difference = (square - around(square.astype(np.float32))) * exposed
    deviation = np.sqrt(around(difference**2)) + _FLOOR
    return (128 + _CONTRAST * difference / deviation).clip(0, 255).astype(np.uint8)


def _with_less_detail(square: np.ndarray, most: float) -> np.ndarray:
    """The square, blurred by the least Gaussian that leaves it no more detail than `most`."""
    if _detail(square) <= most:
        return square
    sharp, blurred = 0.0, _MOST_BLUR
    for _ in range(_N_HALVINGS):
        middle = (sharp + blurred) / 2
        if _detail(cv2.GaussianBlur(square, (0, 0), middle)) > most:
            sharp = middle
        else:
            blurred = middle
    return cv2.GaussianBlur(square, (0, 0), blurred)


def _detail(square: np.ndarray) -> float:
    """Mean absolute Laplacian over the standard deviation."""
    laplacian = cv2.norm(cv2.Laplacian(square, cv2.CV_16S), cv2.NORM_L1) / square.size
    return laplacian / (float(cv2.meanStdDev(square)[1].item()) + 1)
