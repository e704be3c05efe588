"""Loading what transformers loads: from a local folder, the Hugging Face cache, or the hub, and never something else instead."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import _CACHED_NO_EXIST, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError, StrictDataclassError
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from fracture_mae.errors import FractureMaeError, causes, first_line

T = TypeVar("T")
TIMM_TYPE = "timm_wrapper"
REACH_TIMEOUT = 5.0  # seconds until a silent hub counts as out of reach

logger = logging.getLogger(__name__)

# Where the hub has pickled weights alone, transformers would ask a public service to convert them and take what that answers.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "true"


def load_network(kind: type[PreTrainedModel], name: str, presets: Iterable[str], **settings: Any) -> PreTrainedModel:
    """A network in float32, every weight of which comes from the checkpoint; safetensors only, nothing is unpickled.

    Args:
        kind: class of the network, such as ViTMAEForPreTraining.
        name: local folder or hub name.
        presets: names to offer where the hub is out of reach.
        settings: for the class itself, such as add_pooling_layer.

    Raises:
        FractureMaeError: not to be had, of another architecture, or weights are missing.
    """
    network, missing = _load(kind, name, presets, settings)
    _check_whole(missing, kind, name)
    return network


def load_with_or_without(
    part: str, kind: type[PreTrainedModel], name: str, presets: Iterable[str], **settings: Any
) -> tuple[PreTrainedModel, bool]:
    """As `load_network`, and whether the checkpoint has a part of the network; all of it may be missing, and is random then.

    Args:
        part: its name in the network, such as decoder.
    """
    network, missing = _load(kind, name, presets, settings)
    of_part = {key for key in network.state_dict() if key.startswith(f"{part}.")}
    has_part = not of_part <= missing
    _check_whole(missing if has_part else missing - of_part, kind, name)
    return network, has_part


def _check_whole(missing: set[str], kind: type[PreTrainedModel], name: str) -> None:
    if missing:
        raise FractureMaeError(
            f"{name} lacks {len(missing)} weights of a {kind.__name__}, the first of them {min(missing)}: random values would stand "
            "in their place. Take a checkpoint that is whole."
        )


def _load(
    kind: type[PreTrainedModel], name: str, presets: Iterable[str], settings: dict[str, Any]
) -> tuple[PreTrainedModel, set[str]]:
    """The network, and the names of the weights that the checkpoint lacks."""

    def load(**options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
        try:
            return kind.from_pretrained(
                name,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=False,
                **settings,
                **options,
            )
        except (SafetensorError, RuntimeError, StrictDataclassError) as error:
            raise FractureMaeError(
                f"the weights of {name} are damaged or do not fit its config.json: {_reason(error)} Take a checkpoint that is whole."
            ) from error

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # not its report of weights that are left over; what is missing is told below
    config = fetch(lambda **options: kind.config_class.get_config_dict(name, **options)[0], name, presets)
    if model_type_in(config) != kind.config_class.model_type:
        raise FractureMaeError(
            f"{name} is a model of type {model_type_in(config)!r}, but {kind.config_class.model_type!r} is needed here "
            "(such as facebook/vit-mae-base)."
        )
    network, info = fetch(load, name, presets)
    return network, set(info["missing_keys"])


def model_type_in(config: dict[str, Any]) -> str | None:
    """The model_type of a config.json; timm's own name none.

    Raises:
        ValueError: it is no JSON object.
    """
    if not isinstance(config, dict):
        raise ValueError(f"its config.json holds a {type(config).__name__}, not an object")
    return config.get("model_type") or (TIMM_TYPE if "pretrained_cfg" in config else None)


def fetch_file(name: str, filename: str, presets: Iterable[str]) -> Path | None:
    """One file of a model, or None where the model has none; arguments and errors as in `fetch`."""

    def download(**options: Any) -> Path | None:
        try:
            return Path(hf_hub_download(name, filename, **options))
        except RemoteEntryNotFoundError:
            return None

    if Path(name).is_dir():
        return Path(name, filename) if Path(name, filename).exists() else None
    if try_to_load_from_cache(name, filename) is _CACHED_NO_EXIST:
        return None
    return fetch(download, name, presets)


def fetch(load: Callable[..., T], name: str, presets: Iterable[str]) -> T:
    """Call `load` on a local folder, on the cache, or on the hub, whichever has `name` first.

    Args:
        load: takes `local_files_only`, raises OSError or ValueError where the files are not to be had.
        name: local folder or hub name.
        presets: names to offer where the hub is out of reach.
    """
    if Path(name).is_dir():
        try:
            return load(local_files_only=True)
        except (OSError, ValueError) as error:
            raise FractureMaeError(
                f"the folder {name} does not hold a model that can be loaded: {_reason(error)} Expected are config.json and "
                "model.safetensors, as save_pretrained writes them."
            ) from error
    if name.startswith((".", "/")):
        raise FractureMaeError(
            f"the model folder {name} does not exist. Give an existing folder, a hub name, or {_listed(presets)}."
        )
    try:
        return load(local_files_only=True)
    except (OSError, ValueError):
        _require_hub(name, presets)
    try:
        return load()
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise FractureMaeError(f"the hub did not give {name}: {_reason(error)} {_ways_out(presets)}") from error


def _require_hub(name: str, presets: Iterable[str]) -> None:
    """Fail within seconds where the hub does not answer; the hub's own client would retry for half a minute or more."""
    reason = (
        "HF_HUB_OFFLINE is set"
        if constants.is_offline_mode()
        else _unreachable(os.environ.get("HF_ENDPOINT", constants.ENDPOINT))
    )
    if reason:
        raise FractureMaeError(
            f"{name} is neither a folder here nor whole in the Hugging Face cache ({constants.HF_HUB_CACHE}), and the hub is out of "
            f"reach ({reason}). {_ways_out(presets)}"
        )


def _unreachable(endpoint: str) -> str | None:
    try:
        httpx.head(endpoint, timeout=REACH_TIMEOUT, follow_redirects=False)
    except httpx.HTTPError as error:
        return f"{endpoint}: {error or type(error).__name__}"
    return None


def _ways_out(presets: Iterable[str]) -> str:
    return (
        "Ways out: (1) give a local folder with config.json and model.safetensors; (2) fill the cache where there is a network "
        f"(`hf download NAME`) and bring it here, or point HF_HOME at it; (3) take a preset with random weights: {_listed(presets)}."
    )


def _listed(presets: Iterable[str]) -> str:
    return ", ".join(presets)


def _reason(error: BaseException) -> str:
    """The error in a line; where a connection broke, that error rather than what transformers makes of it."""
    broken = (cause for cause in causes(error) if isinstance(cause, httpx.TransportError))
    return first_line(next(broken, error)) + "."
