"""What bf16 on a processor changes, by each way to compute attention there: the end of trainings, and the answers of a classifier.

    python -m benchmarks.bf16 --seeds 0 1 2 --epochs 15 --classifier-epochs 60

On built-in X-rays at 32 pixels with `vit-mae-nano`, so that a seed takes three minutes where bf16 is computed in software, too. It
tells nothing of speed; for that, `mlflow run . -e benchmark -P only=step,forward` on a processor that has bf16.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from scipy.special import expit

from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.data.reading.preprocessing import LETTERBOX
from fracture_mae.data.types import Dataset
from fracture_mae.evaluation.prediction import predict
from fracture_mae.models import autoencoder
from fracture_mae.models.attention import SDPA, WRITTEN_OUT, use_attention
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import finetune, inputs
from fracture_mae.training.checkpoints import NoCheckpoints

_WAYS = (("fp32", SDPA), ("bf16", SDPA), ("bf16", WRITTEN_OUT))
_SHARED = {
    "data_dir": "synthetic:n_xrays=400",
    "image_size": 32,
    "batch_size": 32,
    "compile": False,
    "device": "cpu",
}
# So small a picture hardly shows a fracture: a network that learns its training X-rays by heart gives answers far from 1/2, too.
_BY_HEART = {
    "learning_rate": 1e-3,
    "layer_decay": 1.0,
    "drop_path": 0.0,
    "patch_dropout": 0.0,
}
_BY_HEART |= {"crop_scale": 1.0, "rotation": 0.0, "flip": False, "intensity": 0.0, "selection": "last", "patience": 0}


def accelerator_of(precision: str) -> Accelerator:
    """Of this precision, whichever there was before."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return make_accelerator(precision, "cpu")


def trained(dataset: Dataset, seed: int, epochs: int, precision: str, attention: str) -> tuple[Mae, float]:
    """An autoencoder trained so, and its masked error on validation after the last epoch."""
    config = FinetuneMae(
        **_SHARED, model="vit-mae-nano", epochs=epochs, seed=seed, precision=precision, attention=attention
    )
    mae = autoencoder.load(config.model, image_size=config.image_size, seed=seed)
    config = config.settled(mae.start, norm_pix_loss=mae.norm_pix_loss)
    progress = _kept(finetune.train, mae, dataset, config, accelerator_of(precision))
    return mae, progress.history[-1]["validation/masked_mse"]


def trained_classifier(mae: Mae, dataset: Dataset, seed: int, epochs: int) -> FractureClassifier:
    """A classifier on the autoencoder's encoder, trained in fp32."""
    config = TrainClassifier(**_SHARED, **_BY_HEART, epochs=epochs, seed=seed, precision="fp32", attention=SDPA)
    config = config.settled(mae.start)
    classifier = classifier_stage.build(MaeEncoder.of(copy.deepcopy(mae)), config)
    _kept(classifier_stage.train, classifier, dataset, config, accelerator_of("fp32"))
    return classifier


def _kept(train: Callable[..., Any], model: Any, dataset: Dataset, config: Any, accelerator: Accelerator) -> Any:
    settings = {"accelerator": accelerator, "checkpoints": NoCheckpoints(), "log": lambda row, epoch: None}
    return train(model, dataset, config, **settings)


def answers(classifier: FractureClassifier, dataset: Dataset, precision: str, attention: str) -> np.ndarray:
    """Probabilities for all X-rays, before any calibration, [n]."""
    use_attention(classifier, attention)
    asked = {"batch_size": _SHARED["batch_size"], "accelerator": accelerator_of(precision)}
    tables = [predict(classifier, each, **asked) for each in dataset.sides]
    return expit(pd.concat(tables)["logit"].to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--classifier-epochs", type=int, default=60)
    asked = parser.parse_args()
    dataset = inputs.load_training_data(FinetuneMae(**_SHARED), _SHARED["image_size"], preprocess=LETTERBOX)
    ends, changes = [], []
    for seed in asked.seeds:
        maes = {way: trained(dataset, seed, asked.epochs, *way) for way in _WAYS}
        ends.append({"seed": seed} | {" ".join(way): error for way, (_, error) in maes.items()})
        classifier = trained_classifier(maes[_WAYS[0]][0], dataset, seed, asked.classifier_epochs)
        exact, *others = (answers(classifier, dataset, *way) for way in _WAYS)
        for way, found in zip(_WAYS[1:], others, strict=True):
            change = np.abs(found - exact)
            changes.append(
                {
                    "seed": seed,
                    "way": " ".join(way),
                    "n": len(exact),
                    "deviation": exact.std(),
                    "median change": np.median(change),
                    "below 0.001": (change < 1e-3).mean(),
                    "largest change": change.max(),
                    "n decided otherwise": int(((found >= 0.5) != (exact >= 0.5)).sum()),
                }
            )
    print("masked error on validation after the last epoch, by seed")
    print(pd.DataFrame(ends).to_string(index=False))
    print("probabilities of a classifier trained in fp32, against those it gives in fp32")
    print(pd.DataFrame(changes).to_string(index=False))


if __name__ == "__main__":
    main()
