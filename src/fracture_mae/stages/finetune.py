"""Fine-tuning the masked autoencoder on X-rays."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from fracture_mae.config import FinetuneMae
from fracture_mae.data.shown import PICTURE_ONLY
from fracture_mae.data.types import Dataset
from fracture_mae.evaluation.reconstruction import PER_PATCH, Masks, masked_errors
from fracture_mae.models.autoencoder import Mae, squared_error
from fracture_mae.models.vit import is_decayed
from fracture_mae.processes import collectives
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import inputs, reconstruct, start
from fracture_mae.tracking.registered_models import load_mae, made_from, register_mae
from fracture_mae.tracking.runs import Run
from fracture_mae.training import learning_curves
from fracture_mae.training.augmentation import Augment
from fracture_mae.training.batches import Batch
from fracture_mae.training.checkpoints import Checkpoints, open_checkpoints
from fracture_mae.training.loss_weights import LossWeights, loss_weight
from fracture_mae.training.schedule import Progress, Schedule
from fracture_mae.training.source_augmentation.changes import SourceAugmentation
from fracture_mae.training.step_options import StepOptions
from fracture_mae.training.step_random import StepRandom
from fracture_mae.training.trainer import StepLoss, Trainer, visiting_order


def finetune_mae(config: FinetuneMae, run: Run) -> str:
    """Fine-tune the masked autoencoder, rebuild the same X-rays before and after, register it; what came of it, to print.

    Test is not looked at: `evaluate` does, where it is asked to. Of several processes the first alone has something to print.
    """
    accelerator = make_accelerator(config.precision, config.device)
    mae = load_mae(config.model, config)
    config = start.settle(config, mae, run, norm_pix_loss=mae.norm_pix_loss)
    dataset = inputs.load_training_data(config, mae.image_size, preprocess=mae.preprocess)
    run.dataset(dataset)
    run.tags({"model": mae.source, "norm_pix_loss": config.norm_pix_loss})
    told = reconstruct.told_of_units(mae.norm_pix_loss or config.norm_pix_loss)
    run.note(f"Fine-tuning **{mae.source}**, recipe `{config.recipe}`. {inputs.describe(dataset)}{told}")

    shown = made_from(mae.source, dataset, PICTURE_ONLY)
    with open_checkpoints(mae, dataset, config, run.id) as checkpoints:
        seen = (dataset.train, dataset.validation)
        before = reconstruct.measure(mae, seen, config, accelerator)
        run.metrics(reconstruct.flat(before, "baseline/"))
        examples = reconstruct.Examples(dataset, config, accelerator)
        examples.rebuild(mae, "baseline")
        progress = train(mae, dataset, config, accelerator=accelerator, checkpoints=checkpoints, log=run.metrics)
        after = reconstruct.measure(mae, seen, config, accelerator)
        if not collectives.goes_on_alone():
            return ""
        run.report(learning_curves.report(progress))
        run.metrics(reconstruct.flat(after))
        examples.rebuild(mae, "fine-tuned")
        run.figures(examples.figures())
        results = pd.concat({"baseline": before, "fine-tuned": after}, names=["model"])
        run.table(results, "reconstruction.csv", index=True)
        version = register_mae(mae, shown, dataset, config, run)
        checkpoints.remove()
    return f"{results.round(4).to_string()}\nregistered as models:/xray-mae/{version}"


def train(
    mae: Mae,
    dataset: Dataset,
    config: FinetuneMae,
    *,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    log: Callable[[dict[str, float], int], None],
) -> Progress:
    """Train `mae` in place on the training X-rays; the epoch with the least masked error on validation is kept.

    Args:
        config: settled.
    """
    trainer = make_trainer(mae, config, accelerator)
    masks = Masks(config.mask_ratio, config.seed)

    def validate(model: Mae) -> dict[str, float]:
        errors = masked_errors(model, dataset.validation, masks, batch_size=config.batch_size, accelerator=accelerator)
        return {f"validation/{name}": value for name, value in errors.items()}

    weight = loss_weight(dataset.train, config.weight_by, config.sampler)
    weights = LossWeights(weight, np.ones_like(weight))
    order = visiting_order(dataset.train, config.sampler)
    progress = trainer.fit(dataset.train, order, validate, checkpoints, log, weights)
    mae.decoder_is_new = False  # it was trained
    return progress


def make_trainer(mae: Mae, config: FinetuneMae, accelerator: Accelerator) -> Trainer:
    """What trains `mae` in place as `config`, which is settled, says."""
    mae.norm_pix_loss = config.norm_pix_loss
    schedule = Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        monitor=f"validation/{PER_PATCH if config.norm_pix_loss else 'masked_mse'}",  # in the units of the loss
        maximise=False,
        warmup_epochs=config.warmup_epochs,
        cosine=config.optimizer == "adamw",
        keep_best=config.recipe != "original",
        seed=config.seed,
    )
    return Trainer(
        mae,
        _parameter_groups(mae, config.learning_rate, config.weight_decay),
        optimizer=config.optimizer,
        beta2=config.beta2,
        schedule=schedule,
        step_loss=_step_loss(config, mae.n_patches),
        accelerator=accelerator,
        step_options=StepOptions.of(config),
        source_augmentation=SourceAugmentation.of(config, accelerator.device),
    )


def _step_loss(config: FinetuneMae, n_patches: int) -> StepLoss:
    augment = Augment(config.crop_scale, config.rotation, config.flip, config.intensity, config.source_augmentation)

    def loss(model: Mae, batch: Batch, step_random: StepRandom) -> torch.Tensor:
        pixels = augment(batch.pixels, step_random)
        prediction, target, mask = model(pixels, step_random.uniform(n_patches), config.train_mask_ratio)
        return squared_error(prediction, target, mask, config.loss_region)

    return loss


def _parameter_groups(mae: Mae, learning_rate: float, weight_decay: float) -> list[dict]:
    """One group with weight decay, one without, see `is_decayed`."""
    trained = [(parameter, is_decayed(name, parameter)) for name, parameter in mae.named_parameters()]
    return [
        {
            "params": [parameter for parameter, decays in trained if parameter.requires_grad and decays == decayed],
            "lr": learning_rate,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
