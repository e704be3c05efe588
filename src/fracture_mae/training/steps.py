"""What an epoch visits, step by step, and which part of each step falls to which process."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fracture_mae.processes import collectives, ranks
from fracture_mae.training.loss_weights import LossWeights


@dataclass(frozen=True)
class Part:
    """X-rays of one step that one process computes at once.

    Attributes:
        step: number of the step in the epoch, from 0.
        n: X-rays in the whole step, over all processes and parts.
        rows: int64 [B], which of these; at least one, so that no process stands aside while gradients are summed.
        positions: int64 [B], where these stand among the training X-rays.
        weight: float64 [B], of each one's loss in the loss of the step; 0 of one that only fills up.
        seed: of all chance in the step.
        is_first, is_last: of the process's parts of the step.
    """

    step: int
    n: int
    rows: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    seed: int
    is_first: bool
    is_last: bool


def n_steps(n_visits: int, batch_size: int) -> int:
    """Steps of an epoch."""
    return math.ceil(n_visits / batch_size)


def parts_of(
    visits: np.ndarray, weights: LossWeights, *, batch_size: int, accumulation: int, seed: int, equal: bool = False
) -> Iterator[Part]:
    """This process's parts of all steps of an epoch, in order.

    The steps are as equal as can be, at most `batch_size` X-rays each, and the same however many processes share them. A process
    takes consecutive rows of a step, and computes these in `accumulation` parts.

    Args:
        visits: int64, positions of X-rays in the order of the epoch.
        equal: fill up parts with an X-ray of theirs, so that all are of one size, as what was compiled or recorded needs them.
    """
    steps = np.array_split(visits, n_steps(len(visits), batch_size))
    largest = math.ceil(math.ceil(len(steps[0]) / ranks.world_size()) / accumulation)
    for step, positions in enumerate(steps):
        weight = weights.within(positions)
        own = collectives.share(len(positions))
        if not len(own):
            own, weight = np.array([0]), np.zeros_like(weight)
        pieces = np.array_split(own, min(accumulation, len(own)))
        for number, piece in enumerate(pieces):
            filling = [0, largest - len(piece) if equal else 0]
            rows = np.pad(piece, filling, mode="edge")
            yield Part(
                step=step,
                n=len(positions),
                rows=rows,
                positions=positions[rows],
                weight=np.pad(weight[piece], filling),
                seed=int(np.random.SeedSequence([seed, step]).generate_state(1)[0]),
                is_first=number == 0,
                is_last=number == len(pieces) - 1,
            )
