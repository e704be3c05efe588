import math

import pytest
import torch
from torch.testing import assert_close

from fracture_mae.training.place_loss import place_loss

LOGIT = torch.tensor([[2.0, -1.0, 0.0, 1.0]])


def softplus(x):
    return math.log1p(math.exp(x))


def loss_of(inside, *, label=1.0, known=True, logit=LOGIT):
    return place_loss(logit, torch.tensor([inside]), torch.tensor([label]), torch.tensor([known])).item()


def test_inside_and_outside_weigh_the_same_however_small_the_box_is():
    by_hand = softplus(-2) / 2 + (softplus(-1) + softplus(0) + softplus(1)) / 3 / 2
    assert loss_of([1.0, 0, 0, 0]) == pytest.approx(by_hand, abs=1e-6)


def test_a_patch_that_is_covered_in_part_is_inside_and_outside_by_these_shares():
    inside = (softplus(-2) + 0.25 * softplus(1)) / 1.25
    outside = (0.75 * softplus(-1) + softplus(0) + softplus(1)) / 2.75
    assert loss_of([1, 0.25, 0, 0]) == pytest.approx((inside + outside) / 2, abs=1e-6)
    # A box within one patch: that one is inside, and hardly outside beside the others.
    outside = (0.9 * softplus(2) + softplus(-1) + softplus(0) + softplus(1)) / 3.9
    assert loss_of([0.1, 0, 0, 0]) == pytest.approx((softplus(-2) + outside) / 2, abs=1e-6)


def test_without_a_fracture_no_patch_is_to_say_fractured():
    by_hand = sum(map(softplus, (2, -1, 0, 1))) / 4
    assert loss_of([0.0] * 4, label=0.0, known=False) == pytest.approx(by_hand, abs=1e-6)


def test_without_boxes_a_fractured_xray_is_left_to_its_label():
    assert loss_of([0.0] * 4, known=False) == 0


def test_a_box_that_is_not_shown_leaves_the_half_of_what_is():
    by_hand = sum(map(softplus, (2, -1, 0, 1))) / 4 / 2
    assert loss_of([0.0] * 4) == pytest.approx(by_hand, abs=1e-6)
    assert loss_of([1.0] * 4) == pytest.approx(sum(map(softplus, (-2, 1, 0, -1))) / 4 / 2, abs=1e-6)


def test_gradients_raise_patches_inside_and_lower_those_outside():
    logit = torch.zeros(3, 4, requires_grad=True)
    inside = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    place_loss(logit, inside, torch.tensor([1.0, 0, 1]), torch.tensor([True, False, False])).sum().backward()
    expected = [[-1 / 4, 1 / 12, 1 / 12, 1 / 12], [1 / 8] * 4, [0] * 4]  # of softplus at 0 the slope is 1/2
    assert_close(logit.grad, torch.tensor(expected))


def test_large_logits_stay_finite():
    logit = torch.tensor([[500.0, -500, 0, 0]], requires_grad=True)
    loss = place_loss(logit, torch.tensor([[0.0, 1, 0, 0]]), torch.tensor([1.0]), torch.tensor([True]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logit.grad).all()
