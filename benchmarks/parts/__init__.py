"""The parts of the benchmark by the names that `only` takes."""

from collections.abc import Callable

from benchmarks.parts.growing import growth
from benchmarks.parts.judging import evaluation, tuning
from benchmarks.parts.parallel import processes
from benchmarks.parts.predicting import predicting
from benchmarks.parts.reading import loading
from benchmarks.parts.training import ceiling, fine_tuning, forward, step
from benchmarks.results import Outcome
from benchmarks.workload import Workload

PARTS: dict[str, Callable[[Workload], Outcome]] = {
    "fine_tuning": fine_tuning,
    "step": step,
    "forward": forward,
    "ceiling": ceiling,
    "loading": loading,
    "tuning": tuning,
    "evaluation": evaluation,
    "predicting": predicting,
    "processes": processes,
    "growth": growth,
}
