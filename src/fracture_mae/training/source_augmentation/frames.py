"""What surrounds the film: frames, and fields of exposure that end in a line of their own.

The change takes a picture, uint8 [H, W], a generator, and a strength in [0, 1]; it returns a new picture of the same shape.
"""

import cv2
import numpy as np

_EMPTY = 16  # grey levels that a row or column outside the film varies by at most
_THICKEST = 0.12  # of a frame, in sides of the picture, at full strength
_MOST_TURNED = 8  # a field of exposure in its frame [degrees]


def film(picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a picture, uint8 [H, W], within what is of one grey around them; all where nothing is."""
    spans = []
    for axis in (1, 0):
        kept = np.flatnonzero(picture.max(axis) - picture.min(axis) > _EMPTY)
        spans.append(slice(kept[0], kept[-1] + 1) if len(kept) else slice(0, picture.shape[1 - axis]))
    return spans[0], spans[1]


def frame(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A frame of one grey or two, black, white or between: over the bars and the film's outermost parts."""
    field = _field(picture, rng, strength)
    outer, inner = (_grey(rng) for _ in range(2))
    framed = np.where(field, picture, np.uint8(outer))
    if rng.random() < 0.3:  # a second line within the first
        width = 1 + int(rng.integers(1, 2 + len(picture) // 40))
        within = cv2.erode(
            field, np.ones((2 * width + 1,) * 2, np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        framed = np.where(field > within, np.uint8(inner), framed)
    return framed


def _grey(rng: np.random.Generator) -> int:
    """Black, white, or any grey, of equal chance."""
    return (0, 255, int(rng.integers(1, 255)))[rng.integers(3)]


def _field(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """1 where the film stays visible, uint8 [H, W]: a rectangle, a turned one, or one with corners cut or rounded."""
    rows, columns = film(picture)
    top, bottom, left, right = strength * _THICKEST * len(picture) * rng.random(4) * rng.random()
    corners = np.array([[columns.start + left, rows.start + top], [columns.stop - 1 - right, rows.stop - 1 - bottom]])
    centre, size = corners.mean(axis=0), corners[1] - corners[0] + 1
    field = np.zeros_like(picture)
    shape = rng.random()
    if shape < 0.2:
        cut = rng.uniform(0.05, 0.25) * strength * size.min()
        half, inset = size / 2, size / 2 - cut
        signs = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])
        octagon = [centre + sign * each for sign in signs for each in _in_turn(half, inset, sign)]
        return cv2.fillConvexPoly(field, np.rint(octagon).astype(np.int32), 1)
    turn = strength * rng.uniform(-_MOST_TURNED, _MOST_TURNED) if shape < 0.5 else 0.0
    outline = cv2.boxPoints((centre.tolist(), (size - 1).tolist(), turn))
    return cv2.fillConvexPoly(field, np.rint(outline).astype(np.int32), 1)


def _in_turn(half: np.ndarray, inset: np.ndarray, sign: np.ndarray) -> list[np.ndarray]:
    """The two points of a cut corner, half sizes as [x, y], in the order in which an octagon runs through them."""
    points = [np.array([inset[0], half[1]]), np.array([half[0], inset[1]])]
    return points if sign[0] * sign[1] < 0 else points[::-1]
