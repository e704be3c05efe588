"""The operators of the network one by one, for the roofline."""

import torch
from torch.nn import functional as F

from benchmarks.ceilings import Work
from benchmarks.flops import Sizes, Stack, attention_flops


def of(sizes: Sizes, mask_ratio: float, n_images: int, dtype: torch.dtype, device: torch.device) -> dict[str, Work]:
    """Attention and MLP, forward, on tensors of the sizes that the network gives them."""
    n_visible = sizes.n_visible(mask_ratio)
    works = {}
    for side, stack, tokens in (
        ("encoder", sizes.encoder, n_visible + 1),
        ("decoder", sizes.decoder, sizes.n_patches + 1),
    ):
        shape = (n_images, stack.heads, tokens, stack.width // stack.heads)
        heads = [torch.randn(shape, device=device).to(dtype) for _ in range(3)]
        flops = n_images * attention_flops(tokens, stack.width)
        works[f"attention, {side}"] = Work(lambda heads=heads: F.scaled_dot_product_attention(*heads), flops)
        works[f"attention written out, {side}"] = Work(lambda heads=heads: _written_out(*heads), flops)
        works[f"MLP, {side}"] = _mlp(stack, n_images * tokens, dtype, device)
    return works


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention [B, heads, n, d] with its n × n weights in memory."""
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


def _mlp(stack: Stack, n_tokens: int, dtype: torch.dtype, device: torch.device) -> Work:
    shapes = ((n_tokens, stack.width), (stack.hidden, stack.width), (stack.width, stack.hidden))
    tokens, widen, narrow = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    return Work(lambda: F.linear(F.gelu(F.linear(tokens, widen)), narrow), 4 * n_tokens * stack.width * stack.hidden)
