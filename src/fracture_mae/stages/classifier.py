"""Training the classifier, and what is chosen for it on validation: epoch, calibration and threshold."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from fracture_mae.config import TrainClassifier
from fracture_mae.data.folds import joined
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.matching import Matching, match_properties
from fracture_mae.evaluation.own_threshold import Wish
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics import calibration, scores
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes import collectives
from fracture_mae.stages.head_init import start_from_probe
from fracture_mae.training.augmentation import Augment
from fracture_mae.training.batches import Batch
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.loss_weights import LossWeights, loss_weight
from fracture_mae.training.patch_labels import patch_labels
from fracture_mae.training.place_loss import place_loss
from fracture_mae.training.schedule import Progress, Schedule
from fracture_mae.training.source_augmentation.changes import SourceAugmentation
from fracture_mae.training.step_options import StepOptions
from fracture_mae.training.step_random import StepRandom
from fracture_mae.training.trainer import StepLoss, Trainer, visiting_chance, visiting_order

logger = logging.getLogger(__name__)
UNLEARNT = (
    "The network learnt nothing that holds on the %d X-rays it is calibrated on: its logits are no higher where they are fractured. So "
    "its probabilities are all about the same, with platt the share of fractured there, %.3f."
)


def obeyable(config: TrainClassifier, encoder: Encoder) -> tuple[TrainClassifier, dict[str, str]]:
    """The same options, but 0 where the recipe alone asks for what this architecture cannot do; and tags that say so.

    What the user asked for by name stays as it is, and `build` refuses it.
    """
    cannot = {"drop_path": not encoder.can_skip_blocks, "patch_dropout": not encoder.can_leave_out_patches}
    left = [
        name for name, hinders in cannot.items() if hinders and name in config.from_recipe and getattr(config, name)
    ]
    tags = {f"{name}.obeyed": f"0: {encoder.named} cannot do as the recipe says" for name in left}
    return config.model_copy(update=dict.fromkeys(left, 0.0)), tags


def build(encoder: Encoder, config: TrainClassifier) -> FractureClassifier:
    """A classifier as `config` describes it, on `encoder`, which it takes over.

    Raises:
        FractureMaeError: the architecture cannot do what the config asks for.
    """
    regularisation = {"drop_path": config.drop_path, "patch_dropout": config.patch_dropout} if not config.freeze else {}
    head = {name: getattr(config, name) for name in ("pool", "pool_temperature", "pool_share")}
    classifier = classifier_model.from_encoder(encoder, seed=config.seed, **head, **regularisation)
    if config.freeze:
        classifier_model.freeze_encoder(classifier)
    return classifier


def matched(xrays: XRays, config: TrainClassifier) -> Matching | None:
    """The weights that `config.match` asks for, made by the first process for all; None where it asks for none."""
    if config.match == "none":
        return None
    by_file = config.weight_by == "file" and not config.sampler.startswith("xray")
    return collectives.from_first(lambda: match_properties(xrays, config.seed, by_file=by_file))


def train(
    classifier: FractureClassifier,
    dataset: Dataset,
    config: TrainClassifier,
    *,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    log: Callable[[dict[str, float], int], None],
    matching: Matching | None = None,
) -> Progress:
    """Train `classifier` in place on the training X-rays; validation decides which epoch's weights are kept.

    Args:
        config: settled.
        matching: of the training X-rays, see `matched`.
    """
    of_match = None if matching is None else matching.weight
    file_weight = loss_weight(dataset.train, config.weight_by, config.sampler, of_match)
    schedule = Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        monitor=f"validation/xray/{config.monitor}",
        maximise=config.monitor != "log_loss",
        warmup_epochs=config.warmup_epochs,
        cosine=config.optimizer == "adamw",
        keep_best=config.selection == "best",
        patience=config.patience,
        seed=config.seed,
    )
    groups = classifier_model.layerwise_groups(
        classifier, learning_rate=config.learning_rate, layer_decay=config.layer_decay, weight_decay=config.weight_decay
    )
    trainer = Trainer(
        classifier,
        groups,
        optimizer=config.optimizer,
        beta2=config.beta2,
        schedule=schedule,
        step_loss=_step_loss(config, classifier, place_weight(dataset.train, config.place_weight)),
        accelerator=accelerator,
        step_options=StepOptions.of(config),
        source_augmentation=SourceAugmentation.of(config, accelerator.device),
    )

    def validate(model: FractureClassifier) -> dict[str, float]:
        table = predict(model, dataset.validation, batch_size=config.batch_size, accelerator=accelerator)
        return validation_metrics(table)

    weights = loss_weights(dataset.train, config.class_weight, file_weight, config.sampler)
    if config.head_init == "probe":
        in_an_epoch = weights.weight * visiting_chance(dataset.train, config.sampler)
        options = {"accelerator": accelerator, "matching": matching}
        start_from_probe(classifier, dataset.train, in_an_epoch, config, **options)
    order = visiting_order(dataset.train, config.sampler)
    return trainer.fit(dataset.train, order, validate, checkpoints, log, weights)


@dataclass(frozen=True)
class Choice:
    """What training a classifier led to.

    Attributes:
        progress: its curves, and the epoch that was kept.
        predictions: of the kept weights for validation, a row per file.
        decision: calibration, fitted to these, and threshold, chosen on these or on out-of-fold predictions.
        matching: the weights that it was trained with; None: none.
    """

    progress: Progress
    predictions: pd.DataFrame
    decision: Decision
    matching: Matching | None = None


def train_and_choose(
    classifier: FractureClassifier,
    dataset: Dataset,
    config: TrainClassifier,
    *,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    log: Callable[[dict[str, float], int], None],
    out_of_fold: pd.DataFrame | None = None,
) -> Choice:
    """Train `classifier` in place; validation chooses the epoch, then the calibration, then the threshold.

    Args:
        out_of_fold: what the threshold is chosen on instead, see `decide`.
    """
    matching = matched(dataset.train, config)
    options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": log, "matching": matching}
    progress = train(classifier, dataset, config, **options)
    classifier.bf16 = (
        config.precision == "bf16"
    )  # what is chosen for it rests on exact answers, unless others are asked for
    predictions = predict(classifier, dataset.validation, batch_size=config.batch_size, accelerator=accelerator)
    return Choice(progress, predictions, decide(predictions, config, dataset, out_of_fold), matching)


def positive_weight(xrays: XRays, class_weight: str | float, weight: np.ndarray, sampler: str) -> float:
    """Weight of a positive X-ray in the loss beside 1 for a negative one.

    `balanced` makes what the sampler draws of both classes weigh the same: where it draws both equally often already, that is 1, and
    not their shares once more.

    Args:
        weight: [n], of each file besides.
        sampler: as in `trainer.visiting_order`.
    """
    if class_weight == "none":
        return 1.0
    if class_weight == "balanced":
        negatives, positives = np.bincount(xrays.label, weight * visiting_chance(xrays, sampler), minlength=2)
        return float(negatives / positives)
    return float(class_weight)


def loss_weights(xrays: XRays, class_weight: str | float, file_weight: np.ndarray, sampler: str) -> LossWeights:
    """Weights of the training X-rays by class and by file.

    The loss of a step is divided by the sum of the class weights alone: file weights have the mean 1 over all training files, not
    in each step, and to divide by a step's own sum would lift the files that happen to stand among light ones.

    Args:
        class_weight, sampler: as in `positive_weight`.
        file_weight: [n], of each file.
    """
    by_class = np.where(xrays.label == 1, positive_weight(xrays, class_weight, file_weight, sampler), 1.0)
    return LossWeights(by_class * file_weight, by_class)


def smoothed_cross_entropy(logit: torch.Tensor, label: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Binary cross-entropy of each file, [B].

    Args:
        logit: [B]; label: [B], 0 or 1.
        label_smoothing: share of each label that is spread evenly over both classes (Szegedy et al., CVPR 2016).
    """
    soft = label * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logit, soft, reduction="none")


