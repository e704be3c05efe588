"""The parts of the benchmark by the names that `only` takes."""

from collections.abc import Callable

from fracture_mae.benchmark.parts.growing import growth
from fracture_mae.benchmark.parts.judging import evaluation, tuning
from fracture_mae.benchmark.parts.parallel import processes
from fracture_mae.benchmark.parts.reading import loading
from fracture_mae.benchmark.parts.training import ceiling, fine_tuning, step
from fracture_mae.benchmark.results import Outcome
from fracture_mae.benchmark.subject import Subject

PARTS: dict[str, Callable[[Subject], Outcome]] = {
    "fine_tuning": fine_tuning,
    "step": step,
    "ceiling": ceiling,
    "loading": loading,
    "tuning": tuning,
    "evaluation": evaluation,
    "processes": processes,
    "growth": growth,
}
