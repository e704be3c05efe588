"""How attention is computed: which kernels, for which device and arithmetic. The results agree but for rounding."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.deit.modeling_deit import DeiTAttention
from transformers.models.dinov2.modeling_dinov2 import Dinov2Attention
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersAttention
from transformers.models.vit.modeling_vit import ViTAttention
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEAttention, ViTMAEPreTrainedModel

from fracture_mae.models.vit import product_dtype

SDPA, EAGER, WRITTEN_OUT = "sdpa", "eager", "written_out"
_FUSED, _PLAIN = "fracture_mae_sdpa", "fracture_mae_written_out"
_SHORT = 64  # tokens
# Tokens for each value of a head, up to which attention's weights take no more memory than the rest of what a layer keeps for the
# backward pass, which is about 16 values for each value of a token.
_LONG = 16
# What projects query, key and value by three linear layers of these names and then asks the attention of its config.
_PROJECTING = (ViTMAEAttention, ViTAttention, DeiTAttention, Dinov2Attention, Dinov2WithRegistersAttention)


def usual(device: torch.device, dtype: torch.dtype) -> str | None:
    """The attention by which a training is known to be the fastest where products are computed in `dtype`; None: it is to be measured.

    In bf16 on a processor, PyTorch's fused kernel took 42 % of a training step of `vit-mae-tiny`, nearly all in its backward pass,
    and products written out a quarter of that. What is not trained has no such pass, and keeps the fused kernel, which rounds less.
    """
    return WRITTEN_OUT if device.type == "cpu" and dtype == torch.bfloat16 else None


def use_attention(model: nn.Module, implementation: str) -> None:
    """Let all attention in the model be computed by "sdpa" (fused), "eager" (plain products of transformers) or "written_out"
    (products in the arithmetic of autocast throughout, query, key and value by one of them).

    A network that knows only some of them keeps what is nearest. Names of weights stay as they are.
    """
    for module in model.modules():
        if isinstance(module, ViTMAEAttention):
            # The decoder's config is one of its own.
            named = {SDPA: _FUSED, WRITTEN_OUT: _PLAIN}
            module.config._attn_implementation = named.get(implementation, implementation)
        elif isinstance(module, PreTrainedModel) and not isinstance(module, ViTMAEPreTrainedModel):
            module.config._attn_implementation = _known_to(module, implementation)
    _project_at_once(model, implementation == WRITTEN_OUT)


def _known_to(network: PreTrainedModel, implementation: str) -> str:
    if implementation == WRITTEN_OUT and network._supports_attention_backend:
        return _PLAIN
    return SDPA if implementation != EAGER and network._supports_sdpa else EAGER


def _project_at_once(model: nn.Module, at_once: bool) -> None:
    """Let layers that can have query, key and value by one product, or as transformers has them."""
    for module in model.modules():
        if isinstance(module, _PROJECTING):
            vars(module).pop("forward", None)
            if at_once:
                module.forward = partial(_attend, module)


def _attend(
    module: nn.Module, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Forward pass of one of `_PROJECTING`, where attention is written out with one product for query, key and value."""
    n_images, n, _ = hidden_states.shape
    if attention_mask is not None or not _is_written_out(module, n, module.head_dim):
        return type(module).forward(module, hidden_states, attention_mask, **options)
    projected = F.linear(hidden_states, *_joined(module, product_dtype(hidden_states)))  # [B, n, 3 · heads · d]
    by_head = projected.view(n_images, n, 3, -1, module.head_dim).permute(2, 0, 3, 1, 4)  # [3, B, heads, n, d]
    dropout = module.attention_dropout if module.training else 0.0
    attended = _weighed(*by_head.flatten(1, 2).unbind(), dropout)
    return module.o_proj(_heads_last(attended, n_images).flatten(2)), None


def _joined(module: nn.Module, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of query, key and value together, in that order; the query's are scaled before they are rounded to `dtype`."""
    projections = (module.q_proj, module.k_proj, module.v_proj)
    weight = _with_first_scaled([each.weight for each in projections], module.scaling, dtype)
    biases = [each.bias for each in projections]
    return weight, None if biases[0] is None else _with_first_scaled(biases, module.scaling, dtype)


def _with_first_scaled(values: Sequence[torch.Tensor], scaling: float, dtype: torch.dtype) -> torch.Tensor:
    first, *others = values
    return torch.cat([each.to(dtype) for each in (first * scaling, *others)])


def _weighed(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> torch.Tensor:
    """Attention of scaled queries, keys and values [B · heads, n, d] → [B · heads, n, d]; each kernel sums in float32 by itself."""
    weight = torch.bmm(query, key.transpose(1, 2)).softmax(dim=-1)  # [B · heads, n, n]
    return torch.bmm(F.dropout(weight, dropout) if dropout else weight, value)


def _heads_last(attended: torch.Tensor, n_images: int) -> torch.Tensor:
    """[B · heads, n, d] → [B, n, heads, d]."""
    return attended.unflatten(0, (n_images, -1)).transpose(1, 2).contiguous()


def _is_written_out(module: nn.Module, n: int, head_dim: int) -> bool:
    """Whether attention between n tokens is, by what the module's config asks for."""
    return module.config._attn_implementation == _PLAIN and n <= _LONG * head_dim


def _written_out_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Queries, keys and values [B, heads, n, d], written out where nothing but these is to be reckoned with; sdpa elsewhere."""
    is_plain = attention_mask is None and others.get("position_bias") is None and key.shape == query.shape
    causal = others.get("is_causal")
    is_plain &= not (getattr(module, "is_causal", True) if causal is None else causal)
    if not (is_plain and _is_written_out(module, *query.shape[2:])):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    attended = _weighed(*(each.flatten(0, 1) for each in (query, key, value)), dropout)
    return _heads_last(attended, len(query)), None


def _fused_attention(module: nn.Module, query: torch.Tensor, *others: Any, **options: Any) -> tuple[torch.Tensor, None]:
    """PyTorch's own choice of a kernel, but for sequences as short as those that an MAE's encoder is shown.

    On an H200 the memory-efficient kernel took 135 µs, forward and backward, for 256 × 12 heads of 50 × 64 values in bf16; cuDNN's,
    which PyTorch prefers, 211 µs; flash attention 375 µs. Of 197 tokens it is the slowest.
    """
    if query.is_cuda and query.shape[2] <= _SHORT:
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return sdpa_attention_forward(module, query, *others, **options)
    return sdpa_attention_forward(module, query, *others, **options)


AttentionInterface.register(_FUSED, _fused_attention)
AttentionInterface.register(_PLAIN, _written_out_attention)
