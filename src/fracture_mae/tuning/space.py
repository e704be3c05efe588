"""What may vary from trial to trial."""

import json
from typing import Any

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from fracture_mae.config import Start, TrainClassifier, Tune
from fracture_mae.evaluation.frozen_features import POOLS
from fracture_mae.models.encoders import Encoder

HEADS = ("logistic", "ridge", "mlp")
SAMPLERS = ("file", "class", "xray", "xray_class")

Space = dict[str, BaseDistribution]


def space_of(config: Tune, start: Start, encoder: Encoder | None = None) -> Space:
    """The parameters of a trial and their ranges; `class_weight` is the weight of a fractured X-ray beside 1.

    Args:
        start: what the encoder began as: learning rates are searched about that of the recipe for it.
        encoder: what its architecture knows nothing of does not vary; None: one that knows all.
    """
    space = _HEAD
    if config.depth == "finetune":
        recipe = TrainClassifier(**config.shared()).settled(start)
        space = _FINETUNE | {"learning_rate": _about(recipe.learning_rate), "epochs": _epochs(config.max_epochs)}
    if encoder and not encoder.has_cls and "pool" in space:
        space = space | {"pool": CategoricalDistribution(("mean",))}
    if encoder and not encoder.can_skip_blocks:
        space = {name: distribution for name, distribution in space.items() if name != "drop_path"}
    space = space | {name: CategoricalDistribution((value,)) for name, value in _given(config).items()}
    # Where both rates are wanted at once, each trial stands for one place on the curve between them.
    return space | ({"aimed_sensitivity": FloatDistribution(0.5, 1)} if config.objective == "pareto" else {})


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """A value for each parameter of `space`."""
    return {name: _suggest(trial, name, distribution) for name, distribution in space.items()}


def described(space: Space) -> dict[str, Any]:
    """The space as JSON can hold it, equal for equal spaces."""
    return {name: json.loads(distribution_to_json(distribution)) for name, distribution in space.items()}


def augmentation(strength: float) -> dict[str, float]:
    """The augmentation of `train_classifier` at a strength in [0, 1]: none at 0, about that of its default recipe at 0.6."""
    values = {"crop_scale": 1 - 0.8 * strength, "rotation": 30 * strength, "intensity": 0.5 * strength}
    return {name: round(value, 4) for name, value in values.items()}


_HEAD: Space = {
    "head": CategoricalDistribution(HEADS),
    "pool": CategoricalDistribution(POOLS),
    "regularisation": FloatDistribution(1e-3, 10, log=True),
    "class_weight": FloatDistribution(0.1, 10, log=True),
}
_FINETUNE: Space = {
    "class_weight": FloatDistribution(0.1, 10, log=True),
    "sampler": CategoricalDistribution(SAMPLERS),
    "layer_decay": FloatDistribution(0.5, 1),
    "drop_path": FloatDistribution(0, 0.3),
    "augmentation": FloatDistribution(0, 1),
    "source_augmentation": FloatDistribution(0, 1),
    "label_smoothing": FloatDistribution(0, 0.2),
}


def _about(rate: float) -> FloatDistribution:
    """From a tenth of the rate to five times as much, rounded, so that equal spaces are told as equal."""
    lowest, highest = (float(f"{rate * factor:.3g}") for factor in (0.1, 5))
    return FloatDistribution(lowest, min(highest, 1.0), log=True)


def _given(config: Tune) -> dict[str, Any]:
    """What all trials have in common because it was asked for; in the space, so that a study of something else is not gone on with."""
    names = ("pool",) if config.depth == "head" else ("pool", "place_weight")
    return {name: value for name in names if (value := getattr(config, name)) != "auto"}


def _epochs(most: int) -> IntDistribution:
    return IntDistribution(max(1, most // 3), most)


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
