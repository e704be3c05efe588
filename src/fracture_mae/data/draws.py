"""Chance for the X-rays of a training step, the same however the step is shared out over parts and processes."""

import torch


class Draws:
    """Uniform random numbers, of which an X-ray's own hang on the seed and on its place in the whole step alone.

    Numbers are drawn for the whole step, and those of the rows at hand are given out: who computes only some rows finds
    what one process that computes all would have found for them.

    Args:
        seed: of the step.
        n: X-rays in the whole step.
        rows: those to draw for; None: all.
        device: where the numbers are wanted; they are drawn on the CPU, so that a seed means the same everywhere.
    """

    def __init__(self, seed: int, n: int, rows: slice | None = None, device: torch.device | str = "cpu"):
        self._generator = torch.Generator().manual_seed(seed)
        self._n = n
        self._rows = slice(0, n) if rows is None else rows
        self._device = device

    def uniform(self, *shape: int) -> torch.Tensor:
        """The next numbers in [0, 1): float32 [rows, *shape]."""
        drawn = torch.rand(self._n, *shape, generator=self._generator)
        return drawn[self._rows].to(self._device, non_blocking=True)
