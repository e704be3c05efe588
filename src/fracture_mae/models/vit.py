"""What the networks on a ViTMAE encoder share: patches, tokens of the patches that are shown, and how layers are computed."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, ViTMAEModel

from fracture_mae.models.blocks import recompute_blocks

# What the names of parameters end with that are values by themselves, not factors of an input, whatever their shape.
_NOT_DECAYED = ("token", "tokens", "position_embeddings", "pos_embed", "relative_position_bias_table")


def patches_of(pixels: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Pixels [B, C, H, W] → patches [B, L, patch² · C], row by row, the channel running fastest, as ViTMAE's `patchify`."""
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch_size, width // patch_size
    grid = pixels.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_size**2 * channels)


def tokens_of(encoder: ViTMAEModel, patches: torch.Tensor, shown: torch.Tensor | None = None) -> torch.Tensor:
    """What the encoder's first layer reads: the CLS token, then the patches that are shown, each with its position.

    ViTMAE's own embeddings project all patches and then leave most of them out; here only those shown are projected.

    Args:
        patches: [B, L, patch² · C], see `patches_of`, normalised.
        shown: int64 [B, K], numbers of patches; None: all, in their order.

    Returns:
        [B, 1 + K, hidden_size].
    """
    embeddings = encoder.embeddings
    cls_position, position = embeddings.position_embeddings[:, :1], embeddings.position_embeddings[:, 1:]  # [1, L, d]
    if shown is not None:
        patches = patches.gather(1, shown.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        position = F.embedding(shown, position[0])  # [B, K, d]; the gradient of an index is summed in any order
    projection = embeddings.patch_embeddings.projection
    weight = projection.weight.permute(0, 2, 3, 1).flatten(1)  # [d, patch² · C], in the order of a patch's pixels
    tokens = F.linear(patches, weight, projection.bias) + position
    cls = (embeddings.cls_token + cls_position).expand(len(patches), -1, -1)
    return torch.cat([cls, tokens], dim=1)


def encode(
    encoder: ViTMAEModel,
    patches: torch.Tensor,
    shown: torch.Tensor | None = None,
    skip: tuple[Sequence[float], torch.Tensor] | None = None,
    *,
    lowered: bool = False,
) -> torch.Tensor:
    """What the encoder makes of the patches that it is shown.

    Args:
        patches, shown: as in `tokens_of`.
        skip: stochastic depth: each layer's rate [N], and float [B, N] in [0, 1): a layer whose number is below its rate is skipped
            for that image. None: no layer is skipped.
        lowered: whether tokens between layers are in the precision of matrix products, see `as_multiplied`.

    Returns:
        Tokens, CLS first, [B, 1 + K, hidden_size].
    """
    tokens = tokens_of(encoder, patches, shown)
    tokens = as_multiplied(tokens) if lowered else tokens
    rates, chance = skip or ([0.0] * len(encoder.layers), None)
    for number, (layer, rate) in enumerate(zip(encoder.layers, rates, strict=True)):
        result = layer(tokens)
        tokens = _kept_or_skipped(tokens, result, rate, chance[:, number]) if rate else result
    return encoder.layernorm(tokens)


def _kept_or_skipped(tokens: torch.Tensor, result: torch.Tensor, rate: float, chance: torch.Tensor) -> torch.Tensor:
    """A layer's input and result [B, 1 + K, d] → what the next reads: what it added is left out where `chance` [B] is below `rate`."""
    kept = chance.view(-1, 1, 1) >= rate
    return tokens + (result - tokens) * kept / (1 - rate)


def as_multiplied(tokens: torch.Tensor) -> torch.Tensor:
    """In the precision of matrix products, where autocast lowers that: layers move what they add to more often than all else.

    Norms and the loss are computed in float32 all the same.
    """
    return tokens.to(product_dtype(tokens))


def product_dtype(tokens: torch.Tensor) -> torch.dtype:
    """The arithmetic of matrix products of these tokens: that of autocast, or their own outside of it."""
    kind = tokens.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokens.dtype


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is for a parameter: for matrices and kernels, not for biases, norms, tokens and positions (He et al.)."""
    return parameter.ndim > 1 and not name.endswith(_NOT_DECAYED)


def recompute_activations(model: nn.Module, recompute: bool) -> None:
    """Whether layers forget their activations and compute them again in the backward pass, which saves memory."""
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        if not module.supports_gradient_checkpointing:
            recompute_blocks(module, recompute)
        elif recompute:
            module.activation_checkpointing_enable()
        else:
            module.activation_checkpointing_disable()
