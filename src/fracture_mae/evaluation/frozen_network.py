"""A network pretrained on photographs that stays as it is: what is to be had without ever training on X-rays but a straight line."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from fracture_mae.data.types import XRays
from fracture_mae.evaluation import frozen_features
from fracture_mae.evaluation.frozen_features import PooledEncoder
from fracture_mae.models.encoders import Encoder


@dataclass(frozen=True)
class FrozenNetwork:
    """An encoder whose features a reference reads.

    Attributes:
        name: as it was given.
        encoder: shown X-rays at its own preprocessor's size, whatever the size of those judged.
        batch_size: X-rays at once.
    """

    name: str
    encoder: Encoder
    batch_size: int
    accelerator: Accelerator

    @property
    def title(self) -> str:
        """What it is called in tables and figures."""
        return f"frozen {self.name}"

    @property
    def fingerprint(self) -> str:
        """Of its weights and of whatever else its features depend on, but the X-rays."""
        pooled = PooledEncoder(self.encoder)
        return frozen_features.fingerprint(pooled, pooled.described())

    def describe(self, xrays: XRays, progress: str = "") -> np.ndarray:
        """Mean of the patch tokens of each X-ray, float32 [n, width]; from the cache where they are known."""
        embedder = _Resizing(self.encoder, xrays.pixels.shape[1])
        options = {"batch_size": self.batch_size, "accelerator": self.accelerator}
        return frozen_features.features(embedder, xrays, **options)["mean"]


class _Resizing(nn.Module):
    """The encoder for squares of another side, which are brought to its own first."""

    def __init__(self, encoder: Encoder, side: int):
        super().__init__()
        self.pooled = PooledEncoder(encoder)
        self.size = encoder.image_size
        self.side = side

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Grey [B, 1, side, side] in [0, 1] → mean of the patch tokens [B, width]."""
        if self.side != self.size:
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=True)
        return {"mean": self.pooled(pixels)["mean"]}

    def described(self) -> str:
        return f"{self.pooled.described()} shown squares of {self.side}"
