"""Arms and legs: which bones there are and where.

A limb is described in its own plane: x across, y along it towards the fingers or toes, with the forearm or shin from
y=0 (elbow or knee) to y=1 (wrist or ankle). So all lengths are in forearm or shin lengths.
"""

from dataclasses import dataclass, field, replace

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A thin dark line over a bone: a growth plate, a vessel's canal or a hairline fracture.

    Positions along the bone are fractions of its length; widths and distances across it are fractions of its radius.
    """

    position: float
    slope: float  # distance along per distance across: 0 is transverse
    width: float
    depth: float  # share of the bone's attenuation that is missing on the line
    extent: tuple[float, float] = (-9.0, 9.0)  # from where to where across the bone
    roughness: float = 0.0


@dataclass(frozen=True)
class Break:
    """A complete fracture: the distal fragment is cut off along a rough line and moved, in fractions of the radius."""

    position: float
    slope: float
    roughness: float
    gap: float  # along the bone; negative: the fragments are driven into each other
    step: float  # across the bone


@dataclass(frozen=True)
class Bulge:
    """A swelling all around: a buckled wall of a bone, swollen soft tissue."""

    position: float  # fraction of the length
    height: float  # fraction of the radius
    width: float  # fraction of the radius


@dataclass(frozen=True)
class Bone:
    """A hollow bone between two points; if they are closer than 4 radii, a rounded lump such as a carpal bone."""

    start: Point
    end: Point
    radius: float
    flare: tuple[float, float] = (1.0, 1.0)  # width of the two ends / width of the shaft
    cortex: float = 0.45  # thickness of the shaft's wall / radius
    bow: float = 0.0  # height of its bow / length
    bulge: Bulge | None = None
    lines: tuple[Line, ...] = ()
    broken: Break | None = None

    @property
    def length(self) -> float:
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    @property
    def is_long(self) -> bool:
        return self.length > 4 * self.radius

    def at(self, position: float) -> Point:
        """The point of the straight line from end to end at this fraction of the length."""
        return tuple(a + position * (b - a) for a, b in zip(self.start, self.end, strict=True))

    def axis_at(self, position: float) -> Point:
        """The point of the bowed axis at this fraction of the length."""
        (x, y), (dx, dy) = self.at(position), np.subtract(self.end, self.start)
        height = 4 * self.bow * position * (1 - position)
        return float(x + height * dy), float(y - height * dx)


@dataclass(frozen=True)
class Bend:
    """From `y` on the limb leans sideways by `slope`; `softness` is the length over which it turns."""

    y: float
    slope: float
    softness: float


@dataclass(frozen=True)
class Limb:
    bones: list[Bone]
    flesh: list[Bone]  # only their outlines are used
    bends: list[Bend] = field(default_factory=list)


def sideways(bends: list[Bend], y: np.ndarray, softness: float | None = None) -> np.ndarray:
    """How far the bends have pushed the limb sideways at `y`; `softness` replaces that of the bends."""
    total = np.zeros_like(y)
    for bend in bends:
        beyond = y - np.float32(bend.y)
        radius = np.float32(bend.softness if softness is None else softness)
        total += np.float32(bend.slope / 2) * (beyond + np.sqrt(beyond**2 + radius**2))
    return total


def _rays(origins: list[Point], angles: list[float], lengths: list[list[float]], radius: float) -> list[list[Bone]]:
    """Chains of tubular bones (metacarpals and fingers, metatarsals and toes): one chain a ray, angles in degrees."""
    chains = []
    for (x, y), angle, sizes in zip(origins, angles, lengths, strict=True):
        direction = np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        start, chain = np.array([x, y]), []
        for place, size in enumerate(sizes):
            end = start + size * direction
            chain.append(Bone(tuple(start), tuple(end), radius * 0.87**place, (1.7, 1.55), cortex=0.5))
            start = end + 0.004 * direction
        chains.append(chain)
    return chains


def _lump(x: float, y: float, radius: float, height: float = 1.0, turn: float = 0.0) -> Bone:
    """A rounded bone with its centre at (x, y), `height` times as long as wide, turned by `turn` radians."""
    dx, dy = radius * height * np.sin(turn), radius * height * np.cos(turn)
    return Bone((x - dx, y - dy), (x + dx, y + dy), radius, cortex=0.22)


def _covered(chains: list[list[Bone]], margin: float) -> list[Bone]:
    """Flesh around the last bones of each chain."""
    return [replace(bone, radius=bone.radius * margin, flare=(1.1, 1.0)) for chain in chains for bone in chain[1:]]


def _arm(rng: np.random.Generator) -> Limb:
    spread = rng.uniform(0.4, 1.4)
    digits = _rays(
        origins=[(-0.065, 1.10), (-0.045, 1.135), (-0.012, 1.14), (0.02, 1.135), (0.05, 1.12)],
        angles=[-32 * spread - 8, -11 * spread, -2 * spread, 7 * spread, 15 * spread],
        lengths=[[0.17, 0.12, 0.09], [0.26, 0.16, 0.09, 0.07], [0.25, 0.17, 0.11, 0.07], [0.22, 0.16, 0.1, 0.07],
                 [0.2, 0.13, 0.075, 0.06]],
        radius=0.0155,
    )  # fmt: skip
    carpals = [(-0.05, 1.04), (-0.008, 1.032), (0.03, 1.038), (-0.068, 1.085), (-0.035, 1.095), (-0.002, 1.09),
               (0.036, 1.085), (0.05, 1.045)]  # fmt: skip
    elbow = np.radians(rng.choice([0.0, rng.uniform(0, 95)], p=[0.7, 0.3]))
    bones = [
        Bone((-1.2 * np.sin(elbow), -1.2 * np.cos(elbow)), (0.0, -0.025), 0.036, (1.5, 2.2), cortex=0.4),
        Bone((-0.035, 0.015), (-0.03, 1.0), 0.024, (1.45, 2.3)),
        Bone((0.03, -0.06), (0.045, 0.985), 0.021, (2.1, 1.35)),
        *(_lump(x, y, rng.uniform(0.02, 0.027), rng.uniform(0.9, 1.4), rng.normal(0, 0.5)) for x, y in carpals),
        *(bone for chain in digits for bone in chain),
    ]
    flesh = [
        Bone(bones[0].start, (0.0, 0.06), 0.13),
        Bone((0.0, -0.1), (0.0, 1.15), 0.085, (1.45, 0.95)),
        Bone((0.0, 0.98), (0.0, 1.43), 0.105, (0.9, 1.05)),
        *_covered(digits, 2.3),
    ]
    return Limb(bones, flesh, [Bend(1.02, rng.normal(0, 0.12), 0.03)])


def _leg(rng: np.random.Generator) -> Limb:
    spread = rng.uniform(0.5, 1.3)
    toes = _rays(
        origins=[(-0.05, 1.2), (-0.02, 1.21), (0.008, 1.21), (0.033, 1.2), (0.055, 1.18)],
        angles=[-7 * spread, -2 * spread, 2 * spread, 7 * spread, 12 * spread],
        lengths=[[0.18, 0.09, 0.065], [0.2, 0.07, 0.035, 0.03], [0.19, 0.065, 0.03, 0.03], [0.185, 0.06, 0.03, 0.025],
                 [0.18, 0.05, 0.025, 0.025]],
        radius=0.0145,
    )  # fmt: skip
    knee = np.radians(rng.choice([0.0, rng.uniform(0, 50)], p=[0.7, 0.3]))
    bones = [
        Bone((-1.1 * np.sin(knee), -1.1 * np.cos(knee)), (0.0, -0.02), 0.041, (1.6, 1.8), cortex=0.5),
        _lump(-0.042, -0.045, 0.046),
        _lump(0.042, -0.045, 0.044),
        _lump(rng.normal(0, 0.03), -0.09, 0.042),
        Bone((-0.005, 0.0), (-0.01, 0.985), 0.037, (2.25, 1.45), cortex=0.5),
        Bone((0.068, 0.055), (0.042, 1.02), 0.0155, (1.6, 1.6), cortex=0.55),
        _lump(-0.005, 1.045, 0.056, 0.85),
        _lump(0.02, 1.11, 0.046, 1.5, 0.3),
        _lump(-0.03, 1.135, 0.036, 0.9),
        _lump(-0.042, 1.185, 0.02, 1.2),
        _lump(-0.01, 1.19, 0.018, 1.3),
        _lump(0.035, 1.165, 0.026, 1.2),
        *(bone for chain in toes for bone in chain),
    ]
    flesh = [
        Bone(bones[0].start, (0.0, 0.02), 0.155, (1.2, 0.9)),
        Bone((0.0, -0.1), (0.0, 1.08), 0.11, (1.25, 0.72)),
        Bone((0.0, 0.95), (0.0, 1.42), 0.09, (0.95, 1.0)),
        *_covered(toes, 2.2),
    ]
    return Limb(bones, flesh, [Bend(0.0, rng.normal(0, 0.05), 0.03), Bend(1.02, rng.normal(0, 0.1), 0.03)])


LIMBS = (_arm, _leg)
