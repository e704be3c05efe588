"""The project's own code as it is measured. Whatever the benchmark needs to know of its insides stands here, and only here."""

import contextlib
import copy
import io
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks.workload import Workload, cache_in
from fracture_mae.config import FinetuneMae, Tune
from fracture_mae.data.reading.preprocessing import n_squares
from fracture_mae.data.types import XRays
from fracture_mae.models.autoencoder import squared_error
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.models.gate import Gate, describe
from fracture_mae.stages import finetune
from fracture_mae.stages.predict import answers
from fracture_mae.tracking.runs import Run
from fracture_mae.training.batches import Ahead, batch_of, gather, pixels_of, to_device
from fracture_mae.training.checkpoints import NoCheckpoints
from fracture_mae.training.step_random import StepRandom
from fracture_mae.training.steps import n_steps
from fracture_mae.training.trainer import Trainer, visiting_order
from fracture_mae.tuning.campaign import Campaign
from fracture_mae.tuning.depths import HeadDepth
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.objectives import Objective
from fracture_mae.tuning.pruning import pruner_of
from fracture_mae.tuning.sampling import NumberedSampler
from fracture_mae.tuning.space import space_of
from fracture_mae.tuning.study import Lock, open_storage, open_study
from fracture_mae.tuning.trial_runs import TrialRuns
from fracture_mae.tuning.trials import evaluator

__all__ = [
    "batch_of",
    "epoch_reader",
    "files_per_second",
    "forward_of",
    "gate_of",
    "n_squares",
    "project_folder",
    "step_of",
    "train_epoch",
    "trainer_of",
    "tuning_seconds",
]


def trainer_of(workload: Workload, training: FinetuneMae) -> Trainer:
    """A trainer of a copy of the model, as `finetune_mae` makes it."""
    return finetune.make_trainer(copy.deepcopy(workload.mae), training, workload.accelerator)


def train_epoch(trainer: Trainer, xrays: XRays) -> None:
    """An epoch of `Trainer.fit`, loading included; nothing is validated, written or printed."""
    order = visiting_order(xrays, "file")
    monitor = trainer.schedule.monitor
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(xrays, order, lambda model: {monitor: 0.0}, NoCheckpoints(), lambda row, epoch: None)


def step_of(trainer: Trainer, xrays: XRays, positions: np.ndarray) -> Callable[[], torch.Tensor]:
    """A training step (forward, backward, optimizer) on these X-rays, which are on the device before it is called; the loss.

    What the trainer's computation leaves open is settled as before a training of one epoch.
    """
    device, n = trainer.accelerator.device, len(positions)
    batch, own = batch_of(xrays, positions, device, weight=1 / n), xrays.subset(positions)
    trainer.settle(own, pixels_of(own, device), n_visits=len(own), n_epochs=1)
    return lambda: trainer.step(batch, StepRandom(0, n, device=device))


def forward_of(workload: Workload, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The forward pass of a copy of the model on grey pixels [B, 1, H, W] under random masks, as evaluations call it; the loss."""
    mae, mask_ratio = to_device(copy.deepcopy(workload.mae), workload.device).eval(), workload.training.train_mask_ratio

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        noise = torch.rand(len(pixels), mae.n_patches, device=workload.device)
        with workload.accelerator.autocast():
            prediction, target, mask = mae(pixels, noise, mask_ratio)
        return squared_error(prediction, target, mask, "masked").mean()

    return forward


def epoch_reader(xrays: XRays, batch_size: int, device: torch.device) -> Callable[[], None]:
    """What gathers all batches of an epoch, shuffled, as a training does: uint8 on the device.

    What a training does once, such as bringing pixels to a GPU, is done before.
    """
    visits = np.random.default_rng(0).permutation(len(xrays))
    pixels, batches = pixels_of(xrays, device), np.array_split(visits, n_steps(len(visits), batch_size))

    def read() -> None:
        for _ in Ahead(lambda positions: gather(xrays, pixels, positions), batches):
            pass

    return read


def tuning_seconds(workload: Workload, run: Run, url: str, n_trials: int) -> tuple[float, float]:
    """How long the features of all X-rays take, computed anew, and then `n_trials` trials of a new study, their runs written.

    Args:
        run: below which the trials' runs go.
        url: of the study's database.
    """
    config = Tune(
        **workload.config.shared(),
        n_trials=n_trials,
        n_folds=_n_folds(workload.dataset.train, workload.dataset.validation),
    )
    objective, space = Objective.of(config), space_of(config, workload.mae.start)
    folder = workload.temporary()
    started = time.perf_counter()
    with cache_in(folder):
        depth = HeadDepth(MaeEncoder.of(copy.deepcopy(workload.mae)), workload.dataset, config, workload.accelerator)
    computed = time.perf_counter()
    storage = open_storage(url, config.heartbeat)
    lock = Lock(storage, folder.name)
    with lock:
        study = open_study(
            storage,
            folder.name,
            directions=objective.directions,
            signature={},
            sampler=NumberedSampler(config.seed),
            pruner=pruner_of(config)[0],
        )
    campaign = Campaign(study, lock, n_trials, run.id, started=datetime.now())
    with TrialRuns(campaign, objective.value_names, "") as runs, Interruption() as interruption:
        campaign.work(evaluator(depth, objective, space, interruption), runs.write, interruption)
    return computed - started, time.perf_counter() - computed


def gate_of(classifier: FractureClassifier, n_support: int = 400) -> Gate:
    """A gate as large as a usual one; fitted to nothing, as what it says does not matter."""
    blank = np.zeros((1, n_squares(classifier.preprocess), *[classifier.image_size] * 2), np.uint8)
    features = np.zeros((1, classifier.encoder.width))
    n_numbers = describe(blank, features, classifier.preprocess).shape[-1]
    support = np.random.default_rng(0).standard_normal((n_support, n_numbers)).astype(np.float32)
    centre, scale, weight = np.zeros(n_numbers), np.ones(n_numbers), np.ones(n_support)
    return Gate(centre, scale, support, weight, 0.0, 1 / n_numbers, np.zeros(100), where="")


def files_per_second(workload: Workload, classifier: FractureClassifier, gate: Gate, paths: list[str]) -> float:
    """How many files of the second batch and all later ones `predict` answers for in a second."""
    config = workload.config
    given = answers(classifier, gate, paths, config.batch_size, config.num_workers or None, workload.accelerator)
    next(given)
    started = time.perf_counter()
    n_later = sum(len(batch.sha256) for batch, _ in given)
    return n_later / (time.perf_counter() - started)


def _n_folds(*sides: XRays) -> int:
    """Five, as by default, or as few as there are X-rays of a label."""
    xrays = {(label, patient) for side in sides for label, patient in side.table[["label", "patient"]].to_numpy()}
    return max(2, min([Tune.model_fields["n_folds"].default, *np.bincount([label for label, _ in xrays], minlength=2)]))


def project_folder() -> Path:
    """The folder that the entry points run in."""
    return Path(__file__).resolve().parents[1]
