import pytest
import torch
from torch.testing import assert_close

from fracture_mae.models.pixels import to_unit
from fracture_mae.training.augmentation import Augment
from fracture_mae.training.step_random import StepRandom

RAND = torch.rand  # itself, where a test has fixed all draws


def random_pixels(n=4, side=16):
    return RAND(n, 1, side, side, generator=torch.Generator().manual_seed(7))


def change(augment, pixels, seed=0):
    return augment(pixels, StepRandom(seed, len(pixels)))


@pytest.fixture
def draw(monkeypatch):
    """Let every uniform draw in [0, 1) be one value."""

    def fix(value):
        monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.full(size, value))

    return fix


ALL = Augment(crop_scale=0.5, rotation=20, flip=True, intensity=0.3)


def test_nothing_asked_nothing_changed():
    assert change(Augment(), random_pixels()).equal(random_pixels())


def test_a_turn_by_nothing_neither_blurs_nor_shifts(draw):
    draw(0.5)  # halfway from -90 to 90 degrees
    assert_close(change(Augment(rotation=90), random_pixels()), random_pixels())


def test_mirroring():
    pixels = random_pixels(400)
    mirrored = change(Augment(flip=True), pixels)
    is_mirrored = torch.isclose(mirrored, pixels.flip(3), atol=1e-5).all(dim=(1, 2, 3))
    is_same = torch.isclose(mirrored, pixels, atol=1e-5).all(dim=(1, 2, 3))
    assert (is_mirrored ^ is_same).all()
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)  # 4 standard deviations


@pytest.mark.parametrize(("value", "quarter_turns"), [(1.0, 1), (0.0, -1)])
def test_a_quarter_turn(draw, value, quarter_turns):
    draw(value)
    turned = change(Augment(rotation=90), random_pixels())
    assert_close(turned, random_pixels().rot90(quarter_turns, dims=(2, 3)), rtol=0, atol=1e-5)


def test_a_mirrored_picture_is_turned_whole(draw):
    draw(0.0)
    changed = change(Augment(rotation=90, flip=True), random_pixels())
    assert_close(changed, random_pixels().rot90(-1, dims=(2, 3)).flip(3), rtol=0, atol=1e-5)


def test_turns_reach_the_limit_and_stop_there():
    """A dot to the right of the centre travels on a circle."""
    pixels = torch.zeros(500, 1, 65, 65)
    pixels[:, :, 31:34, 55:58] = 1
    weight = change(Augment(rotation=30), pixels).squeeze(1)
    axis = torch.arange(65.0) - 32
    y, x = ((weight * place).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)) for place in (axis[:, None], axis[None]))
    angle = torch.atan2(y, x).rad2deg()
    assert_close(torch.hypot(x, y), torch.full((500,), 24.0), rtol=0, atol=0.2)
    assert 29 < angle.max() < 30.5
    assert -30.5 < angle.min() < -29
    assert angle.mean().item() == pytest.approx(0, abs=3)  # 4 standard deviations of 30 / sqrt(3 · 500)


def test_a_crop_stays_inside_and_keeps_its_share():
    """On a ramp of 0.2 … 0.8 from left to right and another from top to bottom, the crop's limits can be read off."""
    ramp = torch.linspace(0.2, 0.8, 32)
    for pixels in (ramp.expand(300, 1, 32, 32), ramp[:, None].expand(300, 1, 32, 32)):
        cropped = change(Augment(crop_scale=0.25), pixels)
        assert cropped.min() >= 0.2 - 1e-5  # black would be 0
        assert cropped.max() <= 0.8 + 1e-5
        side = (cropped.amax(dim=(1, 2, 3)) - cropped.amin(dim=(1, 2, 3))) / 0.6
        assert 0.47 < side.min() < 0.56  # a quarter of the area is half the side
        assert 0.94 < side.max() < 1 + 1e-5
        assert cropped.amin(dim=(1, 2, 3)).min() < 0.22  # crops reach both edges
        assert cropped.amax(dim=(1, 2, 3)).max() > 0.78


