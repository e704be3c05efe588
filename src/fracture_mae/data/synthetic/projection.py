"""Line integrals through a limb.

The attenuation along a ray is the length it runs through matter times the matter's coefficient. For a hollow bone of
outer radius R and inner radius r that a ray passes at distance x from the axis, this length is
2 (sqrt(R² - x²) - sqrt(r² - x²)): bright walls, a darker marrow. Thicknesses are float32 and in limb lengths.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from fracture_mae.data.synthetic.anatomy import Bend, Bone, Limb, Line, Point, sideways

# A bone's profile is kept in tables of so many steps along its axis.
STEPS = 256
ALONG = np.linspace(0, 1, STEPS, dtype=np.float32)


@dataclass(frozen=True)
class Frame:
    """How a limb lies in a picture."""

    shape: tuple[int, int]  # height, width
    scale: float  # pixels per limb length
    angle: float  # radians
    mirror: int  # 1 or -1
    aim: Point  # the limb's point at the picture's centre

    @property
    def axes(self) -> np.ndarray:
        """[2, 2], the rows are the limb's x and y unit vectors in pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[self.mirror * cos, self.mirror * sin], [-sin, cos]]) * self.scale

    @property
    def centre(self) -> np.ndarray:
        return np.array(self.shape[::-1]) / 2

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Limb points [..., 2] → pixels (x, y) [..., 2]."""
        return (points - np.array(self.aim)) @ self.axes + self.centre

    def limb_coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y of every pixel in limb lengths, each float32 [height, width]."""
        (xx, xy), (yx, yy) = np.linalg.inv(self.axes).astype(np.float32)
        columns = np.arange(self.shape[1], dtype=np.float32)[None] - np.float32(self.centre[0])
        rows = np.arange(self.shape[0], dtype=np.float32)[:, None] - np.float32(self.centre[1])
        return columns * xx + rows * yx + np.float32(self.aim[0]), columns * xy + rows * yy + np.float32(self.aim[1])


