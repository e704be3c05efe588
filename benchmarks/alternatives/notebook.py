"""Fine-tuning as notebooks do it: Hugging Face's model in float32, plain Adam, and one image at a time from its file."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import ViTMAEConfig

from benchmarks.alternatives.files import read
from fracture_mae.models.autoencoder import Mae, random_start

_LEARNING_RATE, _MASK_RATIO = 1e-4, 0.75


class Notebook:
    """A plain training loop with the loss over all patches.

    Args:
        mae: whose sizes and normalisation to take; the weights start at random, which costs the same.
        device: to train on.
    """

    def __init__(self, mae: Mae, device: torch.device):
        config = ViTMAEConfig.from_dict(mae.network.config.to_dict() | {"mask_ratio": _MASK_RATIO})
        self._network = random_start(config, seed=0).to(device).train()
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=_LEARNING_RATE)
        self._device = device
        self._mean, self._std = (
            np.array(values, np.float32).reshape(-1, 1, 1) for values in (mae.normalisation.mean, mae.normalisation.std)
        )

    def train(self, paths: Sequence[str]) -> float:
        """One pass over files; the mean loss."""
        config = self._network.config
        total = 0.0
        for path in paths:
            picture = read(path, config.num_channels, config.image_size).astype(np.float32) / 255
            pixels = torch.from_numpy((picture - self._mean) / self._std).unsqueeze(0).to(self._device)
            prediction = self._network(pixels).logits
            loss = (prediction - self._network.patchify(pixels)).square().mean()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total += loss.item()
        return total / len(paths)
