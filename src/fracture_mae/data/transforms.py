"""Batched augmentation of X-rays on the device they train on."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """Random crop, rotation, mirroring and intensity changes, each X-ray with its own draw.

    Attributes:
        crop_scale: smallest share of the area that a crop keeps, in (0, 1]; 1 keeps all.
        rotation: largest turn in either direction [degrees].
        flip: mirror left-right half of the time.
        intensity: strength in [0, 1] of brightness, contrast and gamma changes; at 1 gamma and contrast vary by a factor of 2.
    """

    crop_scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False
    intensity: float = 0.0

    def __call__(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Grey [B, 1, H, W], float in [0, 1] → the same shape and range; what lies outside the picture is black."""
        if self.crop_scale < 1 or self.rotation or self.flip:
            grid = F.affine_grid(self._affine(len(pixels), generator), list(pixels.shape), align_corners=False)
            # Only a turn shows what lies outside; otherwise black would bleed into the outermost half pixel.
            outside = "zeros" if self.rotation else "border"
            pixels = F.grid_sample(pixels, grid.to(pixels.device), padding_mode=outside, align_corners=False)
        return self._change_intensity(pixels, generator) if self.intensity else pixels

    def _affine(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Maps from output to input coordinates, [n, 2, 3], in units of half the image."""
        uniform = torch.rand(5, n, generator=generator)
        side = (self.crop_scale + (1 - self.crop_scale) * uniform[0]).sqrt()
        angle = math.radians(self.rotation) * (2 * uniform[1] - 1)
        mirror = torch.where(uniform[2] < 0.5, -1.0, 1.0) if self.flip else torch.ones(n)
        shift = (1 - side) * (2 * uniform[3:5] - 1)  # [2, n]: the crop stays inside the picture
        cos, sin = side * angle.cos(), side * angle.sin()
        rows = [torch.stack([cos * mirror, -sin, shift[0]], dim=1), torch.stack([sin * mirror, cos, shift[1]], dim=1)]
        return torch.stack(rows, dim=1)

    def _change_intensity(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        draws = 2 * torch.rand(3, len(pixels), 1, 1, 1, generator=generator) - 1
        gamma, contrast = torch.exp2(self.intensity * draws[:2]).to(pixels.device)
        brightness = (0.2 * self.intensity * draws[2]).to(pixels.device)
        changed = pixels.clamp(min=0).pow(gamma)
        mean = changed.mean(dim=(1, 2, 3), keepdim=True)
        return ((changed - mean) * contrast + mean + brightness).clamp(0, 1)


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W] → float [B, 1, H, W] in [0, 1]."""
    return pixels.unsqueeze(1).float() / 255
