"""What tells of a source changes, what tells of a bone stays."""

import cv2
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from torch.testing import assert_close

from fracture_mae.config import FinetuneMae
from fracture_mae.data.synthetic import xray
from fracture_mae.evaluation import properties
from fracture_mae.models.pixels import to_unit
from fracture_mae.processes import ranks
from fracture_mae.training.augmentation import Augment
from fracture_mae.training.source_augmentation import changes, detail, frames, marks, tones
from fracture_mae.training.source_augmentation.changes import CHANGES, SourceAugmentation
from fracture_mae.training.source_augmentation.placement import after, placed, sampled
from fracture_mae.training.step_random import StepRandom
from tests import builders

SIDE = 64
CENTRE = np.s_[20:44, 20:44]
CPU = torch.device("cpu")


def letterboxed(picture):
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    height, width = picture.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas


@pytest.fixture(scope="module")
def pictures():
    """uint8 [40, 64, 64], half of them fractured."""
    rng = np.random.default_rng(0)
    return np.stack([letterboxed(xray.xray(rng, fractured=bool(i % 2), size=SIDE)) for i in range(40)])


@pytest.fixture(scope="module")
def marked(pictures):
    """The first of them with a white letter in its upper left corner."""
    return cv2.putText(pictures[1].copy(), "L", (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255)


def draws(change, picture, n=200, strength=1.0):
    return np.stack([change(picture, np.random.default_rng([5, i]), strength) for i in range(n)])


def within(count, n, chance):
    """Whether a count of n is what a chance leads to, but for one time in a hundred thousand."""
    low, high = stats.binom.interval(1 - 1e-5, n, chance)
    return low <= count <= high


@pytest.mark.parametrize("side", [32, 64, 100])
def test_shape_and_type_stay_and_the_originals_too(pictures, side):
    small = np.stack([cv2.resize(picture, (side, side)) for picture in pictures[:8]])
    before = small.copy()
    for seed in range(10):
        changed = SourceAugmentation(1.0)(small, seed, np.arange(8))
        assert (changed.shape, changed.dtype) == (small.shape, np.uint8)
    np.testing.assert_array_equal(small, before)


def test_pictures_of_one_grey_come_through():
    for grey in (0, 128, 255):
        for seed in range(20):
            SourceAugmentation(1.0)(np.full((4, SIDE, SIDE), grey, np.uint8), seed, np.arange(4))


def test_chance_hangs_on_the_seed_and_the_place_in_the_step_alone(pictures):
    whole = SourceAugmentation(1.0)(pictures[:8], 3, np.arange(8))
    shares = [
        SourceAugmentation(1.0)(pictures[rows], 3, rows) for rows in (np.arange(5), np.array([5, 6]), np.array([7, 7]))
    ]
    np.testing.assert_array_equal(np.concatenate(shares)[:8], whole)
    np.testing.assert_array_equal(shares[2][0], shares[2][1])  # one that fills up
    np.testing.assert_array_equal(SourceAugmentation(1.0, n_threads=3)(pictures[:8], 3, np.arange(8)), whole)
    assert (SourceAugmentation(1.0)(pictures[:8], 4, np.arange(8)) != whole).any(axis=(1, 2)).all()
    same = SourceAugmentation(1.0)(np.repeat(pictures[:1], 8, axis=0), 3, np.arange(8))
    assert len(np.unique(same, axis=0)) == 8


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("number", range(len(CHANGES)), ids=lambda number: CHANGES[number][0].__name__)
def test_each_change_comes_as_often_as_it_should(monkeypatch, number, strength):
    change, chance = CHANGES[number]
    seen = []

    def counted(picture, rng, given):
        seen.append(given)
        return picture

    kinds = tuple((counted if each is change else lambda picture, *_: picture, p) for each, p in CHANGES)
    monkeypatch.setattr(changes, "CHANGES", kinds)
    SourceAugmentation(strength)(np.zeros((1000, 8, 8), np.uint8), 0, np.arange(1000))
    assert within(len(seen), 1000, strength * chance)
    assert set(seen) == {strength}


def test_a_quarter_is_negative_at_full_strength(pictures):
    """The rank correlation with the original tells: no other change turns more than a little of the picture over."""
    changed = SourceAugmentation(1.0)(np.repeat(pictures[:10], 40, axis=0), 1, np.arange(400))
    before = np.repeat(pictures[:10], 40, axis=0)
    turned = [
        stats.spearmanr(x[CENTRE].ravel(), y[CENTRE].ravel()).statistic < 0
        for x, y in zip(before, changed, strict=True)
    ]
    assert within(sum(turned), 400, 0.25)


@pytest.mark.parametrize("change", [change for change, _ in CHANGES], ids=lambda change: change.__name__)
def test_each_change_really_changes(marked, change):
    is_changed = (draws(change, marked) != marked).any(axis=(1, 2))
    assert is_changed.mean() > 0.95


@pytest.mark.parametrize("change", [tones.contrast_curve, tones.gamma, tones.negative])
def test_what_is_of_one_grey_stays_of_one(pictures, change):
    """Rising for all but the negative, so that an edge stays an edge."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    sign = -1 if change is tones.negative else 1
    assert (sign * np.diff(draws(change, ramp).reshape(200, 256).astype(int), axis=1) >= 0).all()


def test_curves_reach_both_sides_of_the_straight_line():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    middle = draws(tones.contrast_curve, ramp)[:, 8, 0]
    assert middle.min() < 80 < 180 < middle.max()


def test_sharpness_goes_both_ways(pictures):
    detail_of = lambda picture: np.abs(cv2.Laplacian(picture, cv2.CV_32F)).mean()  # noqa: E731
    found = [detail_of(each) / detail_of(pictures[0]) for each in draws(detail.sharpness, pictures[0])]
    assert min(found) < 0.7
    assert max(found) > 1.5


def test_film_by_hand():
    picture = np.full((20, 20), 255, np.uint8)
    picture[4:15, 6:18] = np.arange(12) * 20
    assert frames.film(picture) == (slice(4, 15), slice(6, 18))
    assert frames.film(np.full((20, 20), 7, np.uint8)) == (slice(0, 20), slice(0, 20))


def test_a_frame_covers_the_bars_and_leaves_the_middle():
    """Bars left and right of a film of stripes."""
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[:, 12:52] = 100 + 50 * (np.arange(SIDE) % 2)[:, None]
    picture[:, 12:52:2] -= 20
    framed = draws(frames.frame, picture, 300)
    assert (framed[:, 16:48, 24:40] == picture[16:48, 24:40]).all()
    bars = framed[:, 20:44, :10].reshape(300, -1)
    corners = bars[:, 0]
    assert (np.ptp(bars, axis=1) == 0).mean() > 0.6  # the others have a second line, or were turned
    assert all(within((corners == grey).sum(), 300, 1 / 3) for grey in (0, 255))


@pytest.mark.parametrize("side", [32, 64, 224])
def test_marks_cover_no_more_than_a_tenth(side):
    plain = np.full((side, side), 100, np.uint8)
    covered = (draws(marks.paint_in, plain) != plain).mean(axis=(1, 2))
    assert covered.min() > 0
    assert covered.max() < 0.1


def test_a_letter_near_the_border_is_painted_out_and_nothing_else(marked, pictures):
    painted = draws(marks.paint_out, marked, 20)
    assert marked[3:16, 2:12].max() == 255
    assert painted[:, 3:16, 2:12].max() < 150
    assert (painted[:, 20:44, 20:44] == marked[CENTRE]).all()


def edges(picture):
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float32)
    return np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))[CENTRE].ravel()


@pytest.mark.parametrize(("strength", "at_least", "in_most"), [(0.5, 0.7, 0.95), (1.0, 0.5, 0.9)])
def test_the_bone_can_still_be_read(pictures, strength, at_least, in_most):
    """The edges in the middle are where they were: correlation of the length of the gradient."""
    before = np.repeat(pictures, 5, axis=0)
    changed = SourceAugmentation(strength)(before, 2, np.arange(200))
    found = [np.corrcoef(edges(x), edges(y))[0, 1] for x, y in zip(before, changed, strict=True)]
    assert np.mean(np.array(found) > at_least) > in_most


def auroc_of_properties(pictures, label):
    """Of a forest, out of fold, on what the pixels tell without the bone."""
    xrays = builders.xrays("toy", label)
    toy = type(xrays)(xrays.name, xrays.table, pictures, np.arange(len(label)))
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    chance = cross_val_predict(forest, properties.visible(toy), label, cv=5, method="predict_proba")[:, 1]
    return roc_auc_score(label, chance)


def framed(picture):
    return cv2.rectangle(picture.copy(), (0, 0), (SIDE - 1, SIDE - 1), 255, 3)


def poor_jpeg(picture):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 15])[1], cv2.IMREAD_GRAYSCALE)


def test_a_source_that_told_the_label_tells_it_no_more(pictures):
    """All fractured ones have a white frame and came as poor JPEG files; the usual augmentation leaves that to be seen."""
    label = np.tile([0, 1], 200)
    sources = zip(np.repeat(pictures, 10, axis=0), label, strict=True)
    toy = np.stack([poor_jpeg(framed(picture)) if fractured else picture for picture, fractured in sources])
    changed = SourceAugmentation(1.0)(toy, 0, np.arange(400))

    def after_moving(images, source_augmentation):
        augment = Augment(0.5, rotation=20, flip=True, intensity=0.3, source_augmentation=source_augmentation)
        moved = augment(to_unit(torch.from_numpy(images)), StepRandom(0, 400))
        return auroc_of_properties((moved[:, 0] * 255).round().byte().numpy(), label)

    assert auroc_of_properties(toy, label) > 0.97
    assert after_moving(toy, 0.0) > 0.85
    assert after_moving(changed, 1.0) < 0.7


def test_strength_by_the_config(monkeypatch):
    assert SourceAugmentation.of(FinetuneMae(), CPU) is None
    assert SourceAugmentation.of(FinetuneMae(recipe="robust"), CPU) == SourceAugmentation(0.5)
    monkeypatch.setattr(changes.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    found = SourceAugmentation.of(FinetuneMae(source_augmentation=1), torch.device("cuda"))
    assert found == SourceAugmentation(1.0, n_threads=3)


IDENTITY = torch.eye(2, 3).expand(1, 2, 3)


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [
        ([0.9, 0.9, 0.9, 1, 1, 1, 0.5, 0.5], [[1, 0, 0], [0, 1, 0]]),  # all coins say no
        ([0, 0.9, 0.9, 1, 1, 1, 1, 0.5], [[1.6, 0, 0.6], [0, 1.6, 0]]),  # smallest; its left edge is at the picture's
        ([0.9, 0, 0.9, 1, 1, 1, 0.5, 0.5], [[1.4, 0, 0], [0, 1, 0]]),  # narrowest
        ([0.9, 0, 0.9, 1, 0, 1, 0.5, 0.5], [[1, 0, 0], [0, 1.4, 0]]),  # lowest
        ([0.9, 0.9, 0, 1, 1, 1, 0.5, 0.5], [[0, -1, 0], [1, 0, 0]]),  # a quarter turn
        ([0, 0, 0, 1, 1, 1, 0.5, 0.5], [[0, -2.24, 0], [1.6, 0, 0]]),
    ],
)
def test_placing_by_hand(uniform, expected):
    assert_close(placed(torch.tensor([uniform]), 1.0), torch.tensor([expected], dtype=torch.float32), rtol=0, atol=1e-5)


def test_the_whole_film_stays_in_the_picture_unless_it_is_turned():
    affine = placed(torch.rand(500, 8).index_fill(1, torch.tensor([2]), 0.99), 1.0)
    side, shift = affine[:, :, :2].diagonal(dim1=1, dim2=2), affine[:, :, 2]
    for edge in (-1, 1):
        assert (((edge - shift) / side).abs() <= 1 + 1e-5).all()


def test_one_map_after_another_by_hand():
    """Twice as far out, then a shift by 0.1 and a mirror: output 0.4 → 0.8 → -0.7."""
    first, second = torch.tensor([[[2.0, 0, 0], [0, 2, 0]]]), torch.tensor([[[-1.0, 0, 0.1], [0, 1, 0]]])
    found = after(first, second) @ torch.tensor([0.4, 0.4, 1.0])
    assert_close(found, torch.tensor([[-0.7, 0.8]]))


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [
        ([0.0, 0.1, 0.6], [0, 0.25, 0.75, 0]),
        ([0.0, 0.3, 0.6], [1, 0.25, 0.75, 1]),
        ([0.0, 0.6, 0.6], [0.6, 0.25, 0.75, 0.6]),
        ([0.0, 0.9, 0.6], [0.25, 0.25, 0.75, 0.75]),
        ([0.7, 0.3, 0.6], [0, 0.25, 0.75, 0]),  # the coin leaves black
    ],
)
def test_surroundings_by_hand(uniform, expected):
    """A picture of two columns shown half as large, so that one column lies outside of it on either side."""
    pixels = torch.tensor([0.25, 0.75]).expand(1, 1, 4, 2).repeat_interleave(2, dim=3)
    smaller = torch.tensor([[[2.0, 0, 0], [0, 1, 0]]])
    found = sampled(pixels, smaller, torch.tensor([uniform]), 0.5)
    assert_close(found, torch.tensor(expected).expand(1, 1, 4, 4))


def test_pixels_follow_the_affine_that_comes_with_them():
    ramp = torch.linspace(0, 1, SIDE).expand(200, 1, SIDE, SIDE)
    augment = Augment(crop_scale=0.5, rotation=20, flip=True, source_augmentation=1.0)
    for pixels, row in ((ramp, 0), (ramp.mT, 1)):
        moved, affine = augment.moved(pixels, StepRandom(3, 200))
        centre = moved[:, 0, 31:33, 31:33].mean(dim=(1, 2))
        well_inside = affine[:, :, 2].abs().amax(dim=1) < 0.9
        assert well_inside.sum() > 100
        expected = 0.5 + affine[:, row, 2] / 2 * SIDE / (SIDE - 1)
        assert_close(centre[well_inside], expected[well_inside], rtol=0, atol=1e-4)


def test_placing_is_the_same_for_each_share_of_a_step(pictures):
    pixels, augment = to_unit(torch.from_numpy(pictures[:8])), Augment(source_augmentation=1.0)
    whole = augment(pixels, StepRandom(4, 8))
    rows = np.array([6, 2])
    assert augment(pixels[rows], StepRandom(4, 8, rows)).equal(whole[rows])
    assert (whole != pixels).flatten(1).any(dim=1).sum() >= 4
