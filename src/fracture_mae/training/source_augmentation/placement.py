"""Where the film lies in its picture and what surrounds it, for a whole batch on the device."""

import math

import torch
from torch.nn import functional as F

N_PLACE, N_AROUND = 8, 3  # random numbers of each X-ray
_SMALLEST = 1.6  # how much smaller a film becomes at most, at full strength
_NARROWEST = 1.4  # how much narrower or lower
_MOST_TURNED = math.pi / 2


def placed(uniform: torch.Tensor, strength: float) -> torch.Tensor:
    """Affine maps from output to input coordinates that show a film smaller, narrower or lower, turned, and off the centre.

    Smaller, other proportions and a turn each have the chance strength / 2.

    Args:
        uniform: [B, N_PLACE] in [0, 1).

    Returns:
        [B, 2, 3] as `F.affine_grid` takes them.
    """
    coins, (size, proportions, turn, *shift) = uniform[:, :3].T, uniform[:, 3:].T  # [B] each
    size, proportions, turn = (
        torch.where(coin < strength / 2, strength * value, 0.0)
        for coin, value in zip(coins, (size, 2 * proportions - 1, 2 * turn - 1), strict=True)
    )
    larger = torch.exp(math.log(_SMALLEST) * size)
    across, down = (larger * torch.exp(math.log(_NARROWEST) * (sign * proportions).clamp(min=0)) for sign in (1, -1))
    cos, sin = (_MOST_TURNED * turn).cos(), (_MOST_TURNED * turn).sin()
    x, y = ((side - 1) * (2 * share - 1) for side, share in zip((across, down), shift, strict=True))
    rows = [torch.stack([across * cos, -across * sin, x], dim=1), torch.stack([down * sin, down * cos, y], dim=1)]
    return torch.stack(rows, dim=1)


def after(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The map that leads from output coordinates by `first` to where `second` begins; all [B, 2, 3]."""
    turned, shift = second[:, :, :2] @ first, second[:, :, 2]
    return torch.cat([turned[:, :, :2], (turned[:, :, 2] + shift).unsqueeze(2)], dim=2)


def sampled(pixels: torch.Tensor, affine: torch.Tensor, uniform: torch.Tensor, strength: float) -> torch.Tensor:
    """Pixels where the maps say; outside of the picture black or, with the chance `strength`, what each X-ray has drawn.

    That is black, white, one grey, or, half as likely as each of these, the picture mirrored at its edge: where a bone runs over it, a
    mirror bends the bone.

    Args:
        pixels: [B, 1, H, W] in [0, 1].
        affine: [B, 2, 3], from output to input coordinates.
        uniform: [B, N_AROUND] in [0, 1).
    """
    coin, kind, grey = uniform.view(-1, N_AROUND, 1, 1, 1).unbind(dim=1)  # [B, 1, 1, 1]
    kind = torch.where(coin < strength, (3.5 * kind).floor(), 0.0)  # black, white, grey, mirrored
    grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)  # [B, H, W, 2]
    folded = 1 - ((grid + 1).remainder(4) - 2).abs()
    shown = F.grid_sample(pixels, torch.where(kind == 3, folded, grid), padding_mode="border", align_corners=False)
    around = torch.where(kind == 1, 1.0, torch.where(kind == 2, grey, 0.0))
    is_outside = (grid.abs() > 1).any(dim=3).unsqueeze(1) & (kind != 3)
    return torch.where(is_outside, around, shown)
