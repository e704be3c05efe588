"""What a square looks like, in numbers that no network has to learn: tones, detail at several scales, edges, and where they are.

Those of one picture, n of them, are worked out together, as the channels of an image [side, side, n]: they are small, and what takes
time is the calls.
"""

import cv2
import numpy as np

from fracture_mae.data.reading import film, preprocessing

_SIDE = 64  # pixels to which every square is brought
_N_BANDS, _N_LEVELS, _N_CELLS, _N_DIRECTIONS = 10, 4, 4, 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_QUARTERS = (0.25, 0.5, 0.75)
_LAYOUT = 8  # cells of a side of which mean and deviation are told

_frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
_BAND = np.digitize(_frequency, np.geomspace(1 / _SIDE, 0.5, _N_BANDS + 1)[1:-1])
_BAND[0, 0] = _N_BANDS  # the mean, in no band
_WINDOW = np.outer(np.hanning(_SIDE), np.hanning(_SIDE)).astype(np.float32)
_CELL = np.arange(_SIDE) * _N_CELLS // _SIDE
_CELL = _CELL[:, None] * _N_CELLS + _CELL


def of_pictures(squares: np.ndarray, how: str) -> np.ndarray:
    """Numbers of each part of pictures: float32 [n, parts, d]; d is the same for every side.

    Parts are the squares of a picture; of one that is shown whole, those that `squares_of_film` makes of it, each with the numbers of
    the whole besides: brightness and contrast, which differ more among X-rays than from other pictures, are made equal there.

    Args:
        squares: uint8 [n, k, side, side].
        how: they became squares, see `data.reading.preprocessing`.
    """
    return np.array([_of_picture(each, how) for each in squares], dtype=np.float32)


def _of_picture(squares: np.ndarray, how: str) -> np.ndarray:
    if how in (preprocessing.FILM_SQUARES, preprocessing.FILM_EQUALISED):
        return _of_films(list(squares))
    (whole,) = squares
    field = film.find(whole, to_limb=False)
    parts = [square for square, _ in preprocessing.squares_of_field(whole, field, _SIDE)]
    *of_parts, of_whole = _of_films([*parts, field.of(whole)])  # without the frame that a letterbox is
    return np.array([np.concatenate([each, of_whole]) for each in of_parts])


