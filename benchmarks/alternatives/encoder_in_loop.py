"""Tuning a head with the encoder in the loop: every trial shows it all X-rays again, epoch after epoch."""

import copy

import torch
from accelerate import Accelerator
from torch import nn

from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import Mae

EPOCHS = 10  # that a head needs
_LEARNING_RATE = 1e-3


class HeadTraining:
    """Training of a linear head on a frozen encoder, batch by batch."""

    def __init__(self, mae: Mae, accelerator: Accelerator):
        self._classifier = classifier_model.from_mae(copy.deepcopy(mae), pool="mean").to(accelerator.device).train()
        classifier_model.freeze_encoder(self._classifier)
        trained = [parameter for parameter in self._classifier.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=_LEARNING_RATE)
        self._accelerator = accelerator

    def step(self, pixels: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Train the head on grey pixels [B, 1, H, W] in [0, 1] and labels [B]; the loss."""
        with self._accelerator.autocast():
            logit = self._classifier(pixels)
        loss = nn.functional.binary_cross_entropy_with_logits(logit, label)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()
