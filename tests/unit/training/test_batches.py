import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fracture_mae.training import batches
from fracture_mae.training.batches import (
    Ahead,
    ChangedPixels,
    MappedPixels,
    ResidentPixels,
    batch_of,
    gather,
    in_batches,
    pixels_of,
    to_device,
)

CPU = torch.device("cpu")


def test_batches_hold_all_in_order(xrays):
    found = list(in_batches(xrays, 4, CPU, "all"))
    assert [len(batch.label) for batch in found] == [4, 4, 1]
    assert torch.cat([batch.label for batch in found]).tolist() == xrays.label.tolist()
    pixels = torch.cat([batch.pixels for batch in found])
    assert pixels.shape == (9, 1, 32, 32)
    assert_close(pixels[:, 0] * 255, torch.from_numpy(xrays.pixels).float(), rtol=0, atol=1e-4)


def test_no_xrays_are_no_batches(xrays):
    assert list(in_batches(xrays.subset(np.array([], dtype=np.int64)), 4, CPU, "none")) == []


@pytest.mark.parametrize("kind", [MappedPixels, ResidentPixels])
def test_pixels_are_the_same_wherever_they_lie(xrays, kind):
    some = xrays.subset(np.array([8, 2, 5, 0]))
    found = gather(some, kind(some, CPU), np.array([3, 0, 0]), weight=np.array([0.5, 1, 2])).batch()
    assert (found.pixels[:, 0] * 255).round().byte().equal(torch.from_numpy(xrays.pixels[[0, 8, 8]]))
    assert found.label.tolist() == xrays.label[[0, 8, 8]].tolist()
    assert found.weight.tolist() == [0.5, 1, 2]


@pytest.mark.parametrize("kind", [MappedPixels, ResidentPixels])
def test_boxes_stand_by_their_xrays(xrays, kind):
    """Of nine the first has two boxes, the fourth one: both fill the square's other places with no number."""
    texts = ["0 0 0.5 0.5; 0.25 0.5 1 1", "", "", "0.5 0 1 0.25", *[""] * 5]
    some = replace(xrays, table=xrays.table.assign(boxes=texts)).subset(np.array([8, 3, 0]))
    found = gather(some, kind(some, CPU), np.array([2, 0, 1])).batch()
    nan = float("nan")
    expected = [[[0, 0, 0.5, 0.5], [0.25, 0.5, 1, 1]], [[nan] * 4] * 2, [[0.5, 0, 1, 0.25], [nan] * 4]]
    assert_close(found.boxes, torch.tensor(expected), equal_nan=True)
    assert found.boxed.tolist() == [True, False, True]
    assert found.label.tolist() == xrays.label[[0, 8, 3]].tolist()


def test_without_boxes_nothing_is_sent(xrays):
    found = batch_of(xrays, np.arange(3), CPU)
    assert found.boxes.shape == (3, 0, 4)
    assert found.boxed.tolist() == [False] * 3


def test_pixels_are_changed_on_the_way(xrays):
    found = gather(xrays, ChangedPixels(xrays, CPU, lambda images: 255 - images), np.array([3, 0])).batch()
    assert (found.pixels[:, 0] * 255).round().byte().equal(255 - torch.from_numpy(xrays.pixels[[3, 0]]))
    assert found.label.tolist() == xrays.label[[3, 0]].tolist()


class Gpu:
    """Stands for a device that is not there."""

    type = "cuda"


@pytest.mark.parametrize(("free", "resident"), [(4 * 9 * 32 * 32 + 4, True), (4 * 9 * 32 * 32, False)])
def test_pixels_move_to_a_gpu_where_they_take_less_than_a_quarter(xrays, monkeypatch, free, resident):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(batches, "ResidentPixels", lambda some, device: "resident")
    assert (pixels_of(xrays, Gpu()) == "resident") == resident
    assert isinstance(pixels_of(xrays, CPU), MappedPixels)


def test_the_next_is_made_while_the_present_one_is_used():
    making = {number: threading.Event() for number in range(3)}

    def make(number):
        making[number].set()
        return 10 * number

    found = []
    for item, made in Ahead(make, [0, 1, 2]):
        found.append((item, made))
        if item < 2:
            assert making[item + 1].wait(timeout=10)
    assert found == [(0, 0), (1, 10), (2, 20)]


def test_waiting_is_counted_and_using_is_not():
    ahead = Ahead(lambda seconds: time.sleep(seconds), [0.2, 0.0, 0.0])
    for _ in ahead:
        time.sleep(0.05)
    assert 0.15 < ahead.waited < 0.35  # it began a moment before it was waited for


def test_an_error_is_raised_in_its_turn():
    halves = iter(Ahead(lambda number: 1 / number, [2, 1, 0, 5]))
    assert [next(halves), next(halves)] == [(2, 0.5), (1, 1.0)]
    with pytest.raises(ZeroDivisionError):
        next(halves)


def test_nothing_is_made_of_nothing():
    assert list(Ahead(lambda item: item, [])) == []


class Moved(torch.nn.Linear):
    """Made anew by `to`, as weights are that go to another device."""

    def to(self, device):
        self.weight = torch.nn.Parameter(self.weight.detach().clone())
        return self


@torch.inference_mode()
def test_what_is_brought_to_a_device_can_still_be_trained():
    model = to_device(Moved(2, 1), CPU)
    with torch.inference_mode(False):
        model(torch.ones(1, 2)).backward()
    assert model.weight.grad.tolist() == [[1.0, 1.0]]
