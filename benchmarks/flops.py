"""How many floating-point operations a masked autoencoder needs, and how many bytes its operators touch."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fracture_mae.models.autoencoder import Mae

BACKWARD = 2  # times the forward pass: a product's gradient is two products


@dataclass(frozen=True)
class Stack:
    """Transformer layers.

    Attributes:
        width: of a token.
        depth: number of layers.
        heads: of attention.
        hidden: width within the MLP.
    """

    width: int
    depth: int
    heads: int
    hidden: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of a masked autoencoder."""

    image_size: int
    patch_size: int
    channels: int
    encoder: Stack
    decoder: Stack

    @classmethod
    def of(cls, mae: Mae) -> "Sizes":
        config = mae.network.config
        encoder = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        decoder = (getattr(config, f"decoder_{name}") for name in names)
        return cls(config.image_size, config.patch_size, config.num_channels, Stack(*encoder), Stack(*decoder))

    @property
    def n_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self) -> int:
        """Values in a patch."""
        return self.patch_size**2 * self.channels

    def n_visible(self, mask_ratio: float) -> int:
        return int(self.n_patches * (1 - mask_ratio))


def linear_layers(sizes: Sizes, mask_ratio: float) -> list[tuple[int, int, int, int]]:
    """The linear layers as (tokens of an image, values in, values out, how many of them there are)."""
    n_visible = sizes.n_visible(mask_ratio)
    encoder, decoder = (sizes.encoder, n_visible + 1), (sizes.decoder, sizes.n_patches + 1)  # 1: CLS
    layers = [(n_visible, sizes.patch_values, sizes.encoder.width, 1)]
    for stack, tokens in (encoder, decoder):
        layers += [
            (tokens, stack.width, stack.width, 4 * stack.depth),  # query, key, value, output
            (tokens, stack.width, stack.hidden, stack.depth),
            (tokens, stack.hidden, stack.width, stack.depth),
        ]
    layers.append((n_visible + 1, sizes.encoder.width, sizes.decoder.width, 1))
    layers.append((sizes.n_patches + 1, sizes.decoder.width, sizes.patch_values, 1))
    return layers


def counted(action: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products that `action` does; a multiply-add is two.

    Those of attention too, which PyTorch counts on every device only where it is written out.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def forward_flops(mae: Mae, mask_ratio: float) -> int:
    """Floating-point operations of the forward pass for one image: what a step is held to, whoever computes it.

    As in He et al. (CVPR 2022) the encoder sees the v visible patches and CLS alone, the decoder all p patches and CLS; whatever is
    no matrix product (norms, softmax, GELU, loss) is left out:

        2 v c d                                         visible patches of c values to tokens of width d
        + Σ over both stacks:  depth · (2 n (4 w² + 2 w h) + 4 n² w)    n = v + 1 or p + 1 tokens of width w, MLP of width h
        + 2 (v + 1) d e                                 tokens to the decoder's width e
        + 2 (p + 1) e c                                 tokens to patches

    Hidden patches count nothing: an implementation that projects them too gets no credit for it.
    """
    pixels = torch.rand(1, 1, mae.image_size, mae.image_size)
    own = copy.deepcopy(mae).cpu()
    with torch.no_grad():
        return counted(lambda: own(pixels, torch.rand(1, mae.n_patches), mask_ratio))


def step_flops(mae: Mae, mask_ratio: float, n_images: int) -> int:
    """Of a training step: forward, and twice as much backward; the optimizer is left out."""
    return (1 + BACKWARD) * n_images * forward_flops(mae, mask_ratio)


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write while it is entered: each operand and each result once, views nothing.

    So it is what would pass through memory if no cache kept anything from one operator to the next.

    Attributes:
        n_bytes: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if not (operator.is_view or operator.__name__.startswith(("empty", "new_empty", "detach"))):
            operands = tree_leaves((args, kwargs, result))
            self.n_bytes += sum(_size_of(value) for value in operands if isinstance(value, torch.Tensor))
        return result


def _size_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor; what is expanded along an axis is there only once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
