import math

import pytest
import torch

from fracture_mae.config import FinetuneMae
from fracture_mae.evaluation.reconstruction import Masks, masked_errors
from fracture_mae.stages import finetune
from fracture_mae.training.batches import Batch
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.step_random import StepRandom


def fine_tuned(mae, dataset, accelerator, root, **settings):
    config = FinetuneMae(**{"batch_size": 4, "epochs": 4} | settings)
    with Checkpoints(root, "training", resume=True) as checkpoints:
        return finetune.train(
            mae, dataset, config, accelerator=accelerator, checkpoints=checkpoints, log=lambda row, epoch: None
        )


@pytest.mark.parametrize("recipe", ["default", "original"])
def test_the_weights_that_are_kept_are_those_that_are_reported(tiny_mae, dataset, accelerator, tmp_path, recipe):
    rate = {"learning_rate": 0.3, "warmup_epochs": 0}  # so high that the last epoch is not the best
    progress = fine_tuned(tiny_mae, dataset, accelerator, tmp_path, recipe=recipe, seed=1, **rate)
    history = [row["validation/masked_mse"] for row in progress.history]
    assert progress.kept["validation/masked_mse"] == (min(history) if recipe == "default" else history[-1])
    again = masked_errors(tiny_mae, dataset.validation, Masks(0.75, seed=1), batch_size=4, accelerator=accelerator)
    for name, value in again.items():
        assert progress.kept[f"validation/{name}"] == pytest.approx(value, rel=1e-6)


def test_fine_tuning_lowers_the_error(tiny_mae, dataset, accelerator, tmp_path):
    options = {"batch_size": 4, "accelerator": accelerator}
    before = masked_errors(tiny_mae, dataset.validation, Masks(0.75, 0), **options)["masked_mse"]
    progress = fine_tuned(tiny_mae, dataset, accelerator, tmp_path, epochs=10, learning_rate=0.01)
    assert progress.kept["validation/masked_mse"] < 0.5 * before


class Spy:
    """Stands for a network: predicts zero for patches of 2 × 2 pixels, and remembers how it was called."""

    def __call__(self, pixels, noise, mask_ratio):
        self.noise, self.mask_ratio = noise, mask_ratio
        target = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).repeat(len(pixels), 1)[:, :, None].expand(-1, -1, 4)
        return torch.zeros_like(target), target, torch.tensor([[0.0, 1.0, 1.0, 0.0]]).repeat(len(pixels), 1)


@pytest.mark.parametrize(("region", "expected"), [("masked", (4 + 9) / 2), ("all", (1 + 4 + 9 + 16) / 4)])
def test_the_loss_by_hand(region, expected):
    spy, batch = Spy(), Batch(torch.rand(3, 1, 4, 4), torch.zeros(3), torch.ones(3), torch.empty(3, 0, 4))
    loss = finetune._step_loss(FinetuneMae(loss_region=region, train_mask_ratio=0.5), n_patches=4)
    assert loss(spy, batch, StepRandom(1, 3)).tolist() == pytest.approx([expected] * 3)
    assert spy.mask_ratio == 0.5
    assert spy.noise.shape == (3, 4)
    first = spy.noise
    loss(spy, batch, StepRandom(1, 3))
    assert spy.noise.equal(first)
    loss(spy, batch, StepRandom(2, 3))
    assert not spy.noise.equal(first)


def test_weight_decay_is_for_matrices_alone(tiny_mae):
    groups = finetune._parameter_groups(tiny_mae, learning_rate=0.1, weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    by_name = {name: decay.pop(id(p)) for name, p in tiny_mae.named_parameters() if p.requires_grad}
    assert not decay  # no position embeddings
    for name, expected in {
        "network.vit.embeddings.patch_embeddings.projection.weight": 0.05,
        "network.vit.layers.0.mlp.fc1.weight": 0.05,
        "network.decoder.decoder_pred.weight": 0.05,
        "network.vit.embeddings.cls_token": 0.0,
        "network.decoder.mask_token": 0.0,
        "network.vit.layers.0.mlp.fc1.bias": 0.0,
        "network.vit.layernorm.weight": 0.0,
    }.items():
        assert by_name[name] == expected, name
    assert all(math.isclose(group["lr"], 0.1) for group in groups)
