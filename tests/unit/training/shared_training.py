"""Small trainings that one process or several can do; for test_shared_training.py.

    python -m tests.unit.training.shared_training FOLDER

Writes FOLDER/histories.json, for each case the metrics of its epochs, and FOLDER/gradients.json.
"""

import json
import sys
from pathlib import Path

import numpy as np

from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.processes import ranks
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import finetune
from fracture_mae.training.batches import batch_of
from fracture_mae.training.checkpoints import Checkpoints, NoCheckpoints
from fracture_mae.training.loss_weights import LossWeights
from tests import builders

# Nine training files and six for validation. In steps of three two processes take two and one, in steps of one the second has none.
CASES = {
    "autoencoder": FinetuneMae(batch_size=4, epochs=3, rotation=10, intensity=0.3),
    "sources hidden": FinetuneMae(batch_size=5, epochs=2, recipe="robust", source_augmentation=1, accumulation=2),
    "one at a time": FinetuneMae(batch_size=1, epochs=2, attention="sdpa"),
    "in parts": FinetuneMae(batch_size=9, epochs=3, weight_by="group", accumulation=3, checkpointing=True),
    "classifier": TrainClassifier(
        batch_size=5, epochs=3, drop_path=0.5, patch_dropout=0.5, class_weight="balanced", weight_by="group"
    ),
}


def train(config, root, accelerator):
    """Metrics of the epochs."""
    options = {
        "accelerator": accelerator,
        "checkpoints": Checkpoints(root, "training", resume=True) if ranks.is_first() else NoCheckpoints(),
        "log": lambda row, epoch: None,
    }
    mae = mae_model.load(
        "vit-mae-nano", image_size=builders.SIDE, seed=ranks.rank()
    )  # only the first one's weights count
    with options["checkpoints"]:
        if isinstance(config, FinetuneMae):
            progress = finetune.train(mae, builders.dataset(), config, **options)
        else:
            classifier = classifier_stage.build(mae, config)
            progress = classifier_stage.train(classifier, builders.dataset(), config, **options)
    accelerator.free_memory()
    return progress.history


def gradients(accelerator):
    """Norm of each weight's gradient after a step of nine, in parts; Adam would hide if it were a multiple of what it should be."""
    mae, xrays = mae_model.load("vit-mae-nano", image_size=builders.SIDE, seed=ranks.rank()), builders.training_xrays()
    trainer = finetune.make_trainer(mae, FinetuneMae(batch_size=9, accumulation=2), accelerator)
    weights = LossWeights(np.arange(1.0, 10.0), np.ones(9))
    for part in trainer._parts(np.arange(9), weights, seed=0):
        batch = batch_of(xrays, part.positions, accelerator.device, part.weight)
        trainer._add_gradient(trainer.forward, batch, trainer._draws(part), part.is_last)
    found = {name: value.grad.norm().item() for name, value in mae.named_parameters() if value.requires_grad}
    accelerator.free_memory()
    return found


if __name__ == "__main__":
    folder, shared = Path(sys.argv[1]), make_accelerator("fp32", "cpu")
    found = {
        "gradients": gradients(shared),
        "histories": {name: train(config, folder / name, shared) for name, config in CASES.items()},
    }
    if ranks.is_first():
        for name, values in found.items():
            (folder / f"{name}.json").write_text(json.dumps(values))
