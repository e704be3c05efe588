"""What a training starts from, and what hangs on that: it is settled, logged and told in a line before the first step."""

from typing import Any, TypeVar

from tqdm import tqdm

from fracture_mae.config import Optimisation, Start
from fracture_mae.models.autoencoder import Mae
from fracture_mae.processes import ranks
from fracture_mae.tracking.registry import is_model_uri
from fracture_mae.tracking.runs import Run

C = TypeVar("C", bound=Optimisation)

_BEGAN_AS: dict[Start, str] = {"random": "random weights", "weights": "pretrained weights"}


def settle(config: C, mae: Mae, run: Run, **known: Any) -> C:
    """The config with nothing left at `auto`, which the run logs as it is really used; one line says what it was settled by.

    Args:
        known: what else the model decides, as `config.settled` takes it.
    """
    settled = config.settled(mae.start, **known)
    run.config(settled)
    run.tags(
        {"start": mae.start, "start.recipe": config.rate_in_words(mae.start), "start.new_decoder": mae.decoder_is_new}
    )
    if ranks.is_first():
        tqdm.write(f"start: {described(mae)} → {config.rate_in_words(mae.start)}")
    return settled


def described(mae: Mae) -> str:
    """Such as `weights of facebook/vit-mae-base`, or `models:/xray-mae/3, which began as random weights`."""
    if is_model_uri(mae.source):
        told = f"{mae.source}, which began as {_BEGAN_AS[mae.start]}"
    else:
        told = f"weights of {mae.source}" if mae.start == "weights" else mae.source
    return f"{told}; its decoder is new, of random weights, as it comes without one" if mae.decoder_is_new else told