def test_each_picture_has_its_own_draw_and_the_seed_decides():
    pixels = random_pixels(1).expand(8, -1, -1, -1)
    first = change(ALL, pixels, 1)
    assert first.shape == pixels.shape
    assert first.equal(change(ALL, pixels, 1))
    assert not first.equal(change(ALL, pixels, 2))
    assert all(not first[i].equal(first[j]) for i in range(8) for j in range(i))


def test_where_each_place_was_before(draw):
    """A dot in the right half, above the middle, is turned clockwise by a quarter: it comes to lie below, right of the middle."""
    draw(0.0)
    pixels = torch.zeros(1, 1, 16, 16)
    pixels[0, 0, 4, 14] = 1  # its centre: x = 14.5 / 8 - 1 = 0.8125, y = 4.5 / 8 - 1 = -0.4375
    moved, affine = Augment(rotation=90).moved(pixels, StepRandom(0, 1))
    assert moved[0, 0].nonzero().tolist() == [[14, 11]]
    assert_close(affine[0], torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]), rtol=0, atol=1e-6)
    assert_close(affine[0] @ torch.tensor([0.4375, 0.8125, 1.0]), torch.tensor([0.8125, -0.4375]))


def test_pixels_follow_the_affine_that_comes_with_them():
    """Two ramps, whose grey tells where a pixel was."""
    ramp = torch.linspace(0, 1, 64).expand(20, 1, 64, 64)
    augment = Augment(crop_scale=0.3, rotation=20, flip=True)
    for pixels, row in ((ramp, 0), (ramp.mT, 1)):
        moved, affine = augment.moved(pixels, StepRandom(3, 20))
        centre = moved[:, 0, 31:33, 31:33].mean(dim=(1, 2))  # output (0, 0), which comes from the affine's last column
        assert_close(centre, 0.5 + affine[:, row, 2] / 2 * 64 / 63, rtol=0, atol=1e-4)


def test_pixels_are_the_same_with_and_without_the_affine():
    moved, affine = ALL.moved(random_pixels(), StepRandom(5, 4))
    assert moved.equal(change(ALL, random_pixels(), 5))
    assert affine.shape == (4, 2, 3)


@pytest.mark.parametrize("augment", [Augment(), Augment(intensity=1.0)])
def test_nothing_moved_is_the_identity(augment):
    _, affine = augment.moved(random_pixels(), StepRandom(0, 4))
    assert affine.equal(torch.eye(2, 3).expand(4, 2, 3))


def test_intensity_stays_in_range_and_leaves_places_alone():
    pixels = random_pixels(200)
    changed = change(Augment(intensity=1.0), pixels)
    assert changed.min() >= 0
    assert changed.max() <= 1
    order = pixels.flatten(1).argsort(dim=1)
    assert (changed.flatten(1).gather(1, order).diff(dim=1) >= 0).all()  # brighter stays brighter


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # γ = 2, contrast 2, brightness +0.2: 0.25 and 0.75 → 0.0625 and 0.5625, mean 0.3125 → -0.1875 and 0.8125, + 0.2
        (1.0, [0.0125, 1.0]),
        (0.5, [0.25, 0.75]),  # none of it
        # γ = 1/2, contrast 1/2, brightness -0.2: 0.5 and 0.866025, mean 0.683013 → 0.591506 and 0.774519, - 0.2
        (0.0, [0.391506, 0.574519]),
    ],
)
def test_intensity_by_hand(draw, value, expected):
    draw(value)
    pixels = torch.tensor([0.25, 0.75]).view(1, 1, 1, 2)
    assert_close(change(Augment(intensity=1.0), pixels).flatten(), torch.tensor(expected), rtol=0, atol=1e-5)


def test_to_unit():
    grey = to_unit(torch.tensor([[[0, 51, 255]]], dtype=torch.uint8))
    assert grey.shape == (1, 1, 1, 3)
    assert_close(grey.flatten(), torch.tensor([0.0, 0.2, 1.0]))
