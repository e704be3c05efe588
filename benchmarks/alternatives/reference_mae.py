"""A masked autoencoder built and trained as the public code of its authors describes it.

K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: pre-norm blocks with one linear layer for query, key and
value, a softmax that is written out, and a GELU MLP; all patches are projected before a random three quarters are dropped by sorting
noise; the decoder gets mask tokens in their places; AdamW, mixed precision.
"""

import torch
from accelerate import Accelerator
from torch import nn

from benchmarks.flops import Sizes, Stack
from fracture_mae.models.pixels import Normalisation
from fracture_mae.models.positions import sincos_positions

_WEIGHT_DECAY, _BETAS = 0.05, (0.9, 0.95)


class Attention(nn.Module):
    """Tokens [B, n, width] → [B, n, width]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n_images, n, width = tokens.shape
        by_head = self.qkv(tokens).reshape(n_images, n, 3, self.heads, width // self.heads)
        query, key, value = by_head.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, n, width / heads] each
        attention = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1)  # [B, heads, n, n]
        return self.projection((attention @ value).transpose(1, 2).reshape(n_images, n, width))


class Block(nn.Module):
    """Attention and an MLP, each behind a layer norm and beside a residual connection."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(stack.width, 1e-6), nn.LayerNorm(stack.width, 1e-6)
        self.attention = Attention(stack.width, stack.heads)
        self.mlp = nn.Sequential(nn.Linear(stack.width, stack.hidden), nn.GELU(), nn.Linear(stack.hidden, stack.width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.mlp(self.mlp_norm(tokens))


class ReferenceMae(nn.Module):
    """Pixels to the loss, with as many parameters as a `Mae` of these sizes."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        encoder, decoder = sizes.encoder, sizes.decoder
        self.sizes = sizes
        self.projection = nn.Conv2d(sizes.channels, encoder.width, sizes.patch_size, stride=sizes.patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, encoder.width) * 0.02)
        self.encoder = nn.Sequential(*(Block(encoder) for _ in range(encoder.depth)), nn.LayerNorm(encoder.width, 1e-6))
        self.bridge = nn.Linear(encoder.width, decoder.width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder.width) * 0.02)
        self.decoder = nn.Sequential(*(Block(decoder) for _ in range(decoder.depth)), nn.LayerNorm(decoder.width, 1e-6))
        self.prediction = nn.Linear(decoder.width, sizes.patch_values)
        side = sizes.image_size // sizes.patch_size
        positions = (sincos_positions(side, stack.width) for stack in (encoder, decoder))
        self.encoder_positions, self.decoder_positions = (nn.Parameter(each, requires_grad=False) for each in positions)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, pixels: torch.Tensor, mask_ratio: float) -> torch.Tensor:
        """Normalised pixels [B, C, H, W] → mean squared error over the hidden patches."""
        tokens = self.projection(pixels).flatten(2).transpose(1, 2) + self.encoder_positions[:, 1:]  # [B, L, width]
        visible, mask, ids_restore = self._mask(tokens, mask_ratio)
        cls = (self.cls_token + self.encoder_positions[:, :1]).expand(len(pixels), -1, -1)
        encoded = self.bridge(self.encoder(torch.cat([cls, visible], dim=1)))
        prediction = self._decode(encoded, ids_restore)
        per_patch = (prediction.float() - self._patches(pixels)).square().mean(dim=-1)  # [B, L]
        return (per_patch * mask).sum() / mask.sum()

    def _mask(self, tokens: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The visible tokens, the mask [B, L] (0 is visible, 1 is hidden), and where each token stands among the shuffled ones."""
        n_images, n_patches, width = tokens.shape
        n_visible = self.sizes.n_visible(mask_ratio)
        ids_shuffle = torch.rand(n_images, n_patches, device=tokens.device).argsort(dim=1)
        ids_restore = ids_shuffle.argsort(dim=1)
        visible = tokens.gather(1, ids_shuffle[:, :n_visible, None].expand(-1, -1, width))
        mask = torch.ones(n_images, n_patches, device=tokens.device)
        mask[:, :n_visible] = 0
        return visible, mask.gather(1, ids_restore), ids_restore

    def _decode(self, encoded: torch.Tensor, ids_restore: torch.Tensor) -> torch.Tensor:
        """Encoded tokens [B, 1 + V, width] → predicted patches [B, L, patch² · C]."""
        n_images, n_tokens, width = encoded.shape
        hidden = self.mask_token.expand(n_images, ids_restore.shape[1] + 1 - n_tokens, -1).to(encoded.dtype)
        shuffled = torch.cat([encoded[:, 1:], hidden], dim=1)
        tokens = shuffled.gather(1, ids_restore[:, :, None].expand(-1, -1, width))
        tokens = torch.cat([encoded[:, :1], tokens], dim=1) + self.decoder_positions
        return self.prediction(self.decoder(tokens))[:, 1:]

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] → [B, L, patch² · C]."""
        patch, side = self.sizes.patch_size, self.sizes.image_size // self.sizes.patch_size
        grid = pixels.reshape(len(pixels), -1, side, patch, side, patch)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), side**2, -1)


class ReferenceStep:
    """A training step of `ReferenceMae`, called with grey pixels [B, 1, H, W] in [0, 1] on the device; returns the loss.

    Args:
        learning_rate: constant.
        mask_ratio: share of patches that are hidden.
        accelerator: device and precision.
    """

    def __init__(
        self,
        sizes: Sizes,
        normalisation: Normalisation,
        *,
        learning_rate: float,
        mask_ratio: float,
        accelerator: Accelerator,
    ):
        self.model = ReferenceMae(sizes).to(accelerator.device).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS)
        self._normalisation, self._mask_ratio, self._accelerator = normalisation, mask_ratio, accelerator

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        with self._accelerator.autocast():
            loss = self.model(self._normalisation.apply(pixels), self._mask_ratio)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    @torch.inference_mode()
    def evaluate(self, pixels: torch.Tensor) -> torch.Tensor:
        """The loss alone, nothing is trained."""
        with self._accelerator.autocast():
            return self.model(self._normalisation.apply(pixels), self._mask_ratio)
