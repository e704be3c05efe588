"""Tuning on frozen features, and evaluating."""

import copy

import numpy as np

from benchmarks import ours
from benchmarks.alternatives import encoder_in_loop, per_image
from benchmarks.results import Outcome, Result
from benchmarks.timing import rate, seconds
from benchmarks.workload import Workload
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics import calibration
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.models import classifier as classifier_model
from fracture_mae.tracking import runs
from fracture_mae.tracking.stores import sqlite_uri

N_TRIALS, N_DRAWS = 200, 1000
_MOST_IMAGES_ONE_BY_ONE = 32  # whose time stands for that of all
_DRAWS_ONE_BY_ONE = 20  # the same


def tuning(workload: Workload) -> Outcome:
    """200 trials of heads on frozen features, against as many that run the encoder."""
    head = encoder_in_loop.HeadTraining(workload.mae, workload.accelerator)
    n, config = len(workload.xrays), workload.config
    batch = ours.batch_of(workload.xrays, np.resize(np.arange(n), config.batch_size), workload.device)
    images_per_second = rate(
        lambda: head.step(batch.pixels, batch.label), config.batch_size, workload.device, workload.at_least
    )
    folder = workload.temporary()
    with runs.temporary_store(folder) as run:

        def on_features() -> float:
            once, trials = ours.tuning_seconds(workload, run, sqlite_uri(folder / "optuna.db"), config.n_trials)
            return once + trials * N_TRIALS / config.n_trials

        def with_encoder() -> float:
            return N_TRIALS * encoder_in_loop.EPOCHS * n / images_per_second()

        found = workload.measure({"ours": on_features, "alternative": with_encoder})
    result = Result(
        "tuning",
        f"{N_TRIALS} tuning trials on frozen features",
        f"features of {n:,} X-rays once, then trials with Optuna and MLflow, worked out from {config.n_trials} · the encoder over all "
        f"X-rays for {encoder_in_loop.EPOCHS} epochs a trial, worked out from some batches",
        "s",
        **found,
        ratio=found["alternative"].over(found["ours"]),
        bar=workload.bar(100),
    )
    return Outcome([result])


def evaluation(workload: Workload) -> Outcome:
    """Predictions and their intervals in batches and arrays, against one by one."""
    classifier = classifier_model.from_mae(copy.deepcopy(workload.mae), pool="mean")
    xrays, options = workload.xrays, {"accelerator": workload.accelerator}
    some = xrays.subset(np.arange(min(_MOST_IMAGES_ONE_BY_ONE, len(xrays))))

    def at_once() -> None:
        table = predict(classifier, xrays, batch_size=workload.config.batch_size, **options)
        probability = calibration.apply(table["logit"], 1.0)
        metric_intervals(table["label"], probability, table["group"], 0.5, n_draws=N_DRAWS)

    probability = np.random.default_rng(0).random(len(xrays))

    def one_by_one() -> float:
        predicting = seconds(lambda: per_image.predict(classifier, some, workload.accelerator), workload.device)
        drawing = seconds(lambda: per_image.bootstrap(xrays.label, probability, xrays.group, n_draws=_DRAWS_ONE_BY_ONE))
        return predicting * len(xrays) / len(some) + drawing * N_DRAWS / _DRAWS_ONE_BY_ONE

    found = workload.measure({"ours": lambda: seconds(at_once, workload.device), "alternative": one_by_one})
    result = Result(
        "evaluation",
        f"evaluation with {N_DRAWS:,} bootstrap draws",
        f"{len(xrays):,} X-rays in batches, all draws as arrays · image by image, scikit-learn for each draw, worked out from "
        f"{len(some)} images and {_DRAWS_ONE_BY_ONE} draws",
        "s",
        **found,
        ratio=found["alternative"].over(found["ours"]),
        bar=workload.bar(5),
    )
    return Outcome([result])
