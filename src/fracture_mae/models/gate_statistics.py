"""What a square looks like, in numbers that no network has to learn: tones, detail at several scales, edges, and where they are."""

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


def _of_picture(squares: np.ndarray, how: str) -> list[np.ndarray]:
    if how in (preprocessing.FILM_SQUARES, preprocessing.FILM_EQUALISED):
        return [_of_film(square) for square in squares]
    (whole,) = squares
    parts, _ = preprocessing.preprocess(whole, _SIDE, preprocessing.FILM_SQUARES)
    of_whole = _of_film(film.find(whole, to_limb=False).of(whole))  # without the frame that a letterbox is
    return [np.concatenate([_of_film(part), of_whole]) for part in parts]


def _of_film(field: np.ndarray) -> np.ndarray:
    """Numbers of an exposed field, uint8 [height, width]: float64 [d]."""
    how = cv2.INTER_AREA if max(field.shape) > _SIDE else cv2.INTER_LINEAR
    shrunk = cv2.resize(field, (_SIDE, _SIDE), interpolation=how)
    grey = shrunk.astype(np.float32)
    parts = [_tones(shrunk), _spectrum(grey), *_local(grey), _directions(grey)]
    for _ in range(_N_LEVELS):
        parts += [_detail(grey), _coherence(grey)]
        grey = _shrunk(cv2.GaussianBlur(grey, (0, 0), 1.0), len(grey) // 2)
    return np.concatenate(parts)


def _tones(shrunk: np.ndarray) -> np.ndarray:
    """Quantiles of the grey levels, roots of a histogram's shares, and that of the commonest level."""
    share = np.bincount(shrunk.ravel(), minlength=256) / shrunk.size
    quantiles = np.searchsorted(share.cumsum(), (0.01, *_QUANTILES, 0.99)) / 255
    return np.concatenate([quantiles, np.sqrt(share.reshape(16, 16).sum(axis=1)), [np.sqrt(share.max())]])


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Log of the mean power in bands of frequencies, from one wave a side to the finest."""
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * _WINDOW)) ** 2 / grey.size
    total, count = np.bincount(_BAND.ravel(), power.ravel()), np.bincount(_BAND.ravel())
    return np.log(total[:_N_BANDS] / count[:_N_BANDS] + 1)


def _local(grey: np.ndarray) -> list[np.ndarray]:
    """Mean and log deviation of each of 8 × 8 cells, and the spread of these deviations with cells of three sizes."""
    deviations = {n: np.log(_deviation(grey, n) + 1).ravel() for n in (4, _LAYOUT, 16)}
    spread = [_quantiles(each, _QUANTILES) for each in deviations.values()]
    return [_shrunk(grey, _LAYOUT).ravel() / 255, deviations[_LAYOUT], *spread]


def _deviation(grey: np.ndarray, n: int) -> np.ndarray:
    return np.sqrt(np.maximum(_shrunk(grey**2, n) - _shrunk(grey, n) ** 2, 0))


def _directions(grey: np.ndarray) -> np.ndarray:
    """Roots of the shares that eight directions have of the gradient in 4 × 4 cells (Dalal & Triggs, CVPR 2005, without blocks)."""
    x, y = _gradient(grey)
    direction = (np.arctan2(y, x) % np.pi / np.pi * _N_DIRECTIONS).astype(int) % _N_DIRECTIONS
    n_bins = _N_CELLS**2 * _N_DIRECTIONS
    total = np.bincount((_CELL * _N_DIRECTIONS + direction).ravel(), np.hypot(x, y).ravel(), minlength=n_bins)
    total = total.reshape(-1, _N_DIRECTIONS)
    even = 0.5 * (_SIDE / _N_CELLS) ** 2  # half a grey level for each pixel, so that faint noise has no direction
    return np.sqrt(total / (total.sum(axis=1, keepdims=True) + even)).ravel()


def _detail(grey: np.ndarray) -> np.ndarray:
    """How strong what a blur takes away is, in mean and in square, and their ratio: near 1 for edges everywhere, lower for few."""
    lost = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))
    mean, root = lost.mean(), np.sqrt((lost**2).mean())
    return np.array([np.log(mean + 0.1), np.log(root + 0.1), mean / (root + 0.1)])


def _coherence(grey: np.ndarray) -> np.ndarray:
    """How far gradients nearby share a direction, 0 to 1 (structure tensor): high along bones, low in noise and clouds."""
    x, y = _gradient(grey)
    xx, yy, xy = (cv2.GaussianBlur(each, (0, 0), 2.0) for each in (x * x, y * y, x * y))
    shared, total = np.sqrt((xx - yy) ** 2 + 4 * xy**2), xx + yy
    return np.array([*_quantiles((shared / (total + 1)).ravel(), _QUARTERS), shared.sum() / (total.sum() + 1e-3)])


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Of values [n], the nearest below each share: NumPy's own interpolate, and take ten times as long for so few."""
    return np.sort(values)[(np.array(shares) * (len(values) - 1)).astype(int)]


def _gradient(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along x and y, in grey levels a pixel."""
    return cv2.Scharr(grey, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(grey, cv2.CV_32F, 0, 1) / 32


def _shrunk(values: np.ndarray, n: int) -> np.ndarray:
    return cv2.resize(values, (n, n), interpolation=cv2.INTER_AREA)
