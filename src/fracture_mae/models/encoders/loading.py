"""Other vision transformers than MAE's as encoders that stay as they are: ViT, DeiT, DINOv2 and BEiT, as transformers loads them."""

import json
import os

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from fracture_mae.errors import FractureMaeError
from fracture_mae.models import hub
from fracture_mae.models.autoencoder import PRESETS, load_normalisation
from fracture_mae.models.pixels import Normalisation

# Name of the class, imported when it is wanted (all take a second), and options, by config.json's model_type. Poolers are left out:
# many checkpoints have none, and they were made for other tasks.
KINDS: dict[str, tuple[str, dict[str, bool]]] = {
    "vit": ("ViTModel", {"add_pooling_layer": False}),
    "deit": ("DeiTModel", {"add_pooling_layer": False}),
    "dinov2": ("Dinov2Model", {}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", {}),
    "beit": ("BeitModel", {"add_pooling_layer": False}),
}
MAE_TYPE = "vit_mae"
_WITHOUT_SAY = ("_name_or_path", "transformers_version", "architectures", "dtype")


class ViTEncoder(nn.Module):
    """A vision transformer with its tokens pooled in both ways; takes grey pixels in [0, 1].

    Args:
        image_size: side of the images [pixels]; where it is not the checkpoint's own, position embeddings are interpolated.
    """

    def __init__(self, network: PreTrainedModel, normalisation: Normalisation, image_size: int):
        super().__init__()
        self.network = network
        self.normalisation = normalisation
        self.image_size = image_size
        self.n_patches = (image_size // network.config.patch_size) ** 2
        # DINOv2 interpolates by itself, and knows no such option.
        resizes = image_size != network.config.image_size and "dinov2" not in network.config.model_type
        self._options = {"interpolate_pos_encoding": True} if resizes else {}

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Grey [B, 1, H, W] in [0, 1] → mean of the patch tokens and CLS token, float32 [B, d] each."""
        tokens = self.network(self.normalisation.apply(pixels), **self._options).last_hidden_state.float()
        # CLS comes first; between it and the patches may stand a distillation token or registers.
        return {"mean": tokens[:, -self.n_patches :].mean(dim=1), "cls": tokens[:, 0]}

    def described(self) -> str:
        config = {name: value for name, value in self.network.config.to_dict().items() if name not in _WITHOUT_SAY}
        return f"{self.normalisation} {self.image_size} {json.dumps(config, sort_keys=True, default=str)}"


def type_of(name: str) -> str | None:
    """The model_type in the config.json of a local folder or of a model on the hub; errors as in `hub.fetch`."""
    name = os.path.expanduser(name)
    return hub.fetch(lambda **options: PreTrainedConfig.get_config_dict(name, **options)[0], name, PRESETS).get(
        "model_type"
    )


def load(name: str, image_size: int | None = None) -> ViTEncoder:
    """The encoder in a local folder or on the hub, every weight of it from safetensors.

    Args:
        image_size: side of the images [pixels]; None: the checkpoint's own.

    Raises:
        FractureMaeError: not to be had, of another architecture, or it cannot take this image size.
    """
    name = os.path.expanduser(name)
    model_type = type_of(name)
    if model_type not in KINDS:
        raise FractureMaeError(
            f"{name} is a model of type {model_type!r}; as encoders are known {', '.join((*KINDS, MAE_TYPE))}. Take one of these."
        )
    kind, options = KINDS[model_type]
    network = hub.load_network(getattr(transformers, kind), name, PRESETS, **options)
    config = network.config
    size = _checked_size(name, config.image_size if image_size is None else image_size, config.patch_size)
    normalisation = load_normalisation(name, config.num_channels)
    return ViTEncoder(network.eval(), _for_channels(normalisation, config.num_channels), size)


def _checked_size(name: str, image_size: object, patch_size: object) -> int:
    if not (isinstance(image_size, int) and isinstance(patch_size, int)):
        raise FractureMaeError(
            f"{name} takes images of {image_size} in patches of {patch_size}; only squares are known."
        )
    if image_size % patch_size:
        raise FractureMaeError(
            f"images of {image_size} pixels do not fall into the patches of {patch_size} pixels that {name} takes: leave --image-size "
            f"at auto, or choose a multiple, such as {image_size // patch_size * patch_size or patch_size}."
        )
    return image_size


def _for_channels(normalisation: Normalisation, num_channels: int) -> Normalisation:
    """The same for a network of several channels where the preprocessor names one value for all."""
    if len(normalisation.mean) == 1:
        return Normalisation(normalisation.mean * num_channels, normalisation.std * num_channels)
    return normalisation