def place_weight(train: XRays, wished: float) -> float:
    """Weight of the loss of patches; 0 where no training X-ray has boxes: then labels alone teach, as if it were not asked for."""
    return wished if (train.has_boxes & (train.label == 1)).any() else 0.0


def _step_loss(config: TrainClassifier, classifier: FractureClassifier, place_weight: float) -> StepLoss:
    """The loss of each X-ray: of its label, and, where that has a weight, of its patches."""
    augment = Augment(config.crop_scale, config.rotation, config.flip, config.intensity, config.source_augmentation)
    n_draws, grid = classifier.n_draws, classifier.grid

    def of_label(model: FractureClassifier, batch: Batch, step_random: StepRandom) -> torch.Tensor:
        logit = model(augment(batch.pixels, step_random), step_random.uniform(n_draws))
        return smoothed_cross_entropy(logit, batch.label, config.label_smoothing)

    def of_label_and_patches(model: FractureClassifier, batch: Batch, step_random: StepRandom) -> torch.Tensor:
        pixels, affine = augment.moved(batch.pixels, step_random)
        logit, patches, shown = model(pixels, step_random.uniform(n_draws), with_patches=True)
        inside = patch_labels(batch.boxes, affine, grid)
        inside = inside if shown is None else inside.gather(1, shown)
        of_pictures = smoothed_cross_entropy(logit, batch.label, config.label_smoothing)
        return of_pictures + place_weight * place_loss(patches, inside, batch.label, batch.boxed)

    return of_label_and_patches if place_weight else of_label


