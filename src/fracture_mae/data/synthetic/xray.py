"""Procedural bone X-rays: `patient` makes up a limb, `projection` sends rays through it, `film` records them."""

import cv2
import numpy as np

from fracture_mae.data.synthetic import film, patient, projection
from fracture_mae.data.synthetic.anatomy import Limb, Point


def xray(rng: np.random.Generator, *, fractured: bool, size: int) -> np.ndarray:
    """One random X-ray of an arm or a leg.

    Fractured ones differ in the bone, in how the limb bends there and, more often than others, in swollen soft tissue.

    Returns:
        uint8 [height, width], the longer side has `size` pixels: 0 is no attenuation, bone is bright.
    """
    return xray_and_place(rng, fractured=fractured, size=size)[0]


def xray_and_place(rng: np.random.Generator, *, fractured: bool, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An X-ray, as `xray` makes it, and the box around what hurts, where the bone is broken if it is: x0, y0, x1, y1 [pixels]."""
    limb, view = patient.sample(rng, fractured=fractured)
    frame = _place(rng, size, view.aim, view.extent)
    attenuation = _attenuation(rng, limb, frame)
    picture = film.expose(rng, attenuation)
    film.add_scratches(rng, picture)
    if rng.random() < 0.75:
        film.add_marker(rng, picture)
    if rng.random() < 0.4:
        film.collimate(rng, picture)
    return np.clip(picture * 255, 0, 255).astype(np.uint8), _box(view, frame)


def _box(view: patient.View, frame: projection.Frame) -> np.ndarray:
    centre, half = frame.to_pixels(np.array(view.site)), view.reach * frame.scale
    return np.concatenate([centre - half, centre + half]).clip(0, np.tile(frame.shape[::-1], 2))


def _place(rng: np.random.Generator, size: int, aim: Point, extent: float) -> projection.Frame:
    """`aim` at the centre, the limb mostly along the longer side, which shows `extent` of it."""
    long, short = size, round(size * rng.uniform(0.6, 1.0))
    lying = rng.random() < 0.1
    shape = (short, long) if lying else (long, short)
    angle = np.radians(rng.normal(0, 7)) + np.pi / 2 * lying
    return projection.Frame(shape, size / extent, angle, int(rng.choice([-1, 1])), aim)


def _attenuation(rng: np.random.Generator, limb: Limb, frame: projection.Frame) -> np.ndarray:
    """Of soft tissue, bone (several times as dense) and at times a cast: float32 [height, width]."""
    height, width = frame.shape
    flesh, bone = projection.flesh(limb, frame), projection.skeleton(rng, limb, frame)
    flesh += flesh.max() * 0.03 * film.waves(rng, frame.shape, 1)  # the beam is not even
    flesh *= 1 + 0.05 * film.waves(rng, frame.shape, 12)  # muscles
    bone *= 1 + 0.07 * film.waves(rng, frame.shape, max(height, width) // 3)  # spongy bone
    attenuation = flesh + rng.uniform(3, 6) * bone
    if rng.random() < 0.12:
        attenuation += _cast(rng, limb, frame)
    return attenuation


def _cast(rng: np.random.Generator, limb: Limb, frame: projection.Frame) -> np.ndarray:
    """A plaster shell around the soft tissue, with the weave of its bandages."""
    inner = rng.uniform(0.008, 0.015)
    outer = inner + rng.uniform(0.012, 0.025)
    shell = projection.flesh(limb, frame, outer) - projection.flesh(limb, frame, inner)
    weave = 1 + 0.3 * film.waves(rng, frame.shape, max(frame.shape) // 4)
    _, y = frame.limb_coordinates()
    covered = np.abs(y - rng.uniform(0.4, 1.0)) < rng.uniform(0.3, 0.7)
    return rng.uniform(0.6, 1.1) * shell * weave * cv2.GaussianBlur(covered.astype(np.float32), (0, 0), 1.5)
