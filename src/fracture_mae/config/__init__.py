"""One frozen model per entry point: every parameter's name, default, range and help stand here and nowhere else.

A config is checked when it is made, and only checked: it reads no disk and starts nothing. `auto` on a field that a recipe sets
means "as the recipe says" and is replaced at construction; what hangs on the model that a training starts from, such as the learning
rate, is replaced by `settled`, which a stage calls when it has the model. So what trains holds the values that are really used.
"""

from fracture_mae.config.benchmarking import BENCHMARK_PARTS, Benchmark
from fracture_mae.config.judging import AuditData, Compare, Evaluate, Predict, RollBack
from fracture_mae.config.options import (
    DEFAULT_MODEL,
    PROMOTION_METRICS,
    THRESHOLD_OBJECTIVES,
    Computing,
    Config,
    CopyOptions,
    DataOptions,
    NumberOrWord,
    OperatingOptions,
    Optimisation,
    ReferenceOptions,
    Start,
)
from fracture_mae.config.searching import Main, Tune
from fracture_mae.config.training import FinetuneMae, ReconstructBaseline, TrainClassifier

__all__ = [
    "BENCHMARK_PARTS",
    "DEFAULT_MODEL",
    "PROMOTION_METRICS",
    "THRESHOLD_OBJECTIVES",
    "AuditData",
    "Benchmark",
    "Compare",
    "Computing",
    "Config",
    "CopyOptions",
    "DataOptions",
    "Evaluate",
    "FinetuneMae",
    "Main",
    "NumberOrWord",
    "OperatingOptions",
    "Optimisation",
    "Predict",
    "ReconstructBaseline",
    "ReferenceOptions",
    "RollBack",
    "Start",
    "TrainClassifier",
    "Tune",
]
