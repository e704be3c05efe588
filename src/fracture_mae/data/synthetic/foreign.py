"""Pictures that are no X-rays, made by code: what a classifier's gate is shown so that it knows what to refuse.

To be told what is not wanted, even in a crude form, helps a detector to refuse what it has never met (D. Hendrycks, M. Mazeika and
T. Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019). In place of photographs stand overlapping shapes of all sizes
("dead leaves": M. Baradad et al., "Learning to see by looking at noise", NeurIPS 2021), which share their statistics.
"""

from collections.abc import Callable

import cv2
import numpy as np

VERSION = 1  # raised when other pictures are made
_SIDE = 128  # pixels
_INKS = 24  # strokes of a line of writing, at most

Make = Callable[[np.random.Generator], np.ndarray]


def picture(number: int) -> np.ndarray:
    """The picture of this number, uint8 [height, width]: always the same one; all kinds come in turn."""
    rng = np.random.default_rng(number)
    made = _photographed(rng, _KINDS[number % len(_KINDS)](rng).astype(np.float32))
    longer, shorter = _SIDE, int(_SIDE * rng.uniform(0.6, 1))
    return made[:longer, :shorter] if rng.random() < 0.5 else made[:shorter, :longer]


def _shapes(rng: np.random.Generator) -> np.ndarray:
    """Discs, ellipses and polygons that cover each other: few large ones, or many of all sizes."""
    canvas = (_texture(rng) * rng.uniform(0.3, 1)).astype(np.float32)
    count = int(np.exp(rng.uniform(np.log(2), np.log(150))))
    largest = rng.uniform(0.1, 0.6) * _SIDE
    for _ in range(count):
        radius = min(largest, 0.03 * _SIDE / max(1e-3, rng.random()))
        before = canvas.copy() if count < 12 else None
        _shape(rng, canvas, radius, float(rng.random()))
        if before is not None and rng.random() < 0.5:  # large ones may be shaded
            canvas[:] = np.where(canvas == before, canvas, (canvas + 0.6 * (_texture(rng) - 0.5)).clip(0, 1))
    return canvas


def _shape(rng: np.random.Generator, canvas: np.ndarray, radius: float, grey: float) -> None:
    x, y = rng.uniform(0, _SIDE, 2)
    if rng.random() < 0.5:
        axes = max(1, int(radius)), max(1, int(radius * rng.uniform(0.2, 1)))
        cv2.ellipse(canvas, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, grey, -1)
        return
    n_corners = int(rng.integers(3, 8))
    angle, reach = np.sort(rng.uniform(0, 2 * np.pi, n_corners)), radius * rng.uniform(0.5, 1.3, n_corners)
    corners = np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], grey)


def _regions(rng: np.random.Generator) -> np.ndarray:
    """Grounds that meet along winding lines, such as a coast's, a cell's or a fold's."""
    canvas = _texture(rng)
    for _ in range(int(rng.integers(1, 7))):
        within = _falling(rng, rng.uniform(1.5, 3)) > rng.uniform(0.2, 0.8)
        ground = rng.random() + rng.uniform(0, 0.6) * (_texture(rng) - 0.5)
        canvas = np.where(within, ground.clip(0, 1), canvas)
    return canvas


def _writing(rng: np.random.Generator) -> np.ndarray:
    """Lines of short strokes, dark on bright or bright on dark."""
    ground, ink, height = rng.uniform(0.6, 1), rng.uniform(0, 0.4), rng.uniform(3, 16)
    canvas = np.full((_SIDE, _SIDE), ground, np.float32)
    for y in np.arange(height, _SIDE, height * rng.uniform(1.3, 2.2)):
        x = height * rng.uniform(0.5, 2)
        for _ in range(_INKS):
            ends = rng.uniform((x, y - 0.7 * height), (x + 0.6 * height, y), (3, 2)).astype(np.int32)
            cv2.polylines(canvas, [ends], False, float(ink), max(1, int(height / 8)))
            x += height * (0.7 if rng.random() < 0.8 else 1.5)
            if x > _SIDE - height:
                break
    return canvas if rng.random() < 0.5 else 1 - canvas


def _slice(rng: np.random.Generator) -> np.ndarray:
    """Ellipses in an ellipse on black, as a body cut through."""
    canvas = np.zeros((_SIDE, _SIDE), np.float32)
    centre, turn = _SIDE / 2 + rng.uniform(-0.1, 0.1, 2) * _SIDE, float(rng.uniform(0, 180))
    axes = _SIDE * rng.uniform(0.25, 0.48) * np.array([1, rng.uniform(0.6, 1)])
    for shrunk in (1.0, rng.uniform(0.8, 0.95)):
        cv2.ellipse(canvas, *_rounded(centre, axes * shrunk), turn, 0, 360, float(rng.uniform(0.2, 0.9)), -1)
    for _ in range(int(rng.integers(1, 20))):
        place = centre + rng.normal(0, 0.3, 2).clip(-0.7, 0.7) * axes
        inner = _rounded(place, axes[0] * rng.uniform(0.03, 0.4, 2))
        cv2.ellipse(canvas, *inner, float(rng.uniform(0, 180)), 0, 360, float(rng.random()), -1)
    return canvas


