"""The position embeddings of a masked autoencoder: where they are, how they begin, and other sizes of their grid."""

import torch
from torch import nn
from transformers import ViTMAEForPreTraining

from fracture_mae.errors import FractureMaeError


def position_embeddings_of(network: ViTMAEForPreTraining) -> tuple[nn.Parameter, nn.Parameter]:
    """Of the encoder, [1, 1 + L, hidden_size], and of the decoder, [1, 1 + L, decoder_hidden_size]."""
    return network.vit.embeddings.position_embeddings, network.decoder.decoder_pos_embed


def check_position_embeddings(network: ViTMAEForPreTraining, model: str) -> None:
    """Refuse a network that cannot know where a patch is."""
    if any(positions[:, 1:].abs().max() == 0 for positions in position_embeddings_of(network)):
        raise FractureMaeError(
            f"the position embeddings of {model} are all zero, so it cannot know where a patch is: the checkpoint is damaged, or "
            "was saved from a model that was never initialised. Take another checkpoint, or a preset."
        )


def sincos_positions(side: int, width: int) -> torch.Tensor:
    """Two-dimensional sine-cosine position embeddings [1, 1 + side², width], zeros for CLS.

    The first half of the features holds the column (sin, then cos), the second the row, in the order of MAE's checkpoints.
    """
    frequencies = 1 / 10_000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.outer(torch.arange(side, dtype=torch.float64), frequencies)  # [side, width / 4]
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width / 2]
    grid = torch.cat([axis.repeat(side, 1), axis.repeat_interleave(side, dim=0)], dim=1)
    return torch.cat([torch.zeros(1, width), grid.float()]).unsqueeze(0)


def interpolate_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Position embeddings [1, 1 + s², width] of a square grid → [1, 1 + side², width], bicubic; CLS is kept."""
    cls, grid = positions[:, :1], positions[:, 1:]
    old = int(grid.shape[1] ** 0.5)
    image = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    image = nn.functional.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([cls, image.flatten(2).transpose(1, 2)], dim=1)
