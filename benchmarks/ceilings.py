"""What the machine can do at most: matrix products and copies of memory, each something to be called over and over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.flops import counted

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Work:
    """Something to be timed.

    Attributes:
        do: does it once.
        amount: floating-point operations, or bytes, of that.
    """

    do: Callable[[], object]
    amount: float


def square_product(side: int, dtype: torch.dtype, device: torch.device) -> Work:
    """The product of two square matrices."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return Work(lambda: torch.mm(left, right, out=product), 2 * side**3)


def own_products(
    layers: Sequence[tuple[int, int, int, int]], n_images: int, dtype: torch.dtype, device: torch.device
) -> Work:
    """The matrix products of a training step and nothing else: forward, gradient of the input, gradient of the weights.

    Args:
        layers: linear layers as `flops.linear_layers` lists them.
    """
    products = []
    for tokens, n_in, n_out, times in layers:
        shapes = ((n_images * tokens, n_in), (n_out, n_in), (n_images * tokens, n_out))
        values, weight, gradient = (torch.randn(*shape, device=device).to(dtype) for shape in shapes)
        results = torch.empty_like(gradient), torch.empty_like(values), torch.empty_like(weight)
        pairs = ((values, weight.t()), (gradient, weight), (gradient.t(), values))
        products += [(*pair, result) for pair, result in zip(pairs, results, strict=True)] * times

    def multiply() -> None:
        for left, right, result in products:
            torch.mm(left, right, out=result)

    return Work(multiply, counted(multiply))


def copy_of_memory(n_bytes: int, dtype: torch.dtype, device: torch.device) -> Work:
    """A copy, which reads as many bytes as it writes."""
    source = torch.ones(n_bytes // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    return Work(lambda: target.copy_(source), 2 * source.numel() * dtype.itemsize)
