"""Checkpoints of He et al.'s own code (github.com/facebookresearch/mae), .pth files, read as transformers' ViTMAE.

Their names are timm's, queries, keys and values stand in one matrix, and the file says nothing of the architecture: the shapes of the
weights tell it, but for the number of heads, which is that of their models. Only tensors are unpickled, and the options of a training.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from fracture_mae.errors import FractureMaeError, first_line

State = dict[str, torch.Tensor]

_SUFFIXES = (".pth", ".pt")
_HEADS_BY_WIDTH = {1280: 16}  # of ViT-Huge; all others have heads of 64 values
_HEAD, _DECODER_HEAD = 64, 32  # values
_NORM_EPSILON = 1e-6
_MODULES = {  # their name of a module → transformers'
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "decoder_embed": "decoder.decoder_embed",
    "decoder_norm": "decoder.decoder_norm",
    "decoder_pred": "decoder.decoder_pred",
}
_PARAMETERS = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.decoder_pos_embed",
}
_BLOCKS = {"blocks": "vit.layers", "decoder_blocks": "decoder.decoder_layers"}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_EXPECTED = "Expected is a file that the code of He et al. wrote, such as mae_pretrain_vit_base.pth or mae_visualize_vit_base.pth"


def is_file(name: str) -> bool:
    """Whether a name is that of such a file rather than a folder's or the hub's."""
    return name.endswith(_SUFFIXES)


def read(name: str) -> tuple[ViTMAEConfig, State]:
    """The config, and the weights by transformers' names, of an encoder with or without its decoder.

    Raises:
        FractureMaeError: there is no such file, it holds something else or more than tensors, or weights are missing.
    """
    content = _unpickled(name)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FractureMaeError(f"{name} holds no weights of a masked autoencoder. {_EXPECTED}.")
    try:
        config = _config(state, _predicts_normalised(name, content.get("args")))
        renamed = _renamed({key: value.float() for key, value in state.items()})
    except (LookupError, ValueError, RuntimeError) as error:
        raise FractureMaeError(
            f"{name} holds no whole masked autoencoder with a plain vision transformer ({first_line(error)}). {_EXPECTED}."
        ) from error
    _check_whole(name, config, renamed)
    return config, renamed


def _unpickled(name: str) -> Any:
    if not Path(name).is_file():
        raise FractureMaeError(f"there is no file {name}. Give an existing one, a folder, or a hub name.")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the options of a training, which run nothing
            return torch.load(name, map_location="cpu", weights_only=True)
    except (
        UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise FractureMaeError(
            f"{name} cannot be read as weights: it is damaged, or holds more than tensors, and such a file may run any program when "
            f"it is opened, so it was not. {_EXPECTED}."
        ) from error


def _predicts_normalised(name: str, options: Any) -> bool:
    """What a file cannot say by shapes: the options of its training do, or else its name; of their models all but two kinds do."""
    return bool(getattr(options, "norm_pix_loss", "visualize" not in Path(name).name))


def _config(state: Mapping[str, torch.Tensor], norm_pix_loss: bool) -> ViTMAEConfig:
    width, num_channels, patch_size, _ = state["patch_embed.proj.weight"].shape
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    decoder = {}
    if "decoder_embed.weight" in state:
        decoder_width = len(state["decoder_embed.weight"])
        decoder = {
            "decoder_hidden_size": decoder_width,
            "decoder_num_hidden_layers": _n_blocks(state, "decoder_blocks"),
            "decoder_num_attention_heads": max(1, decoder_width // _DECODER_HEAD),
            "decoder_intermediate_size": len(state["decoder_blocks.0.mlp.fc1.weight"]),
        }
    return ViTMAEConfig(
        image_size=side * patch_size,
        patch_size=patch_size,
        num_channels=num_channels,
        hidden_size=width,
        num_hidden_layers=_n_blocks(state, "blocks"),
        num_attention_heads=_HEADS_BY_WIDTH.get(width, max(1, width // _HEAD)),
        intermediate_size=len(state["blocks.0.mlp.fc1.weight"]),
        layer_norm_eps=_NORM_EPSILON,
        norm_pix_loss=norm_pix_loss,
        **decoder,
    )


def _n_blocks(state: Mapping[str, torch.Tensor], kind: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{kind}.")})


def _renamed(state: Mapping[str, torch.Tensor]) -> State:
    """Weights by transformers' names; those of other heads than a decoder's are left out."""
    renamed: State = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        block = re.fullmatch(r"(blocks|decoder_blocks)\.(\d+)\.(.+)", module)
        if key in _PARAMETERS:
            renamed[_PARAMETERS[key]] = value
        elif module in _MODULES:
            renamed[f"{_MODULES[module]}.{kind}"] = value
        elif block and block[3] == "attn.qkv":
            place = f"{_BLOCKS[block[1]]}.{block[2]}"
            renamed |= {f"{place}.{each}.{kind}": part for each, part in zip(_QKV, value.chunk(3), strict=True)}
        elif block:
            renamed[f"{_BLOCKS[block[1]]}.{block[2]}.{_IN_BLOCK[block[3]]}.{kind}"] = value
    return renamed


def _check_whole(name: str, config: ViTMAEConfig, state: State) -> None:
    """Refuse what lacks weights, but for a decoder of which there is nothing at all."""
    with torch.device("meta"):
        expected = {key: value.shape for key, value in ViTMAEForPreTraining(config).state_dict().items()}
    has_decoder = any(key.startswith("decoder.") for key in state)
    wanted = {key for key in expected if has_decoder or not key.startswith("decoder.")}
    wrong = sorted(key for key in wanted if key not in state or state[key].shape != expected[key])
    if wrong:
        raise FractureMaeError(
            f"{name} lacks {len(wrong)} weights of a masked autoencoder, or has them in another shape, the first of them {wrong[0]}. "
            f"{_EXPECTED}; of a network that was fine-tuned to classify, take what it was fine-tuned from."
        )
