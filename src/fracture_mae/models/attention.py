"""How attention is computed: which kernels, for which device and arithmetic. The results agree but for rounding."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
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
AUTO = "auto"  # of a network that is not trained: written out where that is known to be the fastest, see `usual`, fused elsewhere
_SHORT = 64  # tokens
# Tokens for each value of a head, up to which attention's weights take no more memory than the rest of what a layer keeps for the
# backward pass, which is about 16 values for each value of a token.
_LONG = 16
# Weights that a processor computes at once: 2 MB of them in bf16 stay in its caches from one product to the next. Those of a batch,
# 20 MB for 64 × 4 heads of 197 tokens, went to memory and back: their attention took 2.5 times as long, forward and backward.
_AT_ONCE = 2**20
_LEAST = 1e-30  # a sum of exponentials, or its inverse, that is far enough from where bf16 ends
# What projects query, key and value by three linear layers of these names and then asks the attention of its config.
_PROJECTING = (ViTMAEAttention, ViTAttention, DeiTAttention, Dinov2Attention, Dinov2WithRegistersAttention)
# As transformers, of which there is one, knows them: a served model that carries another version of this module has its own, and
# processes that send each other a model agree.
_VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
_OURS = {name: f"fracture_mae_{name}_{_VERSION}" for name in (SDPA, WRITTEN_OUT, AUTO)}
_FUSED, _PLAIN, _USUAL = _OURS.values()


def usual(device: torch.device, dtype: torch.dtype) -> str | None:
    """The attention that is known to be the fastest where products are computed in `dtype`; None: it is to be measured.

    In bf16 on a processor, products written out took a third of the time of PyTorch's fused kernel for 197 tokens in a training, a
    tenth for 50, and 0.4 of it without a backward pass.
    """
    return WRITTEN_OUT if device.type == "cpu" and dtype == torch.bfloat16 else None


def use_attention(model: nn.Module, implementation: str) -> None:
    """Let all attention in the model be computed by "sdpa" (fused), "eager" (plain products of transformers) or "written_out"
    (products in the arithmetic of autocast throughout, query, key and value by one of them), or "auto", see `AUTO`.

    A network that knows only some of them keeps what is nearest. Names of weights stay as they are.
    """
    for module in model.modules():
        if isinstance(module, ViTMAEAttention):
            # The decoder's config is one of its own.
            module.config._attn_implementation = _OURS.get(implementation, implementation)
        elif isinstance(module, PreTrainedModel) and not isinstance(module, ViTMAEPreTrainedModel):
            module.config._attn_implementation = _known_to(module, implementation)
    _project_at_once(model, implementation in (WRITTEN_OUT, AUTO))


def _known_to(network: PreTrainedModel, implementation: str) -> str:
    if implementation in (WRITTEN_OUT, AUTO) and network._supports_attention_backend:
        return _OURS[implementation]
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
    dtype = product_dtype(hidden_states)
    if attention_mask is not None or not _is_written_out(module, n, module.head_dim, hidden_states.device, dtype):
        return type(module).forward(module, hidden_states, attention_mask, **options)
    projected = F.linear(hidden_states, *_joined(module, dtype))  # [B, n, 3 · heads · d]
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
    n_heads, n, _ = query.shape
    at_once = max(1, _AT_ONCE // n**2)
    if n_heads <= at_once or query.device.type != "cpu":
        return _weighed_at_once(query, key, value, dropout)
    pieces = (each.split(at_once) for each in (query, key, value))
    return torch.cat([_weighed_at_once(*piece, dropout) for piece in zip(*pieces, strict=True)])


def _weighed_at_once(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> torch.Tensor:
    score = torch.bmm(query, key.transpose(1, 2))  # [heads, n, n]
    if score.device.type == "cpu" and score.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        # For PyTorch's softmax in bf16 a processor takes twice as long as for both products, most of it for the largest score of each
        # row, which is subtracted lest exponentials overflow. Those of a trained network do not; where they do, softmax it is. The
        # division is left to what is weighed, d values of a row instead of n.
        weight = score.exp()
        total = weight.sum(dim=-1, keepdim=True)
        least, most = total.aminmax()
        if least > _LEAST and most < 1 / _LEAST:
            return torch.bmm(weight, value) / total
    weight = score.softmax(dim=-1)
    return torch.bmm(F.dropout(weight, dropout) if dropout else weight, value)


def _heads_last(attended: torch.Tensor, n_images: int) -> torch.Tensor:
    """[B · heads, n, d] → [B, n, heads, d]."""
    return attended.unflatten(0, (n_images, -1)).transpose(1, 2).contiguous()


def _is_written_out(module: nn.Module, n: int, head_dim: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether attention between n tokens is, by what the module's config asks for."""
    asked = module.config._attn_implementation
    return (asked == _PLAIN or (asked == _USUAL and usual(device, dtype) == WRITTEN_OUT)) and n <= _LONG * head_dim


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
    """Queries, keys and values [B, heads, n, d], written out where nothing but these is to be reckoned with; fused elsewhere."""
    is_plain = attention_mask is None and others.get("position_bias") is None and key.shape == query.shape
    causal = others.get("is_causal")
    is_plain &= not (getattr(module, "is_causal", True) if causal is None else causal)
    if not (is_plain and _is_written_out(module, *query.shape[2:], query.device, query.dtype)):
        return _fused_attention(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others)
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
for _name in (_PLAIN, _USUAL):
    AttentionInterface.register(_name, _written_out_attention)
