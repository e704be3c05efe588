"""How much detail a file keeps: sharpness, resolution, noise, JPEG.

Each change takes a picture, uint8 [H, W], a generator, and a strength in [0, 1]; it returns a new picture of the same shape.
"""

import cv2
import numpy as np

_BLUR = 1 / 150  # standard deviation of the strongest blur, of the picture's side
_NOISE = 14  # standard deviation of the strongest noise [grey levels]
_QUALITIES = (12, 95)  # of JPEG, at full strength
_ENLARGED_BY = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def sharpness(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Blurred, or sharpened by an unsharp mask."""
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.3 + strength * rng.random() * max(0.6, _BLUR * len(picture)))
    if rng.random() < 0.5:
        return blurred
    amount = 2 * strength * rng.random()
    return cv2.addWeighted(picture, 1 + amount, blurred, -amount, 0)


def resolution(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Made smaller, to no less than two fifths of its side, and as large again as it was."""
    height, width = picture.shape
    share = 1 - 0.6 * strength * rng.random()
    small = cv2.resize(picture, (round(share * width), round(share * height)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=int(rng.choice(_ENLARGED_BY)))


def noise(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Normal noise in each pixel, or grains of about two pixels."""
    drawn = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(_NOISE * strength * rng.random())
    if rng.random() < 0.5:
        drawn = 2 * cv2.GaussianBlur(drawn, (0, 0), 0.8)
    return cv2.add(picture, drawn, dtype=cv2.CV_8U)


def jpeg(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Compressed at a random quality; the worst is the worse, the greater the strength."""
    worst, best = _QUALITIES
    quality = int(rng.uniform(best - (best - worst) * strength, best))
    _, file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
