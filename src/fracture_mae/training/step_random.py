"""Chance for the X-rays of a training step, the same however the step is shared out over parts and processes."""

import numpy as np
import torch

from fracture_mae.training.sending import sent


class StepRandom:
    """Uniform random numbers, of which an X-ray's own hang on the seed and on its place in the whole step alone.

    Numbers are drawn for the whole step, and those of the rows at hand are given out: who computes only some rows finds
    what one process that computes all would have found for them.

    Args:
        seed: of the step.
        n: X-rays in the whole step.
        rows: int64, those to draw for; None: all.
        device: where the numbers are wanted; they are drawn on the CPU, so that a seed means the same everywhere.
    """

    def __init__(self, seed: int, n: int, rows: np.ndarray | None = None, device: torch.device | str = "cpu"):
        self._generator = torch.Generator().manual_seed(seed)
        self._n = n
        self._rows = slice(None) if rows is None else torch.from_numpy(rows)
        self._device = torch.device(device)

    def uniform(self, *shape: int) -> torch.Tensor:
        """The next numbers in [0, 1): float32 [rows, *shape]."""
        drawn = torch.rand(self._n, *shape, generator=self._generator)
        return sent(drawn[self._rows], self._device)


class FixedStepRandom:
    """Draws that stay in the same memory while their values change, as a recorded step needs them."""

    def __init__(self) -> None:
        self._standing: list[torch.Tensor] = []
        self._source: StepRandom | None = None
        self._turn = 0

    def refill(self, source: StepRandom) -> None:
        """Take over the numbers that `source` gives."""
        self._source = source
        for numbers in self._standing:
            numbers.copy_(source.uniform(*numbers.shape[1:]), non_blocking=True)

    def rewind(self) -> None:
        """Begin with the first numbers again."""
        self._turn = 0

    def uniform(self, *shape: int) -> torch.Tensor:
        """As `Draws.uniform`; every round must ask for the same shapes in the same order."""
        if self._turn == len(self._standing):
            self._standing.append(self._source.uniform(*shape))
        self._turn += 1
        return self._standing[self._turn - 1]
