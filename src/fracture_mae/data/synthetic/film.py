"""What detector, film and diaphragm do to an X-ray. Pictures: float32 [height, width] from 0 (black) to 1 (white)."""

import cv2
import numpy as np


def waves(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth noise with about `cells` waves a side, mean 0 and standard deviation about 0.7."""
    coarse = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def expose(rng: np.random.Generator, attenuation: np.ndarray) -> np.ndarray:
    """Attenuation (any unit) → picture: automatic exposure, quantum noise, blur, a film's curve and its veil."""
    brightest = np.percentile(attenuation[::4, ::4], 99.5)
    attenuation = attenuation / max(brightest * rng.uniform(0.9, 1.25), 1e-6)
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    # Fewer quanta arrive behind thick parts: in units of attenuation the noise is 1 / sqrt(their number).
    attenuation += rng.uniform(0.008, 0.03) * np.exp(attenuation) * noise
    attenuation = cv2.GaussianBlur(attenuation, (0, 0), rng.uniform(0.4, 0.8))
    curve, veil = rng.uniform(0.1, 1.0), rng.uniform(0.02, 0.14)
    return veil + (1 - veil) * (1 - np.exp(-curve * attenuation)) / np.float32(1 - np.exp(-curve))


def add_scratches(rng: np.random.Generator, picture: np.ndarray) -> None:
    """A few thin bright or dark strokes: dirt on the cassette, folds of the skin."""
    height, width = picture.shape
    for _ in range(rng.poisson(0.7)):
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.06, 12))
        step = rng.uniform(0.01, 0.04) * max(height, width)
        points = rng.uniform(0, 1, 2) * (width, height) + np.cumsum(_directions(headings) * step, axis=0)
        stroke = np.zeros(picture.shape, np.float32)
        cv2.polylines(stroke, [_fixed_point(points)], False, 1.0, 1, cv2.LINE_AA, SHIFT)
        picture += rng.choice([-1, 1]) * rng.uniform(0.04, 0.15) * stroke


def add_marker(rng: np.random.Generator, picture: np.ndarray) -> None:
    """A lead letter for the side, with digits, near the left or right border; may be on a plate, turned or mirrored."""
    height = max(picture.shape) * rng.uniform(0.03, 0.06)
    stamp = _lettering(rng, height)
    stamp = np.rot90(stamp, rng.choice(4, p=[0.6, 0.15, 0.1, 0.15]))[:, :: rng.choice([1, -1], p=[0.8, 0.2])]
    room = np.subtract(picture.shape, stamp.shape)
    if min(room) <= 0:
        return
    row, column = int(room[0] * rng.uniform(0.05, 0.95)), int(room[1] * rng.choice([0.04, 0.96]))
    area = picture[row : row + stamp.shape[0], column : column + stamp.shape[1]]
    area += rng.choice([0.0, rng.uniform(0.05, 0.2)])  # the plate
    np.maximum(area, stamp / 255 * rng.uniform(0.8, 1.0), out=area)


def collimate(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Darken what the beam's diaphragm keeps out: a border of up to a tenth of the picture, slightly tilted."""
    height, width = picture.shape
    left, top, right, bottom = rng.uniform(0, 0.09, 4)
    corners = np.array([[left, top], [1 - right, top], [1 - right, 1 - bottom], [left, 1 - bottom]]) * (width, height)
    tilt = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 3), 1.0)
    inside = np.zeros(picture.shape, np.float32)
    cv2.fillConvexPoly(inside, _fixed_point(corners @ tilt[:, :2].T + tilt[:, 2]), 1.0, cv2.LINE_AA, SHIFT)
    scatter = rng.uniform(0, 0.4)
    picture *= scatter + (1 - scatter) * inside


SHIFT = 3  # OpenCV draws at whole pixels unless coordinates come multiplied by 2**shift


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**SHIFT).astype(np.int32)


def _directions(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _lettering(rng: np.random.Generator, height: float) -> np.ndarray:
    """uint8 picture of a letter and up to three digits, `height` pixels high."""
    text = str(rng.choice(["L", "R"])) + "".join(str(digit) for digit in rng.integers(0, 10, rng.choice([0, 2, 2, 3])))
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, height / 22, max(1, round(height / 8))
    (width, _), baseline = cv2.getTextSize(text, font, scale, thickness)
    stamp = np.zeros((int(height * 1.6) + baseline, width + int(height)), np.uint8)
    cv2.putText(stamp, text, (int(height / 2), int(height * 1.3)), font, scale, 255, thickness, cv2.LINE_AA)
    return stamp
