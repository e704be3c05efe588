"""Measuring several things in turn, so that whatever slows a machine down meanwhile slows all of them.

torch.utils.benchmark measures one thing after the other, calls it twice before every measurement, whole trainings too, and does not
wait for Apple's GPUs.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from tqdm import tqdm

Measure = Callable[[], float]
LEAST_ROUNDS = 3
MOST_SECONDS = 300.0  # for the rounds of one figure; more are begun only up to LEAST_ROUNDS


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing, in the order in which they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: "Sample") -> "Sample":
        """The ratio to `other` round by round: what was measured side by side is compared."""
        return Sample(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def times(self, factor: float) -> "Sample":
        return Sample(tuple(factor * value for value in self.values))


def interleaved(
    measures: Mapping[str, Measure],
    repeats: int,
    *,
    warm_up: bool = True,
    least: int = LEAST_ROUNDS,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Sample]:
    """Measure each thing once and forget it, then all of them in turn: A B A B …

    Args:
        measures: name → what measures it, in any unit.
        repeats: rounds.
        warm_up: whether the forgotten round comes first.
        least: rounds that are taken however long they last.
        most_seconds: no further round is begun that would, at the pace so far, end later than this.
    """
    n_rounds = repeats + warm_up
    values: dict[str, list[float]] = {name: [] for name in measures}
    with tqdm(total=n_rounds, desc="Rounds", unit="round", leave=False) as bar:
        if warm_up:
            _round(measures)
            bar.update()
        started = clock()
        for done in range(repeats):
            if done >= least and (clock() - started) * (done + 1) / done > most_seconds:
                break
            for name, value in _round(measures).items():
                values[name].append(value)
            bar.update()
    return {name: Sample(tuple(taken)) for name, taken in values.items()}


def _round(measures: Mapping[str, Measure]) -> dict[str, float]:
    return {name: measure() for name, measure in measures.items()}


def seconds(action: Callable[[], object], device: torch.device | None = None) -> float:
    """How long `action` takes, with all that it leaves to the device."""
    synchronise(device)
    started = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - started


def rate(
    action: Callable[[], object], amount: float, device: torch.device | None = None, at_least: float = 0.0
) -> Measure:
    """What measures how much of something `action` does in a second.

    Args:
        amount: what one call does, such as a number of images.
        at_least: seconds that a measurement goes on, call by call: a single short one tells little.
    """

    def measure() -> float:
        took = seconds(action, device)
        n_more = math.ceil(at_least / max(took, 1e-9)) - 1
        if n_more > 0:
            took += seconds(lambda: [action() for _ in range(n_more)], device)
        return amount * (1 + max(0, n_more)) / took

    return measure


def synchronise(device: torch.device | None) -> None:
    """Wait until the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()
