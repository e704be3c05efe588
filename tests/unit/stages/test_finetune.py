import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.data.types import UNLABELLED, XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import reconstruction
from fracture_mae.evaluation.reconstruction import PER_PATCH, Masks, masked_errors
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.stages import classifier, finetune, inputs
from fracture_mae.training import trainer
from fracture_mae.training.batches import Batch
from fracture_mae.training.checkpoints import Checkpoints, open_checkpoints
from fracture_mae.training.step_random import StepRandom
from tests import builders


def fine_tuned(mae, dataset, accelerator, root, **settings):
    config = FinetuneMae(**{"batch_size": 4, "epochs": 4} | settings).settled(mae.start)
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


class Silent:
    """Stands for a run; remembers its metrics."""

    id = ""

    def __init__(self):
        self.logged = {}

    def metrics(self, values, step=0):
        self.logged |= values

    def __getattr__(self, name):
        return lambda *args, **options: None


def test_of_test_nothing_is_looked_at(tiny_mae, dataset, monkeypatch):
    looked_at, run, rebuild = [], Silent(), reconstruction._rebuild

    def spy(mae, xrays, *options):
        looked_at.append(xrays.name)
        return rebuild(mae, xrays, *options)

    monkeypatch.setattr(reconstruction, "_rebuild", spy)
    monkeypatch.setattr(finetune, "load_mae", lambda *args: tiny_mae)
    monkeypatch.setattr(inputs, "load_training_data", lambda *args, **options: dataset)
    monkeypatch.setattr(finetune, "made_from", lambda *args: None)
    monkeypatch.setattr(finetune, "register_mae", lambda *args: "1")
    config = FinetuneMae(epochs=1, batch_size=4, device="cpu", precision="fp32", n_figures=2)
    assert "test" not in finetune.finetune_mae(config, run)
    assert set(looked_at) == {"train", "validation"}
    assert {"baseline/validation/masked_mse", "train/masked_mse"} <= set(run.logged)
    assert not any("test/" in name for name in run.logged)


def with_unlabelled(dataset):
    """The dataset with three files of two X-rays without a label among those for training."""
    more = builders.xrays("more", [0, 0, 0], group=[0, 0, 1])
    pixels = np.concatenate([dataset.train.pixels, more.pixels])
    table = pd.concat([dataset.train.table, more.table.assign(label=UNLABELLED)], ignore_index=True)
    train = XRays("train", table, pixels, np.arange(len(table)))
    return dataclasses.replace(dataset, train=train, unlabelled=more.table.assign(label=UNLABELLED, left_out=""))


@pytest.mark.parametrize("settings", [{"sampler": "file"}, {"sampler": "xray"}, {"weight_by": "group"}])
def test_xrays_without_labels_are_trained_on(tiny_mae, dataset, accelerator, tmp_path, monkeypatch, settings):
    seen = set()
    gather = trainer.gather

    def spy(xrays, pixels, positions, *weight):
        seen.update(xrays.table["path"].iloc[positions])
        return gather(xrays, pixels, positions, *weight)

    monkeypatch.setattr(trainer, "gather", spy)
    progress = fine_tuned(tiny_mae, with_unlabelled(dataset), accelerator, tmp_path, epochs=8, **settings)
    assert np.isfinite(progress.history[-1]["train/loss"])
    assert len([path for path in seen if path.startswith("/more/")]) >= 2


def test_a_classifier_is_not_trained_on_them(tiny_mae, dataset, accelerator, tmp_path):
    for sampler in ("file", "xray_class"):
        config = TrainClassifier(batch_size=4, epochs=1, sampler=sampler).settled("random")
        with Checkpoints(tmp_path, "classifier", resume=True) as checkpoints:
            options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": lambda row, epoch: None}
            with pytest.raises(FractureMaeError, match="3 of 12 X-rays in train have no label"):
                classifier.train(
                    classifier.build(MaeEncoder.of(tiny_mae), config), with_unlabelled(dataset), config, **options
                )


def test_other_unlabelled_xrays_are_another_training(tiny_mae, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path))
    added = with_unlabelled(dataset)
    fewer = dataclasses.replace(added, unlabelled=added.unlabelled[:2])
    names = {open_checkpoints(tiny_mae, data, FinetuneMae(), "").folder for data in (dataset, added, fewer)}
    assert len(names) == 3
    moved = open_checkpoints(tiny_mae, added, FinetuneMae(unlabelled_dir="/elsewhere"), "").folder
    assert moved in names


def test_with_norm_pix_loss_the_error_in_its_own_units_decides(tiny_mae, dataset, accelerator, tmp_path):
    rate = {"learning_rate": 0.3, "warmup_epochs": 0}  # so high that the last epoch is not the best
    progress = fine_tuned(tiny_mae, dataset, accelerator, tmp_path, norm_pix_loss=True, seed=1, **rate)
    assert tiny_mae.norm_pix_loss
    history = [row[f"validation/{PER_PATCH}"] for row in progress.history]
    assert progress.kept[f"validation/{PER_PATCH}"] == min(history)


@pytest.mark.parametrize(
    ("norm_pix_loss", "monitor"), [(True, f"validation/{PER_PATCH}"), (False, "validation/masked_mse")]
)
def test_epochs_are_judged_in_the_units_of_the_loss(tiny_mae, accelerator, norm_pix_loss, monitor):
    config = FinetuneMae(norm_pix_loss=norm_pix_loss).settled("random")
    assert finetune.make_trainer(tiny_mae, config, accelerator).schedule.monitor == monitor


def test_with_norm_pix_loss_the_error_falls(tiny_mae, dataset, accelerator, tmp_path):
    options = {"epochs": 10, "learning_rate": 0.01, "norm_pix_loss": True}
    progress = fine_tuned(tiny_mae, dataset, accelerator, tmp_path, **options)
    first, kept = progress.history[0], progress.kept
    assert kept[f"validation/{PER_PATCH}"] < 0.95 * first[f"validation/{PER_PATCH}"]
    assert kept["validation/masked_mse"] < first["validation/masked_mse"]


def test_a_decoder_that_was_trained_is_new_no_more(tiny_mae, dataset, accelerator, tmp_path):
    tiny_mae.decoder_is_new = True
    fine_tuned(tiny_mae, dataset, accelerator, tmp_path, epochs=1)
    assert not tiny_mae.decoder_is_new


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


def test_the_recipes_betas_reach_the_optimizer(tiny_mae, accelerator):
    for start, beta2 in (("random", 0.999), ("weights", 0.95)):
        trainer = finetune.make_trainer(tiny_mae, FinetuneMae().settled(start), accelerator)
        assert {group["betas"] for group in trainer.optimizer.param_groups} == {(0.9, beta2)}
