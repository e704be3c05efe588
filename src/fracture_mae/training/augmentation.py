"""Batched augmentation of X-rays on the device they train on."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from fracture_mae.training.source_augmentation.placement import N_AROUND, N_PLACE, after, placed, sampled
from fracture_mae.training.step_random import StepRandom


@dataclass(frozen=True)
class Augment:
    """Random crop, rotation, mirroring and intensity changes, each X-ray with its own draw.

    Attributes:
        crop_scale: smallest share of the area that a crop keeps, in (0, 1]; 1 keeps all.
        rotation: largest turn in either direction [degrees].
        flip: mirror left-right half of the time.
        intensity: strength in [0, 1] of brightness, contrast and gamma changes; at 1 gamma and contrast vary by a factor of 2.
        source_augmentation: strength in [0, 1] of what moves the film in its picture and of what surrounds it there, see
            `source_augmentation.placement`; the pixels themselves are changed before, see `source_augmentation.changes`.
    """

    crop_scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False
    intensity: float = 0.0
    source_augmentation: float = 0.0

    def __call__(self, pixels: torch.Tensor, step_random: StepRandom) -> torch.Tensor:
        """Grey [B, 1, H, W], float in [0, 1] → the same shape and range.

        What lies outside the picture is black, unless the source is to be hidden.
        """
        return self.moved(pixels, step_random)[0]

    def moved(self, pixels: torch.Tensor, step_random: StepRandom) -> tuple[torch.Tensor, torch.Tensor]:
        """As a call, and where each place of what comes out was before, so that marks on an X-ray can follow.

        Returns:
            Pixels, and the affine maps from output to input coordinates: float32 [B, 2, 3] as `F.affine_grid` takes them, where x and
            y run from -1 to 1 between the outer edges of the picture; the identity where nothing is moved.
        """
        affine = torch.eye(2, 3, device=pixels.device).expand(len(pixels), 2, 3)
        if self.crop_scale < 1 or self.rotation or self.flip:
            affine = self._affine(step_random.uniform(5))
        if self.source_augmentation:
            affine = after(placed(step_random.uniform(N_PLACE), self.source_augmentation), affine)
            pixels = sampled(pixels, affine, step_random.uniform(N_AROUND), self.source_augmentation)
        elif self.crop_scale < 1 or self.rotation or self.flip:
            grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)
            # Only a turn shows what lies outside; otherwise black would bleed into the outermost half pixel.
            outside = "zeros" if self.rotation else "border"
            pixels = F.grid_sample(pixels, grid, padding_mode=outside, align_corners=False)
        return self._change_intensity(pixels, step_random.uniform(3)) if self.intensity else pixels, affine

    def _affine(self, uniform: torch.Tensor) -> torch.Tensor:
        """Maps from output to input coordinates, [B, 2, 3], in units of half the image, from numbers [B, 5] in [0, 1)."""
        scale, turn, coin, *place = uniform.unbind(dim=1)  # [B] each
        side = (self.crop_scale + (1 - self.crop_scale) * scale).sqrt()
        angle = math.radians(self.rotation) * (2 * turn - 1)
        mirror = torch.where(coin < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(coin)
        x, y = ((1 - side) * (2 * share - 1) for share in place)  # the crop stays inside the picture
        cos, sin = side * angle.cos(), side * angle.sin()
        rows = [torch.stack([cos * mirror, -sin, x], dim=1), torch.stack([sin * mirror, cos, y], dim=1)]
        return torch.stack(rows, dim=1)

    def _change_intensity(self, pixels: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Gamma, contrast and brightness by numbers [B, 3] in [0, 1)."""
        gamma, contrast, brightness = (2 * uniform - 1).view(-1, 3, 1, 1, 1).unbind(dim=1)  # [B, 1, 1, 1] in [-1, 1)
        changed = pixels.clamp(min=0).pow(torch.exp2(self.intensity * gamma))
        mean = changed.mean(dim=(1, 2, 3), keepdim=True)
        contrasted = (changed - mean) * torch.exp2(self.intensity * contrast) + mean
        return (contrasted + 0.2 * self.intensity * brightness).clamp(0, 1)
