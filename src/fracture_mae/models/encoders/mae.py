"""The encoder of a masked autoencoder, which projects the patches that it is shown and no others."""

import torch
from torch import nn
from transformers import ViTMAEModel

from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.encoders.tokens import Encoder, Tokens
from fracture_mae.models.pixels import Normalisation
from fracture_mae.models.vit import encode, patches_of

_DESCRIBING = ("image_size", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps")


class MaeEncoder(Encoder):
    """A ViTMAEModel; but for `patch_dropout`, all patches are shown to it."""

    has_cls = True

    def __init__(self, network: ViTMAEModel, normalisation: Normalisation, source: str = ""):
        super().__init__(network, normalisation, network.config.image_size, source)
        side = network.config.image_size // network.config.patch_size
        self.grid = (side, side)
        self.width = network.config.hidden_size

    @classmethod
    def of(cls, mae: Mae) -> "MaeEncoder":
        """The encoder of `mae`, not a copy of it."""
        return cls(mae.network.vit, mae.normalisation, mae.source)

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.network.layers)

    def forward(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> Tokens:
        if self.training and chance is None:
            chance = torch.rand(len(pixels), self.n_draws, device=pixels.device)
        patches = patches_of(self.normalisation.apply(pixels), self.network.config.patch_size)
        skip = (self.drop_rates, chance[:, self.n_patches :]) if self.training and self.drop_rates else None
        shown = self.shown(chance)
        tokens = encode(self.network, patches, shown, skip)
        return Tokens(tokens[:, 1:], tokens[:, 0], shown)

    def depth_of(self, name: str) -> int:
        if name.startswith("embeddings"):
            return 0
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1
        return len(self.network.layers) + 1

    def described(self) -> str:
        config = self.network.config
        return f"{type(self.network).__name__} {self.normalisation} {[getattr(config, name) for name in _DESCRIBING]}"
