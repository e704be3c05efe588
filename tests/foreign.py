"""Pictures that are no X-rays of bones, of many kinds, each made by code or coming with scikit-image."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

SHAPE = (300, 240)  # rows and columns
_PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "coffee",
    "coins",
    "colorwheel",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "immunohistochemistry",
    "microaneurysms",
    "moon",
    "retina",
    "rocket",
)
_WORDS = [
    "the",
    "patient",
    "fell",
    "on",
    "her",
    "left",
    "hand",
    "and",
    "complains",
    "of",
    "pain",
    "at",
    "the",
    "wrist",
    "no",
    "swelling",
]


def kinds():
    """Kind → pictures, each uint8 [height, width]; the same ones every time."""
    return {
        "blank": blank(),
        "single pixel": [np.full((1, 1), level, np.uint8) for level in range(0, 256, 15)],
        "noise, Gaussian": [_noise(i, lambda rng: rng.normal(*_mean_and_deviation(rng), SHAPE)) for i in range(20)],
        "noise, uniform": [
            _noise(i, lambda rng: rng.uniform(*sorted(rng.uniform(0, 255, 2)), SHAPE)) for i in range(20)
        ],
        "noise, salt and pepper": [_noise(i, salt_and_pepper) for i in range(20)],
        "noise, Perlin": [_noise(i, perlin) for i in range(40)],
        "noise, 1/f": [_noise(i, fractal) for i in range(40)],
        "photographs": photographs(),
        "faces": [_grey(face) for face in data.lfw_subset()[:40]],
        "text": text(),
        "drawings": drawings(),
        "CT, synthetic": [_noise(i, ct_slice) for i in range(30)],
        "ultrasound, synthetic": [_noise(i, ultrasound) for i in range(30)],
    }


def blank():
    """Every grey level in steps of 15, without and with the little noise that a JPEG or a scanner leaves."""
    levels = range(0, 256, 15)
    noisy = [_noise(level, lambda rng, level=level: rng.normal(level, 1.0, SHAPE)) for level in levels]
    return [*(np.full(SHAPE, level, np.uint8) for level in levels), *noisy]


def salt_and_pepper(rng):
    picture = np.full(SHAPE, rng.uniform(0, 255))
    share = rng.uniform(0.01, 0.5)
    hit = rng.random(SHAPE)
    picture[hit < share / 2], picture[hit > 1 - share / 2] = 0, 255
    return picture


def perlin(rng):
    """Octaves of smooth noise, each twice as fine as the one before and weaker by a factor."""
    fade, cells = rng.uniform(0.3, 0.8), int(rng.integers(2, 6))
    total = np.zeros(SHAPE)
    for octave in range(5):
        grid = rng.normal(size=(min(SHAPE[0], cells * 2**octave), min(SHAPE[1], cells * 2**octave)))
        total += fade**octave * cv2.resize(grid, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    return _stretched(total, rng)


def fractal(rng):
    """Noise whose spectrum falls with a power of the frequency, as those of photographs do."""
    frequency = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None], np.fft.rfftfreq(SHAPE[1]))
    frequency[0, 0] = np.inf
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    return _stretched(np.fft.irfft2(phase * frequency ** -rng.uniform(0.5, 2.5), SHAPE), rng)


def photographs():
    """Each whole, and its four quarters."""
    found = []
    for name in _PHOTOGRAPHS:
        picture = _grey(getattr(data, name)())
        height, width = (side // 2 for side in picture.shape)
        quarters = [picture[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
        found += [picture, *quarters]
    return found


def text():
    """Pages, black on white, white on black and on grey, in several sizes, and two that come with scikit-image."""
    pages = [_page(i, size, inks) for i, (size, inks) in enumerate((s, c) for s in (9, 14, 22, 40) for c in _INKS)]
    return [_grey(data.page()), _grey(data.text()), *pages]


_INKS = ((255, 0), (0, 255), (235, 40), (30, 200), (140, 30))  # of the ground and of the letters


def _page(seed, size, inks):
    rng = np.random.default_rng(seed)
    page = Image.new("L", (600, 780), inks[0])
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for y in range(30, 740, int(size * 1.5)):
        draw.text((40, y), " ".join(rng.choice(_WORDS, 90 // max(3, size // 4))), fill=inks[1], font=font)
    return np.asarray(page)


def drawings():
    """Chessboards, stripes, gradients, discs and a plot's axes."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = [(255 * ((y // n + x // n) % 2)).astype(np.uint8) for n in (4, 10, 30, 80)]
    found += [(255 * ((x // n) % 2)).astype(np.uint8) for n in (3, 10, 40)]
    found += [_grey(ramp) for ramp in (x / x.max(), y / y.max(), (x + y) / (x + y).max(), np.hypot(x - 120, y - 150))]
    for n in (1, 3, 8, 20):
        canvas, rng = np.full(SHAPE, 255, np.uint8), np.random.default_rng(n)
        for _ in range(n):
            centre = int(rng.integers(30, 210)), int(rng.integers(30, 270))
            cv2.circle(canvas, centre, int(rng.integers(8, 60)), int(rng.integers(0, 200)), -1)
        found += [canvas, 255 - canvas]
    canvas = np.full(SHAPE, 255, np.uint8)
    cv2.polylines(
        canvas, [np.stack([x[0], 150 + (80 * np.sin(x[0] / 15)).astype(int)], 1).astype(np.int32)], False, 0, 2
    )
    cv2.rectangle(canvas, (20, 20), (220, 280), 0, 1)
    return [*found, canvas]


def ct_slice(rng):
    """An axial slice of a trunk: skin, fat, organs, a vertebra and ribs on air, with the noise of a scanner."""
    canvas = np.zeros((256, 256), np.float32)
    a, b = int(rng.integers(85, 115)), int(rng.integers(60, 85))
    cv2.ellipse(canvas, (128, 128), (a, b), 0, 0, 360, 90, -1)
    cv2.ellipse(canvas, (128, 128), (a - 8, b - 8), 0, 0, 360, 135, -1)
    for _ in range(int(rng.integers(3, 9))):
        centre = int(rng.integers(70, 186)), int(rng.integers(90, 160))
        axes = int(rng.integers(8, 38)), int(rng.integers(8, 30))
        cv2.ellipse(
            canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.choice([10, 60, 120, 160, 175])), -1
        )
    cv2.ellipse(canvas, (128, 128 + b - 25), (16, 12), 0, 0, 360, 240, -1)
    for angle in np.linspace(0, 2 * np.pi, 12):
        place = int(128 + (a - 12) * np.cos(angle)), int(128 + (b - 12) * np.sin(angle))
        cv2.ellipse(canvas, place, (6, 3), float(np.degrees(angle) + 90), 0, 360, 235, -1)
    smooth = cv2.GaussianBlur(canvas, (0, 0), 1.0)
    return smooth + rng.normal(0, rng.uniform(2, 8), smooth.shape) * (smooth > 5)


def ultrasound(rng):
    """A fan of speckle on black, darker and brighter masses in it."""
    size = 320
    y, x = np.mgrid[:size, :size].astype(np.float32)
    radius, angle = np.hypot(x - size / 2, y + 40), np.arctan2(x - size / 2, y + 40)
    echo = cv2.resize(rng.exponential(1, (size // 2, size // 2)), (size, size), interpolation=cv2.INTER_CUBIC)
    tissue = np.full((size, size), 60, np.float32)
    for _ in range(int(rng.integers(2, 6))):
        centre = int(rng.integers(90, 230)), int(rng.integers(80, 280))
        axes = int(rng.integers(12, 50)), int(rng.integers(8, 30))
        cv2.ellipse(tissue, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.choice([5, 20, 110, 150])), -1)
    picture = cv2.GaussianBlur(tissue, (0, 0), 3) * (0.3 + echo) * np.exp(-radius / rng.uniform(250, 600))
    return picture * 1.6 * ((radius > 60) & (radius < 340) & (np.abs(angle) < rng.uniform(0.4, 0.65)))


def _mean_and_deviation(rng):
    return rng.uniform(40, 215), rng.uniform(3, 90)


def _noise(seed, make):
    return make(np.random.default_rng(seed)).round().clip(0, 255).astype(np.uint8)


def _stretched(values, rng):
    """To a range of grey levels that is drawn too."""
    low, high = np.percentile(values, (1, 99))
    return (values - low) / (high - low) * rng.uniform(100, 255) + rng.uniform(0, 60)


def _grey(picture):
    picture = np.asarray(picture)
    if picture.ndim == 3:
        picture = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY)
    if picture.dtype == np.uint8:
        return picture
    return (picture / max(1e-9, float(picture.max())) * 255).round().astype(np.uint8)
