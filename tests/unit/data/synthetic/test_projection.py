import numpy as np
import pytest

from fracture_mae.data.synthetic import projection
from fracture_mae.data.synthetic.anatomy import Bend, Bone, Break, Bulge, Limb, Line, sideways

SHAFT = Bone(start=(0.0, 0.0), end=(0.0, 2.0), radius=0.1, cortex=0.4)  # outer radius 0.1, inner radius 0.06
PIXEL = 1e-3


def thickness(bone, y, x):
    """Of bone on the ray through the limb's point (x, y)."""
    point = np.array([[x]], np.float32), np.array([[y]], np.float32)
    return float(projection._bone(np.random.default_rng(0), bone, *point, PIXEL)[0, 0])


def test_a_shaft_is_a_hollow_cylinder():
    # 5 % of the marrow is spongy bone.
    assert thickness(SHAFT, y=1.0, x=0.0) == pytest.approx(2 * (0.1 - 0.95 * 0.06), rel=1e-3)
    assert thickness(SHAFT, y=1.0, x=0.08) == pytest.approx(2 * 0.06, rel=1e-3)  # the wall alone: 0.1² - 0.08² = 0.06²
    assert thickness(SHAFT, y=1.0, x=0.101) == 0
    assert thickness(SHAFT, y=2.1, x=0.0) == 0


def test_a_break_moves_the_distal_fragment_alone():
    broken = Bone(**vars(SHAFT) | {"broken": Break(position=0.5, slope=0, roughness=0, gap=0, step=0.5)})
    assert thickness(broken, y=0.8, x=0.02) == thickness(SHAFT, y=0.8, x=0.02)
    assert thickness(broken, y=1.2, x=0.02 + 0.05) == pytest.approx(thickness(SHAFT, y=1.2, x=0.02), rel=1e-4)


@pytest.mark.parametrize(("gap", "fragments"), [(0.4, 0), (-0.4, 2)])
def test_fragments_leave_a_gap_or_overlap(gap, fragments):
    broken = Bone(**vars(SHAFT) | {"broken": Break(position=0.5, slope=0, roughness=0, gap=gap, step=0)})
    between = 1.0 + gap * SHAFT.radius / 2
    assert thickness(broken, y=between, x=0.0) == pytest.approx(fragments * thickness(SHAFT, y=1.0, x=0.0), rel=1e-3)


def test_a_line_takes_away_its_share_within_its_extent():
    line = Line(position=0.5, slope=0, width=0.1, depth=0.4, extent=(-0.5, 9.0))
    lined = Bone(**vars(SHAFT) | {"lines": (line,)})
    assert thickness(lined, y=1.0, x=0.0) == pytest.approx(0.6 * thickness(SHAFT, y=1.0, x=0.0), rel=1e-3)
    assert thickness(lined, y=1.01, x=0.0) == pytest.approx(
        (1 - 0.4 * np.exp(-1)) * thickness(SHAFT, y=1.0, x=0.0), rel=1e-3
    )
    sides = [thickness(lined, y=1.0, x=x) / thickness(SHAFT, y=1.0, x=x) for x in (-0.08, 0.08)]
    assert sorted(sides) == pytest.approx([0.6, 1.0], rel=1e-3)


@pytest.mark.parametrize("mirror", [1, -1])
def test_pixels_and_limb_coordinates_are_inverses(mirror):
    frame = projection.Frame(shape=(60, 40), scale=30.0, angle=0.4, mirror=mirror, aim=(0.1, 0.9))
    x, y = frame.limb_coordinates()
    rows, columns = np.indices(frame.shape)
    np.testing.assert_allclose(
        frame.to_pixels(np.stack([x, y], axis=-1)), np.stack([columns, rows], axis=-1), atol=1e-3
    )
    np.testing.assert_allclose((x[30, 20], y[30, 20]), frame.aim, atol=1e-6)


@pytest.mark.parametrize(
    "part",
    [
        {"flare": (2.5, 1.0)},
        {"bow": 0.2},
        {"bulge": Bulge(0.5, height=2.0, width=1.0)},
        {"broken": Break(position=0.5, slope=0.5, roughness=0.3, gap=0.5, step=3.0)},
    ],
)
def test_windows_cut_nothing_off(part):
    limb = Limb(bones=[Bone((0.0, 0.2), (0.0, 1.1), 0.05, **part)], flesh=[], bends=[Bend(0.65, 0.4, 0.05)])
    frame = projection.Frame(shape=(200, 200), scale=120.0, angle=0.0, mirror=1, aim=(0.0, 0.65))
    x, y = frame.limb_coordinates()
    x -= sideways(limb.bends, y, softness=1e-3 if "broken" in part else None)
    whole = projection._bone(np.random.default_rng(0), limb.bones[0], x, y, 1 / frame.scale)
    np.testing.assert_allclose(projection.skeleton(np.random.default_rng(0), limb, frame), whole, atol=1e-5)


def test_a_bend_leans_what_is_beyond_it():
    y = np.array([-10.0, 0.5, 3.0])
    np.testing.assert_allclose(sideways([Bend(0.5, 0.2, 1e-3)], y), [0.0, 0.0001, 0.5], atol=1e-6)


def test_overlapping_flesh_is_not_added_up():
    part = Bone((0.0, -1.0), (0.0, 3.0), 0.2)
    frame = projection.Frame(shape=(64, 64), scale=60.0, angle=0.0, mirror=1, aim=(0.0, 1.0))
    once, twice = (projection.flesh(Limb([], [part] * n), frame) for n in (1, 2))
    np.testing.assert_array_equal(once, twice)
    assert once[32, 32] == pytest.approx(0.4, rel=0.02)
