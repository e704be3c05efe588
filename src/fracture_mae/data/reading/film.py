"""The exposed field of a picture: what is left without frames, bars, and the corners that a rotation puts around it."""

from dataclasses import dataclass

import cv2
import numpy as np

_WORKING_SIDE = 256  # pixels; the field is looked for in a picture shrunk to this
_TOLERANCE = 4  # grey levels by which a flat ground varies: noise of JPEG
_GREY_TOLERANCE = (
    2  # elsewhere, where film is as grey as a frame, but has grain: there neighbours may not differ by more either
)
_GRAIN = 5  # pixels of a side in which grain is looked for
_RIM = 5  # pixels of a side by which a blank ground is widened: the blurred line where it meets the film goes too
_DARK, _BRIGHT = 40, 250  # grey levels that a nearly black ground stays below, and a nearly white one above
_LEAST_OF_EDGE = 0.08  # share of the outermost pixels that have the level of a flat ground
_N_LEVELS = 4  # flat grounds that may lie around a field side by side, such as bars and corners
_N_FRAMES = 3  # frames one inside the other
_SOLID = 0.93  # share of its convex hull that a film fills, but a limb on an empty ground does not
_LETTERING = 0.012  # of the longest side: strokes of text and lines around a film are thinner
_SPECK = 5e-4  # of the area: what is smaller is no part of the picture, and no ground
_BESIDE = 0.02  # of the largest film: smaller things beside it are text in its frame, larger ones another film
_LEAST_SIDE = 0.15  # of the picture's: a field that would be smaller is not believed
_MARGIN = 0.01  # of the longest side, kept around a limb on an empty ground


@dataclass(frozen=True)
class Field:
    """Part of a picture, in its pixels.

    Attributes:
        left, top, right, bottom: of the upright box around the field; right and bottom are the first pixels beyond.
        empty: bool [h, w], at any scale, over this box: where nothing was exposed, such as the corners that a rotation leaves.
    """

    left: int
    top: int
    right: int
    bottom: int
    empty: np.ndarray

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The box, cut out of the picture [height, width]."""
        return picture[self.top : self.bottom, self.left : self.right]


def find(picture: np.ndarray, *, to_limb: bool = True) -> Field:
    """The exposed field of a picture, uint8 [height, width]; the whole picture where none can be told.

    Flat ground that reaches in from the edges is taken away: black, white or grey bars, frames one inside the other, and corners of
    a rotation, at any angle. What is left and is no text in a frame is the field, so bone, which is never flat, is not cut off.

    Args:
        to_limb: whether around a limb on an evenly black film the rest of the film is taken away too.
    """
    height, width = picture.shape
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = picture
    if scale < 1:
        small = cv2.resize(
            picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
    left, top, right, bottom = 0, 0, small.shape[1], small.shape[0]
    empty = np.zeros(small.shape, bool)
    for _ in range(_N_FRAMES):
        inner = small[top:bottom, left:right]
        ground, blank = _flat_ground(inner)
        found = _box_of_film(ground) or (_box_of_limb(ground) if to_limb else None)
        if found is None:
            break
        x0, y0, x1, y1, outside = found
        empty[top:bottom, left:right] |= blank | outside
        left, top, right, bottom = left + x0, top + y0, left + x1, top + y1
        if (y1 - y0, x1 - x0) == inner.shape:
            break
    if right - left < _LEAST_SIDE * small.shape[1] or bottom - top < _LEAST_SIDE * small.shape[0]:
        return Field(0, 0, width, height, np.zeros(small.shape, bool))
    to_x, to_y = width / small.shape[1], height / small.shape[0]
    first = int(np.ceil(left * to_x)), int(np.ceil(top * to_y))
    beyond = max(first[0] + 1, int(right * to_x)), max(first[1] + 1, int(bottom * to_y))
    return Field(*first, *beyond, empty[top:bottom, left:right])


def _flat_ground(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels of one of the levels that are frequent on the edge reach in from it, bool [height, width]; those of them that are
    nearly black or white."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    count = np.bincount(edge, minlength=256).astype(float)
    ground, blank = np.zeros(picture.shape, bool), np.zeros(picture.shape, bool)
    gradient = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((_GRAIN, _GRAIN), np.uint8))
    without_grain = cv2.inRange(gradient, 0, _GREY_TOLERANCE)
    for _ in range(_N_LEVELS):
        level = int(np.convolve(count, np.ones(2 * _GREY_TOLERANCE + 1), "same").argmax())
        dark_or_bright = level <= _DARK or level >= _BRIGHT
        lowest, highest = max(0, level - _TOLERANCE), min(255, level + _TOLERANCE)
        if count[lowest : highest + 1].sum() < _LEAST_OF_EDGE * len(edge):
            break
        count[lowest : highest + 1] = 0
        flat = cv2.inRange(picture, lowest, highest)
        if not dark_or_bright:
            flat &= cv2.dilate(flat & without_grain, np.ones((2 * _GRAIN - 1, 2 * _GRAIN - 1), np.uint8))
        part, area = _pieces(flat, connectivity=4)
        touching = np.zeros(len(area), bool)
        touching[np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])] = True
        touching &= area > _SPECK * picture.size
        touching[0] = False
        ground |= touching[part]
        if dark_or_bright:
            blank |= touching[part]
    return ground, cv2.dilate(blank.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8)) > 0


def _box_of_film(ground: np.ndarray) -> tuple[int, int, int, int, np.ndarray] | None:
    """The upright box (left, top, right, bottom) around a film in a frame, and what lies beyond its edges, bool [height, width].

    Returns:
        None where what is no flat ground has not the shape of a film.
    """
    film = _films((~ground).astype(np.uint8), _odd(_LETTERING * max(ground.shape)))
    if film is None:
        return None
    inside = np.zeros(ground.shape, np.uint8)
    cv2.fillConvexPoly(inside, _hull(film), 1)
    if film.sum() <= _SOLID * inside.sum():
        return None
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)  # lines along the edges
    return *_bounds(inside > 0), inside == 0


def _box_of_limb(ground: np.ndarray) -> tuple[int, int, int, int, np.ndarray] | None:
    """The upright box around all that is no flat ground, of which nothing lies beyond; None where it is nothing to speak of."""
    rest = cv2.morphologyEx((~ground).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    part, area = _pieces(rest)
    large = area > _SPECK * ground.size
    large[0] = False
    if not large.any():
        return None
    margin = round(_MARGIN * max(ground.shape))
    x0, y0, x1, y1 = _bounds(large[part])
    height, width = ground.shape
    box = max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)
    return *box, np.zeros(ground.shape, bool)


def _films(rest: np.ndarray, stroke: int) -> np.ndarray | None:
    """The largest piece without what is thin, and those that are large beside it, uint8 [height, width]."""
    opened = cv2.morphologyEx(rest, cv2.MORPH_OPEN, np.ones((stroke, stroke), np.uint8))
    part, area = _pieces(opened)
    if len(area) < 2:
        return None
    area[0] = 0
    return (area > _BESIDE * area.max())[part].astype(np.uint8)


def _pieces(mask: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The number of the connected piece that each pixel is in, 0 outside the mask, and the area of each.

    OpenCV's own statistics take twice as long, for what nobody asks for here.
    """
    n, part = cv2.connectedComponents(mask, connectivity=connectivity)
    return part, np.bincount(part.ravel(), minlength=n)


def _hull(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.convexHull(np.concatenate(contours))


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _odd(side: float) -> int:
    return max(3, round(side) | 1)
