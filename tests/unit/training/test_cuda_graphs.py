"""What a recording is used for, with one that is none: it computes anew what it is asked to repeat. Real ones: tests/test_gpu.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fracture_mae.config import FinetuneMae
from fracture_mae.training import cuda_graphs
from fracture_mae.training.batches import batch_of
from fracture_mae.training.cuda_graphs import Recorded, _Recording
from fracture_mae.training.patch_labels import patch_labels
from fracture_mae.training.step_random import FixedStepRandom, StepRandom
from fracture_mae.training.trainer import Trainer
from tests.unit.training import shared_training

CPU = torch.device("cpu")


class Recording:
    """Stands for one on a GPU."""

    made: list["Recording"]
    error: Exception | None = None

    def __init__(self, add_gradient, parameters, like):
        self.add_gradient, self.parameters, self.size = add_gradient, parameters, len(like.pixels)
        self.step_random = FixedStepRandom()
        Recording.made.append(self)

    def fill(self, batch, step_random):
        self.batch = batch
        self.step_random.refill(step_random)

    def compute(self):
        self.step_random.rewind()
        return self.add_gradient(self.batch, self.step_random, True)

    replay = compute

    def warm_up(self):
        self.compute()
        for parameter in self.parameters:
            parameter.grad = None

    def record(self):
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def recording(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_Recording", Recording)
    monkeypatch.setattr(Recording, "made", [], raising=False)
    return Recording


def total(batch, step_random, is_last):
    """Hangs on the batch, its weights and the draws."""
    assert is_last
    return (batch.pixels.mean(dim=(1, 2, 3)) * step_random.uniform() * batch.weight).sum()


def batches(xrays):
    """Of sizes 4, 3, 4, 3, and the draws of each."""
    for seed, size in enumerate((4, 3, 4, 3)):
        batch = batch_of(xrays, np.arange(size) + seed, CPU, weight=np.arange(1.0, size + 1))
        yield seed, size, batch


def test_all_of_a_batch_is_filled_in(xrays, monkeypatch):
    """Pixels, label, weight and boxes of the batch at hand, not of the one that the places were made for."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    boxed = replace(xrays, table=xrays.table.assign(boxes=["0 0 1 0.5", "", "0.5 0 1 1; 0 0 0.25 1", *["0 0 1 1"] * 6]))

    def sums(batch, step_random, is_last):
        labels = patch_labels(batch.boxes, None, (4, 4)).sum(dim=1)
        return torch.stack([batch.pixels.sum(dim=(1, 2, 3)), batch.label, batch.weight, labels])

    first, second = (batch_of(boxed, np.arange(3) + start, CPU, weight=start + 0.5) for start in (3, 0))
    recording = _Recording(sums, [], first)
    recording.fill(second, StepRandom(0, 3))
    assert recording.compute().equal(sums(second, None, True))
    assert recording.compute()[3].tolist() == [8, 0, 12]


def test_each_size_of_batch_is_recorded_once_and_all_are_as_computed(xrays):
    recorded = Recorded(total, [])
    for seed, size, batch in batches(xrays):
        expected = total(batch, StepRandom(seed, size), True)
        assert recorded(batch, StepRandom(seed, size), True).item() == pytest.approx(expected.item(), rel=1e-6)
    assert [each.size for each in Recording.made] == [4, 3]
    assert recorded.is_possible


def test_where_recording_fails_all_is_computed_with_the_same_draws_and_it_is_said_once(xrays, monkeypatch, caplog):
    monkeypatch.setattr(Recording, "error", RuntimeError("operation not permitted when stream is capturing.\nmore"))
    recorded = Recorded(total, [])
    for seed, size, batch in batches(xrays):
        expected = total(batch, StepRandom(seed, size), True)
        assert recorded(batch, StepRandom(seed, size), True).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not recorded.is_possible
    reason = "operation not permitted when stream is capturing"
    assert caplog.messages == [f"steps cannot be recorded as a CUDA graph ({reason}): training goes on without it."]


def test_too_little_memory_is_no_reason_to_go_on(xrays, monkeypatch):
    monkeypatch.setattr(Recording, "error", torch.OutOfMemoryError())
    with pytest.raises(torch.OutOfMemoryError):
        Recorded(total, [])(batch_of(xrays, np.arange(4), CPU), StepRandom(0, 4), True)


@pytest.mark.parametrize(("batch_size", "size"), [(4, 3), (5, 5), (7, 5)])
def test_a_training_by_recordings_has_the_losses_of_another(accelerator, tmp_path, monkeypatch, batch_size, size):
    """Nine files in steps of three, or of five and four; the latter are filled up."""
    config = FinetuneMae(batch_size=batch_size, epochs=2, rotation=10, attention="sdpa", compile=False)
    expected = shared_training.train(config, tmp_path / "plain", accelerator)
    assert not Recording.made
    monkeypatch.setattr(Trainer, "_records", True)
    found = shared_training.train(config, tmp_path / "recorded", accelerator)
    assert [each.size for each in Recording.made] == [size]
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("train/loss", "validation/masked_mse"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
