"""The operators of the network one by one, for the roofline."""

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from benchmarks.ceilings import Work
from benchmarks.flops import Sizes, Stack, counted


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
        works[f"attention, {side}"] = _work(F.scaled_dot_product_attention, *heads)
        works[f"attention written out, {side}"] = _work(_written_out, *heads)
        works[f"MLP, {side}"] = _work(_mlp, *_mlp_operands(stack, n_images * tokens, dtype, device))
    return works


def _work(operator: Callable[..., torch.Tensor], *operands: torch.Tensor) -> Work:
    return Work(lambda: operator(*operands), counted(lambda: operator(*operands)))


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention [B, heads, n, d] with its n × n weights in memory."""
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


def _mlp(tokens: torch.Tensor, widen: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
    return F.linear(F.gelu(F.linear(tokens, widen)), narrow)


def _mlp_operands(stack: Stack, n_tokens: int, dtype: torch.dtype, device: torch.device) -> Iterator[torch.Tensor]:
    shapes = ((n_tokens, stack.width), (stack.hidden, stack.width), (stack.width, stack.hidden))
    return (torch.randn(shape, device=device).to(dtype) for shape in shapes)
