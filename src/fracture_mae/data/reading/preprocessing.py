"""From a decoded picture to the square that a network is shown, in one of several ways that a model is made with."""

from collections.abc import Callable

import cv2
import numpy as np

from fracture_mae.data.reading import film
from fracture_mae.data.reading.decoding import letterbox
from fracture_mae.data.reading.placement import Placement

# Raised when `film` or `film_equalised` make other pixels of a picture.
VERSION = 1
LETTERBOX, FILM, FILM_EQUALISED = "letterbox", "film", "film_equalised"
_NEIGHBOURHOOD = (
    1 / 8
)  # of the side: standard deviation of the Gaussian in which brightness and contrast are made equal
_CONTRAST = 50  # grey levels of one local standard deviation
_FLOOR = 4  # grey levels added to it, so that noise on an even ground stays small
_DETAIL = 0.12  # what 2 % of the X-rays on which it was chosen have no more than at 224 pixels, see `_detail`
_MOST_BLUR = 3.0  # pixels, standard deviation
_N_HALVINGS = 5  # of the interval in which the blur is looked for
_COARSE = 56  # pixels; a neighbourhood's mean is worked out in a square shrunk to this


def preprocess(picture: np.ndarray, size: int, how: str) -> tuple[np.ndarray, Placement]:
    """A picture, uint8 [height, width], as a square, uint8 [size, size], and where it lies there.

    Args:
        how: one of `PREPROCESSINGS`.
    """
    return PREPROCESSINGS[how](picture, size)


def stretched_film(picture: np.ndarray, size: int) -> tuple[np.ndarray, Placement]:
    """The exposed field alone, see `film.find`, stretched to the square: neither frames nor proportions tell where it comes from.

    What is empty within, such as the corners that a rotation leaves, is filled smoothly with the brightness around.
    """
    field = film.find(picture)
    part = field.of(picture)
    height, width = part.shape
    interpolation = cv2.INTER_AREA if max(height, width) > size else cv2.INTER_LINEAR
    square = cv2.resize(part, (size, size), interpolation=interpolation)
    empty = cv2.resize(field.empty.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
    scale_x, scale_y = size / width, size / height
    return _filled(square, empty), Placement(scale_x, scale_y, -field.left * scale_x, -field.top * scale_y)


def equalised_film(picture: np.ndarray, size: int) -> tuple[np.ndarray, Placement]:
    """The same with brightness and contrast made equal everywhere, and with as much fine detail as most pictures have.

    Brightness and contrast: local contrast normalisation (N. Pinto, D. Cox and J. DiCarlo, "Why is real-world visual object
    recognition hard?", PLoS Computational Biology 4, 2008). Detail: each picture is blurred until it has no more than small and
    strongly compressed ones.
    """
    square, placement = stretched_film(picture, size)
    return _with_less_detail(_locally_normalised(square), _DETAIL), placement


PREPROCESSINGS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, Placement]]] = {
    LETTERBOX: letterbox,
    FILM: stretched_film,
    FILM_EQUALISED: equalised_film,
}


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


def _locally_normalised(square: np.ndarray) -> np.ndarray:
    """Each pixel's distance from the mean of its neighbourhood, in its standard deviations, around a grey of 128."""

    def around(values: np.ndarray) -> np.ndarray:
        shrunk = cv2.resize(values, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(shrunk, (0, 0), _COARSE * _NEIGHBOURHOOD, borderType=cv2.BORDER_REFLECT)
        return cv2.resize(blurred, values.shape, interpolation=cv2.INTER_LINEAR)

    difference = square - around(square.astype(np.float32))
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
