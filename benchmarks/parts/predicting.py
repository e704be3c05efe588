"""Answering for files, as `predict` does."""

import copy

import numpy as np
import torch

from benchmarks import ours
from benchmarks.results import Outcome, Result
from benchmarks.timing import rate
from benchmarks.workload import Workload
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.pixels import to_unit

_N_BATCHES = 20  # the first comes when processes have started, and is not counted


def predicting(workload: Workload) -> Outcome:
    """Files through decoding, gate and network, against the network alone on pictures that are on the device."""
    classifier = classifier_model.from_mae(copy.deepcopy(workload.mae), pool="mean").to(workload.device).eval()
    batch_size = workload.config.batch_size
    n_files = batch_size * (4 if workload.config.quick else _N_BATCHES)
    paths = np.resize(workload.xrays.table["path"].to_numpy(dtype=object), n_files).tolist()
    gate = ours.gate_of(classifier)
    squares = torch.zeros(
        batch_size * ours.n_squares(classifier.preprocess), *[classifier.image_size] * 2, dtype=torch.uint8
    )
    squares = squares.to(workload.device)

    @torch.inference_mode()
    def network() -> None:
        with workload.accelerator.autocast():
            classifier.with_features(to_unit(squares))

    found = workload.measure(
        {
            "ours": lambda: ours.files_per_second(workload, classifier, gate, paths),
            "alternative": rate(network, batch_size, workload.device, workload.at_least),
        },
        warm_up=False,
    )
    result = Result(
        "predicting",
        "predicting from files",
        f"{n_files:,} files, decoded and looked at by the gate, once processes have started · the network alone, on pictures at hand",
        "files/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar(0.9),
    )
    return Outcome([result])