def validation_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Threshold-free metrics of predictions, for files (`image`) and with each X-ray's files averaged (`xray`)."""
    levels = {"image": table, "xray": scores.per_group(table)}
    chosen = ("auroc", "average_precision", "log_loss")
    return {
        f"validation/{level}/{name}": scores.summary(rows["label"], calibration.apply(rows["logit"]), 0.5)[name]
        for level, rows in levels.items()
        for name in chosen
    }


def decide(
    table: pd.DataFrame, config: TrainClassifier, dataset: Dataset, out_of_fold: pd.DataFrame | None = None
) -> Decision:
    """Calibration and threshold from predictions for validation, every X-ray weighing the same however many files it has.

    Args:
        table: columns group, patient, where it is known, label, logit.
        out_of_fold: the same for training and validation X-rays, by models that saw nothing of them, with the probability that each
            one's own calibration gives; they are several times as many, and the threshold is chosen on them.
    """
    decision = calibrated(table, config.calibrate, dataset)
    if not isinstance(config.threshold, str):
        return replace(decision, threshold=config.threshold)
    rows, place = (table, "validation") if out_of_fold is None else (out_of_fold, "out-of-fold")
    probability = decision.probability(rows["logit"]) if out_of_fold is None else rows["probability"]
    wish, values = wish_of(config), np.asarray(probability)
    chosen = wish.choose(rows, values, config.seed)
    return replace(decision, threshold=chosen, objective=str(wish), chosen_on=wish.told(rows, values, chosen, place))


def wish_of(config: TrainClassifier) -> Wish | None:
    """What the threshold is to be best for; None where it is given."""
    given = not isinstance(config.threshold, str)
    return None if given else Wish.of(config.threshold, config.min_sensitivity, config.assurance)


def check_assurance(config: TrainClassifier, dataset: Dataset) -> None:
    """Refuse an assurance that the X-rays which the threshold is chosen on cannot give, before the training.

    Raises:
        FractureMaeError: how many fractures are needed and were found.
    """
    if wish := wish_of(config):
        where = (
            ("in training and validation", joined(dataset)) if config.n_folds else ("on validation", dataset.validation)
        )
        way_out = "Take more X-rays" if config.n_folds else "Choose on more of them with --cross-validate 5"
        wish.check(where[1].table, where[0], way_out)


def as_can_be_assured(config: TrainClassifier, validation: XRays) -> TrainClassifier:
    """The same options for a fold, without an assurance that its few X-rays cannot give: its threshold is for figures alone."""
    try:
        if wish := wish_of(config):
            wish.check(validation.table, "", "")
    except FractureMaeError:
        return config.model_copy(update={"assurance": "none"})
    return config


def calibrated(table: pd.DataFrame, method: str, dataset: Dataset) -> Decision:
    """A decision calibrated on predictions for validation, its threshold not chosen yet.

    Args:
        table: columns group, label, logit.
        method: "none", "platt", "temperature" or "isotonic".
    """
    weight = scores.equal_group_weight(table["group"])
    fitted_on = (table["logit"], table["label"], weight)
    plain = Decision(
        dataset.label_names, split_fingerprint=dataset.split_fingerprint, data_fingerprint=dataset.fingerprint
    )
    prevalence = float(np.average(table["label"], weights=weight))
    match method:
        case "platt" | "temperature":
            found = calibration.fit_sigmoid(*fitted_on, shift=method == "platt")
            if not found.rises:
                logger.warning(UNLEARNT, table["group"].nunique(), prevalence)
            fitted_at = prevalence if method == "platt" else None  # a slope alone knows no prevalence
            return replace(plain, slope=found.slope, intercept=found.intercept, prevalence=fitted_at)
        case "isotonic":
            return replace(plain, isotonic=calibration.fit_isotonic(*fitted_on), prevalence=prevalence)
    return plain