def _rounded(centre: np.ndarray, axes: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(int(each) for each in centre), tuple(int(each) for each in axes)


def _echoes(rng: np.random.Generator) -> np.ndarray:
    """Speckle, mostly within a fan, as of an ultrasound."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32) / _SIDE
    above, middle = rng.uniform(-0.3, 0.1), rng.uniform(0.4, 0.6)
    radius, angle = np.hypot(x - middle, y - above), np.arctan2(x - middle, y - above)
    coarse = (_SIDE // int(rng.integers(1, 4)),) * 2
    speckle = cv2.resize(rng.rayleigh(1, coarse).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    tissue = cv2.GaussianBlur(_shapes(rng), (0, 0), _SIDE / 80)
    nearest = rng.uniform(0.05, 0.3) + max(0, -above)
    inside = (np.abs(angle) < rng.uniform(0.3, 0.9)) & (radius > nearest) & (radius < rng.uniform(0.8, 1.2))
    fan = inside if rng.random() < 0.7 else True
    return (tissue * speckle * np.exp(-radius * rng.uniform(0, 2)) * rng.uniform(0.3, 1) * fan).clip(0, 1)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise of every pixel by itself, or hardly any on an even ground."""
    mean, strength, shape = rng.random(), rng.uniform(0, 0.5), (_SIDE, _SIDE)
    match rng.integers(4):
        case 0:
            return mean + strength * rng.normal(size=shape)
        case 1:
            return mean + strength * rng.uniform(-1, 1, shape)
        case 2:
            hit, share = rng.random(shape), rng.uniform(0, 0.3)
            return np.where(hit < share, 0.0, np.where(hit > 1 - share, 1.0, mean))
    return mean + rng.uniform(0, 0.02) * rng.normal(size=shape)


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Noise that is smooth at some scale: of a spectrum that falls with the frequency, or octaves of smooth noise."""
    if rng.random() < 0.5:
        return _falling(rng, rng.uniform(0.3, 3))
    cells, fade = int(rng.integers(2, 8)), rng.uniform(0.3, 0.9)
    total = np.zeros((_SIDE, _SIDE))
    for octave in range(6):
        grid = rng.normal(size=(min(_SIDE, cells * 2**octave),) * 2)
        total += fade**octave * cv2.resize(grid, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return _stretched(total)


def _falling(rng: np.random.Generator, power: float) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
    frequency[0, 0] = np.inf
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    return _stretched(np.fft.irfft2(phase * frequency**-power, (_SIDE, _SIDE)))


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A ground, in [0, 1]: clouds, stripes, even, shaded, or tiles."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    match rng.integers(5):
        case 0:
            return _falling(rng, rng.uniform(0, 3))
        case 1:
            bent = along / rng.uniform(3, _SIDE / 3) + rng.uniform(0, 0.5) * _falling(rng, 2)
            return 0.5 + 0.5 * np.sin(2 * np.pi * bent)
        case 2:
            return np.full((_SIDE, _SIDE), rng.random())
        case 3:
            return _stretched(along)
    tiles = rng.random((16, 16))
    return cv2.resize(tiles, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)


def _photographed(rng: np.random.Generator, made: np.ndarray) -> np.ndarray:
    """Blurred, lit, noisy and of other contrast, or not; float in about [0, 1] → uint8."""
    if rng.random() < 0.6:
        made = cv2.GaussianBlur(made, (0, 0), rng.uniform(0.3, 2.5))
    if rng.random() < 0.4:
        made = made + rng.uniform(0, 0.4) * _falling(rng, rng.uniform(1.5, 3))
    if rng.random() < 0.4:
        made = made + rng.uniform(0, 0.06) * rng.normal(size=made.shape)
    if rng.random() < 0.5:
        darkest, brightest = rng.uniform(0, 0.3), rng.uniform(0.5, 1)
        made = darkest + (brightest - darkest) * made
    return (made.clip(0, 1) * 255).round().astype(np.uint8)


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (1, 99))
    return ((values - low) / (high - low + 1e-9)).clip(0, 1)


# Each as often as it stands here: photographs, of which there are most ways, are met most often.
_KINDS: tuple[Make, ...] = (
    _shapes,
    _writing,
    _shapes,
    _slice,
    _regions,
    _shapes,
    _echoes,
    _clouds,
    _regions,
    _noise,
    _shapes,
    _clouds,
)