def _of_films(fields: list[np.ndarray]) -> np.ndarray:
    """Numbers of n exposed fields, each uint8 [height, width]: float64 [n, d]."""
    shrunk = np.dstack([_resized(field) for field in fields])
    grey = shrunk.astype(np.float32)
    parts = [_tones(shrunk), _spectrum(grey), *_local(grey), _directions(grey)]
    for _ in range(_N_LEVELS):
        blurred = _blurred(grey, 1.0)
        parts += [_detail(np.abs(grey - blurred)), _coherence(grey)]
        grey = _shrunk(blurred, len(grey) // 2)
    return np.concatenate(parts, axis=1)


def _resized(field: np.ndarray) -> np.ndarray:
    how = cv2.INTER_AREA if max(field.shape) > _SIDE else cv2.INTER_LINEAR
    return cv2.resize(field, (_SIDE, _SIDE), interpolation=how)


def _tones(shrunk: np.ndarray) -> np.ndarray:
    """Quantiles of the grey levels, roots of a histogram's shares, and that of the commonest level: [n, 24]."""
    share = _totals(shrunk, 256) / _SIDE**2
    at = np.array([0.01, *_QUANTILES, 0.99])
    quantiles = (share.cumsum(axis=1)[:, :, None] < at).sum(axis=1) / 255
    histogram = share.reshape(-1, 16, 16).sum(axis=2)
    return np.hstack([quantiles, np.sqrt(histogram), np.sqrt(share.max(axis=1, keepdims=True))])


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Log of the mean power in bands of frequencies, from one wave a side to the finest: [n, bands]."""
    windowed = (grey - _planes(grey).mean(axis=1)) * _WINDOW[:, :, None]
    power = np.abs(np.fft.rfft2(windowed, axes=(0, 1))) ** 2 / _SIDE**2
    band = np.repeat(_BAND[:, :, None], grey.shape[2], axis=2)
    return np.log(_totals(band, _N_BANDS + 1, power)[:, :_N_BANDS] / np.bincount(_BAND.ravel())[:_N_BANDS] + 1)


def _local(grey: np.ndarray) -> list[np.ndarray]:
    """Mean and log deviation of each of 8 × 8 cells, and the spread of these deviations with cells of three sizes: [n, …] each."""
    deviations = {n: np.log(_planes(_deviation(grey, n)) + 1) for n in (4, _LAYOUT, 16)}
    spread = [_quantiles(each, _QUANTILES) for each in deviations.values()]
    return [_planes(_shrunk(grey, _LAYOUT)) / 255, deviations[_LAYOUT], *spread]


def _deviation(grey: np.ndarray, n: int) -> np.ndarray:
    return np.sqrt(np.maximum(_shrunk(grey**2, n) - _shrunk(grey, n) ** 2, 0))


def _directions(grey: np.ndarray) -> np.ndarray:
    """Roots of the shares that eight directions have of the gradient in 4 × 4 cells (Dalal & Triggs, CVPR 2005, without blocks):
    [n, 128]."""
    x, y = _gradient(grey)
    direction = (np.arctan2(y, x) % np.pi / np.pi * _N_DIRECTIONS).astype(int) % _N_DIRECTIONS
    total = _totals(_CELL[:, :, None] * _N_DIRECTIONS + direction, _N_CELLS**2 * _N_DIRECTIONS, np.hypot(x, y))
    total = total.reshape(len(total), -1, _N_DIRECTIONS)
    even = 0.5 * (_SIDE / _N_CELLS) ** 2  # half a grey level for each pixel, so that faint noise has no direction
    return np.sqrt(total / (total.sum(axis=2, keepdims=True) + even)).reshape(len(total), -1)


def _detail(lost: np.ndarray) -> np.ndarray:
    """How strong what a blur takes away is, in mean and in square, and their ratio, near 1 for edges everywhere, lower for few: [n, 3].

    Args:
        lost: absolute values of it, [side, side, n].
    """
    lost = _planes(lost)
    mean, root = lost.mean(axis=1), np.sqrt((lost**2).mean(axis=1))
    return np.stack([np.log(mean + 0.1), np.log(root + 0.1), mean / (root + 0.1)], axis=1)


def _coherence(grey: np.ndarray) -> np.ndarray:
    """How far gradients nearby share a direction, 0 to 1 (structure tensor): high along bones, low in noise and clouds: [n, 4]."""
    x, y = _gradient(grey)
    xx, yy, xy = np.split(_blurred(np.dstack([x * x, y * y, x * y]), 2.0), 3, axis=2)
    shared, total = _planes(np.sqrt((xx - yy) ** 2 + 4 * xy**2)), _planes(xx + yy)
    strength = shared.sum(axis=1) / (total.sum(axis=1) + 1e-3)
    return np.hstack([_quantiles(shared / (total + 1), _QUARTERS), strength[:, None]])


def _planes(image: np.ndarray) -> np.ndarray:
    """[height, width, n] as [n, height · width]."""
    return np.ascontiguousarray(image.reshape(-1, image.shape[2]).T)


def _totals(number: np.ndarray, n_numbers: int, weight: np.ndarray | None = None) -> np.ndarray:
    """Of each channel, what the pixels of every number weigh together, or how many these are: float64 [n, n_numbers]."""
    n = number.shape[2]
    shifted = (number + np.arange(n) * n_numbers).ravel()
    return np.bincount(shifted, None if weight is None else weight.ravel(), n * n_numbers).reshape(n, -1)


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Of each row of values [n, m], the nearest below each share: NumPy's own interpolate, and take ten times as long for so few."""
    return np.sort(values, axis=1)[:, (np.array(shares) * (values.shape[1] - 1)).astype(int)]


# OpenCV takes images of one channel without that axis.


def _blurred(image: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), deviation).reshape(image.shape)


def _gradient(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along x and y, in grey levels a pixel."""
    along = (1, 0), (0, 1)
    x, y = (cv2.Scharr(grey, cv2.CV_32F, *axis).reshape(grey.shape) / 32 for axis in along)
    return x, y


def _shrunk(image: np.ndarray, n: int) -> np.ndarray:
    return cv2.resize(image, (n, n), interpolation=cv2.INTER_AREA).reshape(n, n, -1)
