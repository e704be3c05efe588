"""From pictures of more than 8 bits to 256 grey levels: which values are black and which are white."""

import cv2
import numpy as np

from fracture_mae.data.reading import film
from fracture_mae.data.reading.unreadable import UnreadableImage

_CUT = 0.5  # percent of the exposed field that become black, and that become white
_THINNED_SIDE = 1024  # pixels: of larger pictures every second, third, … pixel decides
_BINS = 128  # between which gaps are looked for
_GAP = 0.85  # share of the range that is empty between anatomy and what was drawn in
_EMPTY = 1e-4  # share of the pixels that a bin in a gap holds at most: edges of what was drawn in
_DRAWN_IN = 0.05  # share of the pixels that lie beyond a gap at most
_MOST_GAPS = 4


def to_grey_levels(picture: np.ndarray, exposed: np.ndarray | None = None) -> np.ndarray:
    """A picture of integers or floats [height, width] as uint8, stretched between percentiles of its exposed field.

    Extremes say little: a lead marker, a dead pixel or a black frame may lie at either end of 65,536 levels, and the anatomy in four
    hundred between. So the very ends of the range are left out, and so is what little lies beyond a wide gap; the field is looked
    for, see `film.find`; of the rest the darkest 0.5 % become black and the brightest 0.5 % white.

    Args:
        exposed: bool [height, width], pixels that can belong to the field; None: all.

    Raises:
        UnreadableImage: some of these pixels are infinite or no number.
    """
    if exposed is None or not exposed.any():
        exposed = np.ones(picture.shape, bool)
    if np.issubdtype(picture.dtype, np.floating) and not np.isfinite(picture[exposed]).all():
        raise UnreadableImage("some pixels are infinite or no number")
    step = max(1, max(picture.shape) // _THINNED_SIDE)
    values, exposed = picture[::step, ::step].astype(np.float64), exposed[::step, ::step]
    if not exposed.any():
        exposed = np.ones(values.shape, bool)
    return _stretched(picture, *_ends(_in_field(values, exposed)))


def _in_field(values: np.ndarray, exposed: np.ndarray) -> np.ndarray:
    """Those values of a picture, float64 [n], that lie in its exposed field."""
    rough = _stretched(np.where(exposed, values, values[exposed].min()), *_ends(values[exposed]))
    field = film.find(rough)
    box = slice(field.top, field.bottom), slice(field.left, field.right)
    empty = cv2.resize(field.empty.astype(np.uint8), values[box].shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    inside = values[box][~empty & exposed[box]]
    return inside if inside.size else values[exposed]


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Which of the values [n] become black and white."""
    between = values[(values > values.min()) & (values < values.max())]  # without what saturates, or is drawn in
    values = between if between.size and between.min() < between.max() else values
    for _ in range(_MOST_GAPS):
        low, high = np.percentile(values, (_CUT, 100 - _CUT))
        within = values[(values >= low) & (values <= high)]
        kept = _without_drawn_in(within)
        if kept is within:
            break
        values = kept
    if high > low:
        return float(low), float(high)
    return float(values.min()), float(values.max())


def _without_drawn_in(values: np.ndarray) -> np.ndarray:
    """The values without the few that lie beyond a wide gap; themselves where there is none."""
    count, edges = np.histogram(values, _BINS)
    filled = np.flatnonzero(count > _EMPTY * values.size)
    widest = int(np.diff(filled).argmax()) if len(filled) > 1 else 0
    if len(filled) < 2 or filled[widest + 1] - filled[widest] <= _GAP * _BINS:
        return values
    middle = edges[(filled[widest] + filled[widest + 1] + 1) // 2]
    below = values < middle
    if below.mean() >= 1 - _DRAWN_IN:
        return values[below]
    return values[~below] if below.mean() <= _DRAWN_IN else values


def _stretched(picture: np.ndarray, low: float, high: float) -> np.ndarray:
    """low → 0, high → 255, as uint8; all 0 where these are the same."""
    scale = 255 / (high - low) if high > low else 0.0
    if picture.dtype in (np.uint16, np.int16):  # what each value becomes is worked out once
        first, last = np.iinfo(picture.dtype).min, np.iinfo(picture.dtype).max
        levels = ((np.arange(first, last + 1) - low) * scale).clip(0, 255).round().astype(np.uint8)
        return levels[picture.astype(np.int32) - first]
    return ((picture - low) * scale).clip(0, 255).round().astype(np.uint8)
