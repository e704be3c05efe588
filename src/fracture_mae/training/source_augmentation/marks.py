"""Letters, dates, boxes and arrows that people and machines leave on an X-ray: painted in, and painted out.

Each change takes a picture, uint8 [H, W], a generator, and a strength in [0, 1]; it returns a new picture of the same shape.
"""

import cv2
import numpy as np

from fracture_mae.training.source_augmentation.frames import film

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_PLAIN)
_WORDS = ("L", "R", "L", "R", "AP", "PA", "LAT", "OBL", "STANDING", "PORTABLE", "LEFT", "RIGHT")
_MOST_COVERED = 0.1  # share of the picture that all marks painted in cover at most
_BRIGHT = 60  # grey levels that a stroke stands out from its surroundings
_ZONE = 0.25  # sides of the picture from its edge inwards in which overlays are looked for
_LARGEST = 0.02  # share of the picture that an overlay covers at most


def paint_in(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Up to three marks, each letters near the film's border or an arrow anywhere."""
    marked = picture.copy()
    for _ in range(1 + int(rng.integers(1 + round(2 * strength)))):
        if rng.random() < 0.25:
            _paint_arrow(marked, rng)
        else:
            _paint_letters(marked, rng)
    return marked


def paint_out(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Bright strokes near the border give way to what surrounds them, by inpainting or by one dark grey; whatever the strength."""
    width = max(3, len(picture) // 24)
    surroundings = cv2.morphologyEx(picture, cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    strokes = _overlays((picture - surroundings > _BRIGHT).astype(np.uint8))
    if rng.random() < 0.5:
        return np.where(strokes, surroundings, picture)
    return cv2.inpaint(picture, strokes, 2, cv2.INPAINT_TELEA)


def _overlays(bright: np.ndarray) -> np.ndarray:
    """1 on small things near the border, and on a pixel around them: uint8 [H, W].

    Args:
        bright: uint8 [H, W], 1 on what is much brighter than its surroundings.
    """
    side = len(bright)
    zone = round(_ZONE * side)
    bright[zone:-zone, zone:-zone] = 0
    _, places, stats, _ = cv2.connectedComponentsWithStats(bright)
    area = stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT]
    small = (area > 2) & (area <= _LARGEST * side**2)
    small[0] = False  # what is not bright
    return cv2.dilate(small.astype(np.uint8)[places], np.ones((3, 3), np.uint8))


def _paint_letters(picture: np.ndarray, rng: np.random.Generator) -> None:
    side = len(picture)
    words, font = _words(rng), int(rng.choice(_FONTS))
    height, thickness = max(4, round(side * rng.uniform(0.03, 0.07))), 1 + int(rng.random() < 0.3) * (side // 112)
    scale = cv2.getFontScaleFromHeight(font, height, thickness)
    (width, height), below = cv2.getTextSize(words, font, scale, thickness)
    if width * height > _MOST_COVERED / 3 * picture.size:  # on a small picture
        words = words[0]
        (width, height), below = cv2.getTextSize(words, font, scale, thickness)
    x, y = _near_border(picture, rng, width, height + below)
    ink, plate = (255 if rng.random() < 0.8 else int(rng.integers(256))), rng.random()
    if plate < 0.3:
        is_filled = plate < 0.15 and (width + 2) * (height + below + 2) < _MOST_COVERED / 3 * picture.size
        cv2.rectangle(picture, (x - 1, y - 1), (x + width, y + height + below), ink, cv2.FILLED if is_filled else 1)
        ink = 255 - ink if is_filled else ink
    cv2.putText(picture, words, (x, y + height), font, scale, ink, thickness, cv2.LINE_AA)


def _words(rng: np.random.Generator) -> str:
    """A side, a view, a date or a number."""
    kind = rng.random()
    if kind < 0.6:
        return str(rng.choice(_WORDS))
    day, month, year, number = rng.integers([1, 1, 1990, 100], [29, 13, 2030, 100_000]).tolist()
    return f"{day:02}.{month:02}.{year}" if kind < 0.8 else str(number)


def _near_border(picture: np.ndarray, rng: np.random.Generator, width: int, height: int) -> tuple[int, int]:
    """Left and top of a box of this size, at most a tenth of the film from one of its four sides, and inside the picture."""
    rows, columns = film(picture)
    along, inwards = rng.random(), 0.1 * rng.random()
    at, other = ((inwards, along), (1 - inwards, along))[rng.integers(2)]
    share_x, share_y = (at, other) if rng.random() < 0.5 else (other, at)
    x = columns.start + share_x * (columns.stop - columns.start - width)
    y = rows.start + share_y * (rows.stop - rows.start - height)
    return (max(0, min(round(x), picture.shape[1] - width)), max(0, min(round(y), picture.shape[0] - height)))


def _paint_arrow(picture: np.ndarray, rng: np.random.Generator) -> None:
    side = len(picture)
    tip, angle, length = rng.uniform(0.1, 0.9, 2) * side, rng.uniform(0, 2 * np.pi), side * rng.uniform(0.08, 0.18)
    end = tip + length * np.array([np.cos(angle), np.sin(angle)])
    start, stop = (tuple(np.rint(point).astype(int).tolist()) for point in (end, tip))
    grey = 255 if rng.random() < 0.7 else 0
    cv2.arrowedLine(picture, start, stop, grey, max(1, side // 112), cv2.LINE_AA, tipLength=0.35)
