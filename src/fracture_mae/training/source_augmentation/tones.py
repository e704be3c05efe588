"""Which grey stands for which exposure: what scanners, films and export programs differ in.

Each change takes a picture, uint8 [H, W], a generator, and a strength in [0, 1]; it returns a new picture of the same shape.
"""

import cv2
import numpy as np

_LEVELS = np.arange(256) / 255  # greys of a picture, 0 to 1
_KNOTS = np.linspace(0, 1, 6)  # of a contrast curve
_FAINTEST = (
    0.3  # how far from black and white a picture's darkest and brightest grey may be moved together, at full strength
)


def contrast_curve(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A rising curve through random knots, from a black that may be grey to a white that may be."""
    rises = rng.dirichlet(np.full(len(_KNOTS) - 1, 2.0))
    curve = (1 - strength) * _KNOTS + strength * np.concatenate([[0], rises.cumsum()])
    black, white = strength * _FAINTEST / 2 * rng.random(2) * [1, -1] + [0, 1]
    return _by_curve(picture, black + (white - black) * np.interp(_LEVELS, _KNOTS, curve))


def gamma(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A power of the grey, between 1/2 and 2 at full strength."""
    return _by_curve(picture, _LEVELS ** np.exp2(strength * rng.uniform(-1, 1)))


def equalise(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Histogram equalisation of the whole picture or of tiles (CLAHE, Zuiderveld, Graphics Gems IV, 1994), in part or wholly."""
    if rng.random() < 0.3:
        equalised = cv2.equalizeHist(picture)
    else:
        tiles = int(rng.integers(2, 9))
        equalised = cv2.createCLAHE(1 + 3 * strength * rng.random(), (tiles, tiles)).apply(picture)
    share = strength * rng.uniform(0.5, 1)
    return cv2.addWeighted(equalised, share, picture, 1 - share, 0)


def negative(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Black for white, whatever the strength."""
    return 255 - picture


def _by_curve(picture: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Each grey replaced by that of the curve, float [256] in [0, 1]."""
    return cv2.LUT(picture, (255 * curve + 0.5).clip(0, 255).astype(np.uint8))
