"""Training steps recorded as CUDA graphs, which a GPU repeats without waiting for the processor.

A step of a vision transformer is a few thousand kernels. To launch them one by one takes a processor longer than a fast GPU needs
to compute 32 X-rays; to launch them all at once takes it no time.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import nn

from fracture_mae.errors import first_line
from fracture_mae.training.batches import Batch
from fracture_mae.training.step_random import FixedStepRandom, StepRandom

# Adds what X-rays contribute to the gradients; returns what they contribute to the loss. The flag: nothing more comes in this step.
AddGradient = Callable[[Batch, StepRandom, bool], torch.Tensor]
_WARM_UP = 3  # rounds after which libraries have chosen their kernels and allocated what they keep

logger = logging.getLogger(__name__)


class Recorded:
    """Does what `add_gradient` does, by a recording: one for each size of batch, made when the first of that size comes.

    A step must be a single call, and gradients None before it: a recording does not add to them, it replaces them.

    Args:
        add_gradient: asks its random numbers for the same shapes each time, and never waits for the GPU.
        parameters: whose gradients it computes.

    Attributes:
        is_possible: False once it was found that recording fails; then all is computed unrecorded.
    """

    def __init__(self, add_gradient: AddGradient, parameters: Sequence[nn.Parameter]):
        self._add_gradient = add_gradient
        self._parameters = parameters
        self._recordings: dict[int, _Recording] = {}
        self.is_possible = True

    def __call__(self, batch: Batch, step_random: StepRandom, is_last: bool = True) -> torch.Tensor:
        if not self.is_possible:
            return self._add_gradient(batch, step_random, is_last)
        size = len(batch.pixels)
        if size not in self._recordings:
            return self._first(size, batch, step_random)
        self._recordings[size].fill(batch, step_random)
        return self._recordings[size].replay()

    def _first(self, size: int, batch: Batch, step_random: StepRandom) -> torch.Tensor:
        recording = _Recording(self._add_gradient, self._parameters, batch)
        recording.fill(batch, step_random)
        recording.warm_up()
        try:
            recording.record()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # such as a model that waits for the GPU
            why = first_line(error)
            logger.warning("steps cannot be recorded as a CUDA graph (%s): training goes on without it.", why)
            self.is_possible = False
            self._recordings.clear()
            return recording.compute()
        self._recordings[size] = recording
        return recording.replay()


class _Recording:
    """Of one size of batch; what it reads and writes stays where it is."""

    def __init__(self, add_gradient: AddGradient, parameters: Sequence[nn.Parameter], like: Batch):
        self._add_gradient = add_gradient
        self._parameters = parameters
        self._batch = Batch(*(torch.empty_like(part) for part in (like.pixels, like.label, like.weight, like.boxes)))
        self._draws = FixedStepRandom()
        self._graph = torch.cuda.CUDAGraph()

    def fill(self, batch: Batch, step_random: StepRandom) -> None:
        """What to compute next."""
        self._batch.pixels.copy_(batch.pixels, non_blocking=True)
        self._batch.label.copy_(batch.label, non_blocking=True)
        self._batch.weight.copy_(batch.weight, non_blocking=True)
        self._batch.boxes.copy_(batch.boxes, non_blocking=True)
        self._draws.refill(step_random)

    def compute(self) -> torch.Tensor:
        """The gradients, and the loss, unrecorded."""
        self._forget_gradients()
        self._draws.rewind()
        return self._add_gradient(self._batch, self._draws, True)

    def warm_up(self) -> None:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self.compute()
        torch.cuda.current_stream().wait_stream(beside)
        self._forget_gradients()

    def record(self) -> None:
        with torch.cuda.graph(self._graph):
            self._loss = self.compute()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def replay(self) -> torch.Tensor:
        """The gradients, and the loss, recorded."""
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss.clone()

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
