import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from fracture_mae.training.augmentation import Augment
from fracture_mae.training.patch_labels import patch_labels
from fracture_mae.training.step_random import StepRandom

NONE = [math.nan] * 4
QUARTERS = (4, 4)


def boxes_of(*boxes):
    """One X-ray's."""
    return torch.tensor([boxes], dtype=torch.float32)


def on_grid(labels, grid=QUARTERS):
    return labels.view(*grid).tolist()


def affine_of(*rows):
    return torch.tensor([rows], dtype=torch.float32)


# A quarter wide and half as high, in the second column: the whole second patch of the second row, half of the third's.
BOX = [0.25, 0.25, 0.5, 0.625]
AS_STORED = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0]]
IDENTITY = [[1, 0, 0], [0, 1, 0]]


def test_a_patch_counts_by_the_share_of_it_that_is_inside():
    assert on_grid(patch_labels(boxes_of(BOX), None, QUARTERS)) == AS_STORED
    assert on_grid(patch_labels(boxes_of(BOX), affine_of(*IDENTITY), QUARTERS)) == AS_STORED


def test_rows_and_columns_may_differ():
    assert on_grid(patch_labels(boxes_of([0, 0.5, 0.25, 1]), None, (2, 4)), (2, 4)) == [[0, 0, 0, 0], [1, 0, 0, 0]]


def test_what_two_boxes_share_counts_once():
    labels = patch_labels(boxes_of([0, 0, 0.5, 0.25], [0.25, 0, 0.75, 0.25], NONE), None, QUARTERS)
    assert on_grid(labels)[0] == [1, 1, 1, 0]
    assert labels.sum() == 3


def test_no_box_is_no_patch():
    assert not patch_labels(boxes_of(NONE, NONE), None, QUARTERS).any()
    none = patch_labels(torch.empty(3, 0, 4), torch.eye(2, 3).expand(3, 2, 3), (2, 3))
    assert none.shape == (3, 6)
    assert not none.any()


def test_mirrored():
    labels = patch_labels(boxes_of(BOX), affine_of([-1, 0, 0], [0, 1, 0]), QUARTERS)
    assert on_grid(labels) == [row[::-1] for row in AS_STORED]


def test_cropped_to_the_lower_left_quarter():
    """x from 0 to 1/2, y from 1/2 to 1: of the box x 1/4 … 1/2, y 1/2 … 5/8 is left, which is 1/2 … 1 and 0 … 1/4 of the crop."""
    labels = patch_labels(boxes_of(BOX), affine_of([0.5, 0, -0.5], [0, 0.5, 0.5]), QUARTERS)
    assert on_grid(labels) == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_quarter_turn():
    """What is shown at (x, y) was stored at (y, -x): the box, left of the centre and above it, goes to the right of it and above."""
    labels = patch_labels(boxes_of(BOX), affine_of([0, 1, 0], [-1, 0, 0]), QUARTERS)
    assert on_grid(labels) == torch.tensor(AS_STORED).rot90(-1).tolist()


def test_turned_by_thirty_degrees_by_hand():
    """A band through the centre, turned: inside are patches whose centre is nearer than 0.2 half sides to a line that rises by 30°."""
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turned = affine_of([cos, -sin, 0], [sin, cos, 0])
    labels = patch_labels(boxes_of([-9, 0.4, 9, 0.6]), turned, (10, 10), points=1)
    assert on_grid(labels, (10, 10)) == [
        [float(-0.2 <= sin * x + cos * y < 0.2) for x in np.arange(-0.9, 1, 0.2)] for y in np.arange(-0.9, 1, 0.2)
    ]


def test_corners_that_a_turn_lays_bare_are_in_no_box():
    """The whole picture is a box: turned by 45 degrees, the square's corners show nothing, its middle all."""
    half = math.sqrt(0.5)
    labels = patch_labels(boxes_of([0, 0, 1, 1]), affine_of([half, -half, 0], [half, half, 0]), (8, 8)).view(8, 8)
    assert labels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    assert labels[2:-2, 2:-2].eq(1).all()


def test_places_are_as_exact_under_autocast():
    affine = torch.tensor([[[0.8, -0.3, 0.05], [0.3, 0.8, -0.04]]])
    boxes = boxes_of([0.31, 0.28, 0.57, 0.66])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = patch_labels(boxes, affine, (14, 14))
    assert rounded.dtype == torch.float32
    assert_close(rounded, patch_labels(boxes, affine, (14, 14)), rtol=0, atol=0)


SIDE, GRID = 112, (7, 7)  # patches of 16 pixels


def painted(boxes):
    """X-rays [B, 1, SIDE, SIDE], black but for their boxes."""
    centre = (torch.arange(SIDE) + 0.5) / SIDE
    pixels = torch.zeros(len(boxes), 1, SIDE, SIDE)
    for picture, own in zip(pixels, boxes, strict=True):
        for left, top, right, bottom in own:
            columns, rows = (centre >= left) & (centre < right), (centre >= top) & (centre < bottom)
            picture[0, rows[:, None] & columns] = 1
    return pixels


edge = st.integers(0, SIDE)


@st.composite
def box(draw):
    """With edges on pixels, so that the painted box is the very box."""
    x, y = (sorted(draw(st.tuples(edge, edge).filter(lambda ends: ends[0] != ends[1]))) for _ in "xy")
    return [x[0] / SIDE, y[0] / SIDE, x[1] / SIDE, y[1] / SIDE]


augmentations = st.builds(
    Augment, crop_scale=st.floats(0.2, 1), rotation=st.sampled_from([0, 20, 90, 180]), flip=st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(box(), min_size=1, max_size=3), augmentations, st.integers(0, 2**31))
def test_labels_follow_what_is_seen(boxes, augment, seed):
    """Boxes painted white and augmented as pictures are: each patch is as white as its label says."""
    boxes = torch.tensor([boxes] * 4)
    pixels, affine = augment.moved(painted(boxes), StepRandom(seed, 4))
    white = F.avg_pool2d(pixels, SIDE // GRID[0]).flatten(1)
    assert_close(patch_labels(boxes, affine, GRID, points=16), white, rtol=0, atol=0.08)
    coarse = (patch_labels(boxes, affine, GRID) - white).abs()
    assert coarse.max() <= 0.3  # an edge may lie anywhere between two rows of four
    assert coarse.mean() <= 0.05


@pytest.mark.parametrize("rotation", [0, 20])
def test_labels_of_many_xrays_agree_on_average(rotation):
    """No shift to any side: over many draws the coarse labels are neither more nor less than what is seen."""
    rng = np.random.default_rng(rotation)
    boxes = torch.tensor(np.sort(rng.integers(0, SIDE + 1, (200, 2, 2)), axis=1).reshape(200, 1, 4) / SIDE).float()
    pixels, affine = Augment(0.5, rotation, flip=True).moved(painted(boxes), StepRandom(3, 200))
    white = F.avg_pool2d(pixels, SIDE // GRID[0]).flatten(1)
    found = patch_labels(boxes, affine, GRID)
    assert found.mean().item() == pytest.approx(white.mean().item(), rel=0.02)
    assert (found - white).abs().mean() < 0.02
