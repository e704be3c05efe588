"""Tiny random checkpoints of many architectures, made here, saved as transformers saves them; and classifiers on a tiny MAE."""

import copy

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import encoders

SIDE = 64  # pixels
_VIT = {
    "image_size": SIDE,
    "patch_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_SWIN = {"image_size": SIDE, "patch_size": 8, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4}
_CONVNEXT = {"image_size": SIDE, "hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, "patch_size": 8}
_EFFICIENTNET = {
    "image_size": SIDE,
    "width_coefficient": 0.25,
    "depth_coefficient": 1.0,
    "hidden_dim": 320,
    "in_channels": [32, 16, 24],
    "out_channels": [16, 24, 40],
    "kernel_sizes": [3, 3, 5],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 2],
    "expand_ratios": [1, 6, 6],
}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1], "layer_type": "basic"}
# Name → class of the config, its values, and rows (as many as columns) of the grid.
FAMILIES = {
    "vit": ("ViTConfig", _VIT, 4),
    "deit": ("DeiTConfig", _VIT, 4),
    "beit": ("BeitConfig", _VIT | {"use_relative_position_bias": True}, 4),
    "beit_cls": ("BeitConfig", _VIT | {"use_mean_pooling": False, "use_mask_token": True}, 4),
    "dinov2": ("Dinov2Config", _VIT, 4),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", _VIT, 4),
    "dinov3_vit": ("DINOv3ViTConfig", _VIT | {"num_register_tokens": 3, "pos_embed_rescale": 2.0}, 4),
    "dinov3_convnext": (
        "DINOv3ConvNextConfig",
        {"image_size": SIDE, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 2]},
        4,
    ),
    "swin": ("SwinConfig", _SWIN, 4),
    "swinv2": ("Swinv2Config", _SWIN, 4),
    "convnext": ("ConvNextConfig", _CONVNEXT, 4),
    "convnextv2": ("ConvNextV2Config", _CONVNEXT, 4),
    "efficientnet": ("EfficientNetConfig", _EFFICIENTNET, 8),
    "resnet": ("ResNetConfig", _RESNET, 8),
}


def network_of(family, **changes):
    """A network of the family with random weights, in evaluation mode, the same each time."""
    config_class, values, _ = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**values | changes)
    return MODEL_MAPPING[type(config)](config).eval()


def save_network(folder, family, *, std=None, **changes):
    """Save one in the folder and return it.

    Args:
        std: of all its weights; None: as transformers sets them. Zeros, such as of tokens, may hide a mistake.
    """
    network = network_of(family, **changes)
    if std:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=std)
    network.save_pretrained(folder)
    return network


def encoder_of(folder, family, image_size=SIDE, **changes):
    """Such a one, saved in the folder, as an encoder."""
    save_network(folder, family, **changes)
    return encoders.load(str(folder), image_size)


def pixels(side=SIDE, n=2):
    """Grey pictures, the same each time."""
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


def classifier_on(mae, pool="mean", **options):
    return classifier_model.from_mae(copy.deepcopy(mae), pool=pool, **options)


def random_pixels(n=2):
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))
