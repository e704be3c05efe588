"""Patients: limbs with proportions, age and findings of their own, and the site that is X-rayed."""

from dataclasses import dataclass, replace

import numpy as np

from fracture_mae.data.synthetic.anatomy import LIMBS, Bend, Bone, Break, Bulge, Limb, Line, Point, sideways
from fracture_mae.data.synthetic.projection import outer_radius

# How often which kind of fracture: sets how hard the pictures are to tell apart.
FRACTURES = {"hairline": 0.15, "crack": 0.15, "displaced": 0.7}


@dataclass(frozen=True)
class View:
    """What of a limb a picture shows.

    Attributes:
        aim: the limb's point at the picture's centre.
        extent: how much of the limb the picture's longer side shows.
        site: the limb's point that hurts, where it is broken if it is.
        reach: as far from there a fracture is seen.
    """

    aim: Point
    extent: float
    site: Point
    reach: float


def sample(rng: np.random.Generator, *, fractured: bool) -> tuple[Limb, View]:
    """A random limb and the view of it.

    The picture is aimed at the site of a complaint, drawn alike for both labels; only a fractured limb is broken there.
    """
    limb = _individual(rng, LIMBS[rng.integers(len(LIMBS))](rng))
    index, position = _complaint(rng, limb)
    bone = limb.bones[index]
    site, extent = bone.at(position), (0.24 + 8.5 * bone.radius) * rng.uniform(0.75, 1.35)
    if rng.random() < (0.6 if fractured else 0.15):
        limb = _swollen(rng, limb, site)
    if fractured:
        limb = _fractured(rng, limb, index, position)
    x = float(site[0] + sideways(limb.bends, np.array(site[1])))
    aim = (x + rng.normal(0, 0.05) * extent, site[1] + rng.normal(0, 0.05) * extent)
    across = np.subtract(limb.bones[index].axis_at(position), site)
    return limb, View(aim, extent, (x + across[0], site[1] + across[1]), _reach(limb.bones[index], position))


def _reach(bone: Bone, position: float) -> float:
    """How far from the axis a fracture at this fraction of the length is seen: beyond the walls, as far as the fragments are moved."""
    moved = max(abs(bone.broken.step), abs(bone.broken.gap)) if bone.broken else 0.0
    return 1.3 * outer_radius(bone, position) + moved * bone.radius


def _individual(rng: np.random.Generator, limb: Limb) -> Limb:
    """The limb with proportions of its own, a child's or an adult's, and turned about its length."""
    turn = 1.0 if rng.random() < 0.6 else np.cos(np.radians(rng.uniform(20, 75)))  # brings neighbouring bones together
    thickness, cortex, child = rng.uniform(0.85, 1.2), rng.uniform(0.55, 1.25), rng.random() < 0.35
    bones = [
        replace(
            _turned(bone, turn),
            radius=bone.radius * thickness * rng.uniform(0.92, 1.08),
            cortex=min(bone.cortex * cortex, 0.7),
            bow=rng.normal(0, 0.015),
            lines=_vessels(rng) + (_growth_plates(rng) if child and bone.is_long else ()),
        )
        for bone in limb.bones
    ]
    flesh = [replace(_turned(part, turn), radius=part.radius * rng.uniform(0.9, 1.15)) for part in limb.flesh]
    return replace(limb, bones=bones, flesh=flesh)


def _turned(bone: Bone, turn: float) -> Bone:
    return replace(bone, start=(bone.start[0] * turn, bone.start[1]), end=(bone.end[0] * turn, bone.end[1]))


def _growth_plates(rng: np.random.Generator) -> tuple[Line, ...]:
    return tuple(
        Line(
            position=position,
            slope=rng.normal(0, 0.06),
            width=rng.uniform(0.1, 0.16),
            depth=rng.uniform(0.3, 0.6),
            roughness=rng.uniform(0.05, 0.15),
        )
        for position in (rng.uniform(0.06, 0.09), rng.uniform(0.91, 0.94))
    )


def _vessels(rng: np.random.Generator) -> tuple[Line, ...]:
    """At most one nutrient canal: it runs through one wall of the shaft at a shallow angle."""
    if rng.random() > 0.35:
        return ()
    canal = Line(
        position=rng.uniform(0.3, 0.7),
        slope=rng.choice([-1, 1]) * rng.uniform(2, 4),
        width=rng.uniform(0.08, 0.14),
        depth=rng.uniform(0.2, 0.4),
        extent=(-0.95, -0.25) if rng.random() < 0.5 else (0.25, 0.95),
    )
    return (canal,)


def _complaint(rng: np.random.Generator, limb: Limb) -> tuple[int, float]:
    """Index of a long bone, the big ones more often, and a position on it, rather near its ends."""
    weights = np.array([bone.length * bone.radius**2 * bone.is_long for bone in limb.bones])
    weights[0] *= 0.4  # upper arm and thigh: mostly a plain shaft
    index = int(rng.choice(len(weights), p=weights / weights.sum()))
    position = 0.08 + 0.84 * rng.beta(0.7, 0.7)
    return index, max(position, 0.45) if index == 0 else position  # nothing is modelled above upper arm and thigh


def _swollen(rng: np.random.Generator, limb: Limb, site: Point) -> Limb:
    """The limb with thicker soft tissue around a site."""
    height = rng.uniform(0.08, 0.25)

    def swell(part: Bone) -> Bone:
        along = np.dot(np.subtract(site, part.start), np.subtract(part.end, part.start)) / part.length**2
        return replace(part, bulge=Bulge(along, height, width=1.2))

    return replace(limb, flesh=[swell(part) for part in limb.flesh])


def _fractured(rng: np.random.Generator, limb: Limb, index: int, position: float) -> Limb:
    """The limb with a bone fractured: transverse or, less often, oblique; displaced fractures also bend the limb."""
    bone, bends = limb.bones[index], limb.bends
    slope = rng.choice([-1, 1]) * rng.uniform(0.4, 1.8) if rng.random() < 0.4 else rng.normal(0, 0.2)
    kind = rng.choice(list(FRACTURES), p=list(FRACTURES.values()))
    if kind == "hairline":
        bone = _hairline(rng, bone, position, slope)
    else:
        if kind == "crack":
            gap, step, angle = rng.normal(0.1, 0.15), rng.normal(0, 0.25), rng.normal(0, 5)
        else:
            gap, step, angle = rng.uniform(-0.8, 0.8), rng.uniform(0.4, 1.5), rng.uniform(5, 27)
            step, angle = step * rng.choice([-1, 1]), angle * rng.choice([-1, 1])
        bone = replace(bone, broken=Break(position, slope, rng.uniform(0.1, 0.3), gap, step))
        bends = [*bends, Bend(bone.at(position)[1], np.tan(np.radians(angle)), softness=0.05)]
    return replace(limb, bones=[*limb.bones[:index], bone, *limb.bones[index + 1 :]], bends=bends)


def _hairline(rng: np.random.Generator, bone: Bone, position: float, slope: float) -> Bone:
    """A dark line from one wall of the bone to somewhere inside or through the other; at times the wall is buckled."""
    end = rng.uniform(-0.2, 1.2)
    line = Line(
        position=position,
        slope=slope,
        width=rng.uniform(0.07, 0.13),
        depth=rng.uniform(0.4, 0.8),
        extent=(-1.2, end) if rng.random() < 0.5 else (-end, 1.2),
        roughness=0.15,
    )
    bulge = Bulge(position, rng.uniform(0.1, 0.3), width=0.6) if rng.random() < 0.5 else None
    return replace(bone, lines=(*bone.lines, line), bulge=bulge)
