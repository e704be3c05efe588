"""The blocks of a network: what follows each other in it, each adding something to what it reads."""

import re
from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

# How transformers and timm call them; "ViTLayer", "ConvNextLayer", "EfficientNetBlock", "ResNetBottleNeckLayer", "InvertedResidual".
_BLOCK = re.compile(r"(Layer|Block|Bottleneck|InvertedResidual|SeparableConv)$")


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a network by their names, in its order; of blocks within blocks, the outer ones."""
    return dict(_found(network, ""))


def _found(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    is_list = isinstance(module, (nn.ModuleList, nn.Sequential))
    for name, child in module.named_children():
        if is_list and _BLOCK.search(type(child).__name__):
            yield f"{prefix}{name}", child
        else:
            yield from _found(child, f"{prefix}{name}.")


def are_alike(network: nn.Module) -> bool:
    """Whether all blocks of a network have weights of the same shapes, as in a ViT, and not in one that works in stages.

    False where no blocks are found.
    """
    return len({(type(block), _shapes(block)) for block in blocks_of(network).values()}) == 1


def _shapes(block: nn.Module) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(value.shape)) for name, value in block.named_parameters())


def depths_of(network: nn.Module) -> dict[str, int]:
    """How deep each parameter lies, by its name: 0 before the first block, 1 … N in them, N + 1 behind the last.

    What stands between two blocks, such as what halves a feature map, counts to the second one.
    """
    numbers = {name: number for number, name in enumerate(blocks_of(network), start=1)}
    depths, passed = {}, 0
    for name, _ in network.named_parameters():
        block = next((number for prefix, number in numbers.items() if name.startswith(f"{prefix}.")), None)
        passed = block or passed
        depths[name] = block or (passed + 1 if passed else 0)
    return depths


def recompute_blocks(network: nn.Module, recompute: bool) -> None:
    """Whether blocks forget their activations and compute them again in the backward pass, where transformers itself cannot."""
    for block in blocks_of(network).values():
        if recompute:
            block.forward = partial(checkpoint, type(block).forward.__get__(block), use_reentrant=False)
        else:
            vars(block).pop("forward", None)
