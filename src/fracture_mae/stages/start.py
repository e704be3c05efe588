"""What a training starts from, and what hangs on that: it is settled, logged and told in a line before the first step."""

from typing import Any, TypeVar

from tqdm import tqdm

from fracture_mae.config import Optimisation, Start
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes import ranks
from fracture_mae.tracking.registry import is_model_uri
from fracture_mae.tracking.runs import Run

C = TypeVar("C", bound=Optimisation)

_BEGAN_AS: dict[Start, str] = {"random": "random weights", "weights": "pretrained weights"}


def settle(config: C, model: Mae | Encoder, run: Run, **known: Any) -> C:
    """The config with nothing left at `auto`, which the run logs as it is really used; one line says what it was settled by.

    Args:
        known: what else the model decides, as `config.settled` takes it.
    """
    settled = config.settled(model.start, **known)
    run.config(settled)
    run.tags(
        {
            "start": model.start,
            "start.recipe": config.rate_in_words(model.start),
            "start.new_decoder": _decoder_is_new(model),
        }
    )
    if ranks.is_first():
        head = "; head: a linear probe" if getattr(settled, "head_init", "random") == "probe" else ""
        tqdm.write(f"start: {described(model)} → {config.rate_in_words(model.start)}{head}")
    return settled


def described(model: Mae | Encoder) -> str:
    """Such as `weights of facebook/vit-mae-base`, or `models:/xray-mae/3, which began as random weights`."""
    if is_model_uri(model.source):
        told = f"{model.source}, which began as {_BEGAN_AS[model.start]}"
    else:
        told = f"weights of {model.source}" if model.start == "weights" else model.source
    return f"{told}; its decoder is new, of random weights, as it comes without one" if _decoder_is_new(model) else told


def _decoder_is_new(model: Mae | Encoder) -> bool:
    return isinstance(model, Mae) and model.decoder_is_new
