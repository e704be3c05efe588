"""From stored grey pixels to what a network reads."""

from dataclasses import dataclass

import torch


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W] → float [B, 1, H, W] in [0, 1]."""
    return pixels.unsqueeze(1).float() / 255


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation that the network's input was normalised with, for pixels in [0, 1]."""

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Grey [B, 1, H, W] in [0, 1] → normalised [B, C, H, W]."""
        # By numbers, not tensors: to bring those to a GPU would wait for all that it has yet to do.
        return torch.cat([(pixels - mean) / std for mean, std in zip(self.mean, self.std, strict=True)], dim=1)

    def invert(self, normalised: torch.Tensor) -> torch.Tensor:
        """Normalised [B, C, H, W] → grey [B, 1, H, W]: the mean over channels, in [0, 1] units but not clipped."""
        mean, std = (
            torch.tensor(values, device=normalised.device).view(1, -1, 1, 1) for values in (self.mean, self.std)
        )
        return (normalised * std + mean).mean(dim=1, keepdim=True)


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