def flesh(limb: Limb, frame: Frame, margin: float = 0.0) -> np.ndarray:
    """Thickness of soft tissue [height, width], its outline moved outwards by `margin`.

    Of overlapping parts the thickest counts. It is smooth, so it is computed at half the resolution.
    """
    height, width = frame.shape
    half = replace(frame, shape=((height + 1) // 2, (width + 1) // 2), scale=frame.scale / 2)
    x, y = half.limb_coordinates()
    x -= sideways(limb.bends, y)
    squared = np.zeros(half.shape, np.float32)
    for part, window in zip(limb.flesh, _windows(half, limb.bends, limb.flesh, margin), strict=True):
        if squared[window].size:
            along, across = _bone_axes(part, x[window], y[window])
            outer = _profile(part)[0][_steps(part, along)] + np.float32(margin)
            np.maximum(squared[window], outer**2 - across**2, out=squared[window])
    thickness = cv2.GaussianBlur(2 * np.sqrt(squared), (0, 0), 0.006 * half.scale)
    return cv2.resize(thickness, (width, height), interpolation=cv2.INTER_LINEAR)


def skeleton(rng: np.random.Generator, limb: Limb, frame: Frame) -> np.ndarray:
    """Thickness of bone [height, width], overlapping bones added up."""
    x, y = frame.limb_coordinates()
    straight = x - sideways(limb.bends, y)
    total = np.zeros(frame.shape, np.float32)
    for bone, window in zip(limb.bones, _windows(frame, limb.bends, limb.bones), strict=True):
        if total[window].size:
            # A broken bone bends at a point, all that is around it bends softly.
            bone_x = x[window] - sideways(limb.bends, y[window], softness=1e-3) if bone.broken else straight[window]
            total[window] += _bone(rng, bone, bone_x, y[window], 1 / frame.scale)
    return total


def _windows(frame: Frame, bends: list[Bend], bones: list[Bone], margin: float = 0.0) -> list[tuple[slice, slice]]:
    """The part of the picture in which each bone and the `margin` around it lie; empty if it is outside."""
    ends = np.array([(bone.start, bone.end) for bone in bones])  # [n, 2, 2]
    points = ends[:, :1] + np.linspace(0, 1, 6)[:, None] * (ends[:, 1:] - ends[:, :1])  # [n, 6, 2]
    points[..., 0] += sideways(bends, points[..., 1])
    pixels = frame.to_pixels(points)
    reach = frame.scale * np.array([_reach(bone) + margin for bone in bones])[:, None] + 2
    low = np.maximum(pixels.min(axis=1) - reach, 0).astype(int)
    high = np.maximum(pixels.max(axis=1) + reach, 0).astype(int)
    return [(slice(top, bottom), slice(left, right)) for (left, top), (right, bottom) in zip(low, high, strict=True)]


def _reach(bone: Bone) -> float:
    """How far a bone can reach from its axis."""
    widest = 1.1 * max(*bone.flare, 1.0) * (1 + bone.bulge.height if bone.bulge else 1.0)
    moved = abs(bone.broken.step) + abs(bone.broken.gap) if bone.broken else 0.0
    return bone.radius * (widest + moved) + abs(bone.bow) * bone.length


def _bone_axes(bone: Bone, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limb coordinates → distance along the bone from its start, distance from its bowed axis."""
    (dx, dy), length = np.subtract(bone.end, bone.start) / bone.length, bone.length
    x, y = x - np.float32(bone.start[0]), y - np.float32(bone.start[1])
    along, across = x * np.float32(dx) + y * np.float32(dy), x * np.float32(dy) - y * np.float32(dx)
    across -= np.float32(4 * bone.bow / length) * along * (length - along)
    return along, across


def _steps(bone: Bone, along: np.ndarray) -> np.ndarray:
    """Distance along the bone → index into the tables of `_profile`; at and beyond the ends the radius is 0."""
    return np.clip(along * ((STEPS - 1) / bone.length) + 0.5, 0, STEPS - 1).astype(np.int32)


def outer_radius(bone: Bone, position: float) -> float:
    """Of a bone at this fraction of its length."""
    return float(np.interp(position, ALONG, _profile(bone)[0]))


def _profile(bone: Bone) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables [STEPS] along the bone: outer radius, inner radius, share of the inside that is spongy bone."""
    reach = min(0.16, 3.5 * bone.radius / bone.length)
    start, end = np.exp(-((ALONG / reach) ** 2)), np.exp(-(((1 - ALONG) / reach) ** 2))
    width = 1 + (bone.flare[0] - 1) * start + (bone.flare[1] - 1) * end
    if bone.bulge:
        distance = (ALONG - bone.bulge.position) * bone.length / bone.radius
        width += bone.bulge.height * np.exp(-((distance / bone.bulge.width) ** 2))
    cap = 0.55 * bone.radius * max(bone.flare) / bone.length if bone.is_long else 0.5
    outer = bone.radius * width * np.sqrt(1 - np.clip(1 - np.minimum(ALONG, 1 - ALONG) / cap, 0, 1) ** 2.5)
    spongy = np.maximum(start, end)
    inner = np.maximum(outer - bone.cortex * bone.radius * (1 - 0.72 * spongy), 0)
    return outer, inner, 0.05 + 0.28 * spongy


def _bone(rng: np.random.Generator, bone: Bone, x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Thickness of a bone, fracture and lines included, at limb coordinates `x` and `y`; `pixel` is a pixel's size."""
    along, across = _bone_axes(bone, x, y)
    edge = _rough_edge(rng, across, bone.radius) if bone.lines or bone.broken else None
    thickness = _fragments(bone, along, across, edge, pixel) if bone.broken else _intact(bone, along, across)
    for line in bone.lines:
        thickness *= 1 - _missing(line, bone, along, across, edge, pixel)
    return thickness


def _intact(bone: Bone, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    outer, inner, spongy = _profile(bone)
    index = _steps(bone, along)
    return 2 * (_half_chord(outer[index], across) - (1 - spongy[index]) * _half_chord(inner[index], across))


def _half_chord(radius: np.ndarray, distance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(radius**2 - distance**2, 0))


def _fragments(bone: Bone, along: np.ndarray, across: np.ndarray, edge: np.ndarray, pixel: float) -> np.ndarray:
    """The proximal fragment in its place plus the distal one out of its place: they overlap or leave a gap."""
    cut, radius = bone.broken, bone.radius

    def distal(along: np.ndarray, across: np.ndarray) -> np.ndarray:
        beyond = along - cut.position * bone.length - cut.slope * across - cut.roughness * radius * edge
        return np.clip(beyond / pixel + 0.5, 0, 1)

    proximal = _intact(bone, along, across) * (1 - distal(along, across))
    along, across = along - np.float32(cut.gap * radius), across - np.float32(cut.step * radius)
    return proximal + _intact(bone, along, across) * distal(along, across)


def _missing(
    line: Line, bone: Bone, along: np.ndarray, across: np.ndarray, edge: np.ndarray, pixel: float
) -> np.ndarray:
    """The share of the bone's attenuation that a line takes away, 0 to 1."""
    distance = along - line.position * bone.length - line.slope * across - line.roughness * bone.radius * edge
    distance /= np.hypot(1, line.slope)
    width = max(line.width * bone.radius, 0.6 * pixel)
    low, high = (np.float32(limit * bone.radius) for limit in line.extent)
    within = np.clip((across - low) / pixel, 0, 1) * np.clip((high - across) / pixel, 0, 1)
    return line.depth * np.exp(-((distance / width) ** 2)) * within


def _rough_edge(rng: np.random.Generator, across: np.ndarray, radius: float) -> np.ndarray:
    """A jagged line: its height, about -1 to 1, at each distance across the bone."""
    knots = np.linspace(-3 * radius, 3 * radius, 40)
    heights = rng.normal(0, 0.6, 40) + np.repeat(rng.normal(0, 0.6, 10), 4)
    return np.interp(across, knots, heights).astype(np.float32)
