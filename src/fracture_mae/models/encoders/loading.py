"""Encoders from a local folder or the hub, as transformers loads them, and those of classifiers, from their configs alone."""

import importlib
import inspect
import os
from pathlib import Path
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    BeitForMaskedImageModeling,
    PreTrainedConfig,
    PreTrainedModel,
    ViTMAEModel,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.models import hub, preprocessor
from fracture_mae.models.autoencoder import PRESETS, check_image_size
from fracture_mae.models.encoders.mae import MaeEncoder
from fracture_mae.models.encoders.network import NetworkEncoder
from fracture_mae.models.encoders.tokens import Encoder
from fracture_mae.models.pixels import Normalisation
from fracture_mae.models.preprocessor import Preprocessor

MAE_TYPE = "vit_mae"
_KNOWN = "ViTMAE, ViT, DeiT, BEiT, DINOv2, DINOv3, Swin, ConvNeXt, EfficientNet, ResNet and timm's"
# Of the network's own stochastic depth: what is left out while training is decided by `Encoder.regularise` alone.
_OWN_DROP_RATES = ("drop_path_rate", "drop_connect_rate")


def type_of(name: str) -> str | None:
    """The model_type in the config.json of a local folder or of a model on the hub; errors as in `hub.fetch`."""
    return hub.model_type_in(_config_dict(os.path.expanduser(name)))


def load(name: str, image_size: int | None = None) -> NetworkEncoder:
    """The encoder in a local folder or on the hub, every weight of it from safetensors; for a ViTMAE see `MaeEncoder`.

    Args:
        image_size: side of the pictures [pixels]; None: that which the checkpoint's preprocessor makes.

    Raises:
        FractureMaeError: not to be had, no encoder of pictures, or it cannot take this image size.
    """
    name = os.path.expanduser(name)
    told = _config_dict(name)
    kind = _class_of(hub.model_type_in(told), name)
    config = hub.fetch(lambda **options: kind.config_class.from_pretrained(name, **options), name, PRESETS)
    network = _load_network(kind, config, name, told.get("architectures") or [])
    file = hub.fetch_file(name, preprocessor.FILE, PRESETS)
    prepared = Preprocessor.of(file, network.config)
    size = image_size or prepared.image_size or _own_size(network.config)
    check_image_size(name, size, getattr(network.config, "patch_size", 1) or 1)
    return NetworkEncoder(network.eval(), prepared.normalisation, size, name)


def built(folder: Path, normalisation: Normalisation, image_size: int | None) -> Encoder:
    """The encoder that a classifier's config.json describes, its weights still at random.

    Args:
        image_size: side of the pictures [pixels]; None: the config's own.

    Raises:
        FractureMaeError: this version of transformers does not know it, or timm is wanted and not installed.
    """
    model_type = hub.model_type_in(PreTrainedConfig.get_config_dict(folder)[0])
    kind = _class_of(model_type, str(folder))
    config = AutoConfig.from_pretrained(folder)
    if model_type == MAE_TYPE:
        return MaeEncoder(ViTMAEModel(config), normalisation)
    return NetworkEncoder(
        kind(config, **_settings(kind, config)), normalisation, image_size or config.image_size, str(folder)
    )


def _config_dict(name: str) -> dict[str, Any]:
    return hub.fetch(lambda **options: PreTrainedConfig.get_config_dict(name, **options)[0], name, PRESETS)


def _class_of(model_type: str | None, name: str) -> type[PreTrainedModel]:
    """The class of transformers that computes a last hidden state of pictures alone."""
    if model_type == hub.TIMM_TYPE:
        _require_timm(name)
    kind = MODEL_MAPPING.get(CONFIG_MAPPING[model_type], None) if model_type in CONFIG_MAPPING else None
    kind = kind[0] if isinstance(kind, (list, tuple)) else kind
    if kind is None or kind.main_input_name != "pixel_values":
        raise FractureMaeError(
            f"{name} is a model of type {model_type!r}, which does not make tokens of pictures alone. Take the encoder of another "
            f"one, such as {_KNOWN}."
        )
    return kind


def _require_timm(name: str) -> None:
    try:
        importlib.import_module("timm")
    except (ImportError, RuntimeError, AttributeError) as error:  # such as for a torchvision that does not fit torch
        raise FractureMaeError(
            f"{name} is a network of timm, which cannot be imported here ({first_line(error)}): install it with "
            "`pip install 'fracture-mae[timm]'`, together with the torchvision that fits your torch."
        ) from error


def _settings(kind: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, bool]:
    """Poolers are left out: many checkpoints have none, and they were made for other tasks. BEiT's, though, holds its last norm."""
    if "add_pooling_layer" not in inspect.signature(kind.__init__).parameters:
        return {}
    return {"add_pooling_layer": bool(getattr(config, "use_mean_pooling", False))}


def _load_network(
    kind: type[PreTrainedModel], config: PreTrainedConfig, name: str, architectures: list[str]
) -> PreTrainedModel:
    without_own = {rate: 0.0 for rate in _OWN_DROP_RATES if hasattr(config, rate)}
    if BeitForMaskedImageModeling.__name__ in architectures and config.use_mean_pooling:
        whole = hub.load_network(BeitForMaskedImageModeling, name, PRESETS, **without_own)
        return _with_last_norm(whole)
    return hub.load_network(kind, name, PRESETS, **_settings(kind, config), **without_own)


def _with_last_norm(whole: BeitForMaskedImageModeling) -> PreTrainedModel:
    """BEiT as it was pretrained norms each token last, but outside of its encoder."""
    network = whole.beit
    network.layernorm = whole.layernorm
    network.config.use_mean_pooling = False
    return network


def _own_size(config: PreTrainedConfig) -> int:
    size = getattr(config, "image_size", None) or 224
    return size[0] if isinstance(size, (list, tuple)) and len(set(size)) == 1 else size
