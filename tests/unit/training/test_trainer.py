import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

import fracture_mae
from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import finetune
from fracture_mae.training import trainer
from fracture_mae.training.batches import batch_of
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.schedule import Schedule
from fracture_mae.training.source_augmentation.changes import SourceAugmentation
from fracture_mae.training.step_options import Chosen, StepOptions
from fracture_mae.training.trainer import Trainer, visiting_order

PROJECT = Path(__file__).resolve().parents[3]
SPEEDS = {"train/images_per_second", "train/data_wait_share"}


class Brightness(nn.Module):
    """One weight on the mean pixel."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, pixels):
        return self.linear(pixels.mean(dim=(2, 3))).squeeze(1)


def squared_loss(model, batch, step_random):
    return (model(batch.pixels) - batch.label).square()


def trainer_of(model, accelerator, *, step_loss=squared_loss, learning_rate=0.1, **schedule):
    return Trainer(
        model,
        [{"params": list(model.parameters()), "lr": learning_rate}],
        optimizer="adamw",
        schedule=Schedule(**{"epochs": 3, "batch_size": 4, "monitor": "m", "maximise": True} | schedule),
        step_loss=step_loss,
        accelerator=accelerator,
    )


def fit(trainer, xrays, root, *, validate=lambda model: {"m": 0.5}, log=lambda row, epoch: None):
    with Checkpoints(root, "training", resume=True) as checkpoints:
        return trainer.fit(xrays, visiting_order(xrays, "file"), validate, checkpoints, log)


@pytest.mark.parametrize(("keep_best", "kept"), [(True, 2), (False, 4)])
def test_the_kept_epochs_weights_are_left_in_the_model(accelerator, xrays, tmp_path, keep_best, kept):
    model, seen = Brightness(), []

    def validate(judged):
        assert not judged.training
        seen.append(copy.deepcopy(judged.state_dict()))
        return {"m": [0.5, 0.9, 0.7, math.nan][len(seen) - 1]}

    progress = fit(trainer_of(model, accelerator, epochs=4, keep_best=keep_best), xrays, tmp_path, validate=validate)
    assert progress.kept_epoch == kept
    assert not model.training
    assert_close(model.state_dict(), seen[kept - 1], rtol=0, atol=0)
    assert all(not seen[i]["linear.bias"].equal(seen[j]["linear.bias"]) for i in range(4) for j in range(i))


def test_steps_follow_the_schedule_and_visit_each_file_once(accelerator, xrays, tmp_path):
    rates, visited, rows = [], [], []

    def step_loss(model, batch, step_random):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        visited.append(batch.pixels)
        return squared_loss(model, batch, step_random) * 0 + len(batch.label)

    trainer = trainer_of(Brightness(), accelerator, step_loss=step_loss, epochs=2, warmup_epochs=0.5, cosine=False)
    fit(
        trainer,
        xrays,
        tmp_path,
        log=lambda row, epoch: rows.append((epoch, row["train/loss"], row["train/learning_rate"])),
    )
    # Nine files are three steps of three, at epochs 0, 1/3, 2/3, 1, …: warm-up ends after half an epoch.
    assert rates == pytest.approx([0.0, 0.1 * 2 / 3, 0.1, 0.1, 0.1, 0.1])
    assert [len(pixels) for pixels in visited] == [3] * 6
    assert rows == [(1, 3.0, pytest.approx(0.1)), (2, 3.0, pytest.approx(0.1))]
    epochs = [torch.cat(visited[:3]), torch.cat(visited[3:])]
    every = batch_of(xrays, np.arange(9), accelerator.device).pixels
    for epoch in epochs:
        matches = (epoch[:, None] == every[None]).flatten(2).all(dim=2)
        assert matches.sum(dim=0).eq(1).all()
        assert matches.sum(dim=1).eq(1).all()
    assert not epochs[0].equal(epochs[1])


def test_the_loss_of_an_epoch_is_the_mean_over_files(accelerator, xrays, tmp_path):
    def number_of_files(model, batch, step_random):
        return model(batch.pixels) * 0 + len(batch.label)

    rows = []
    trainer = trainer_of(Brightness(), accelerator, step_loss=number_of_files, epochs=1, batch_size=5)
    fit(trainer, xrays, tmp_path, log=lambda row, epoch: rows.append(row))
    assert rows[0]["train/loss"] == pytest.approx((5 * 5 + 4 * 4) / 9)  # steps of 5 and 4 files


def test_a_loss_that_is_not_finite_stops_training_and_spares_the_checkpoint(accelerator, xrays, tmp_path):
    steps = []

    def step_loss(model, batch, step_random):
        steps.append(batch)
        return squared_loss(model, batch, step_random) * (math.nan if len(steps) == 5 else 1)

    with pytest.raises(FractureMaeError, match=r"became nan in epoch 2.*--learning-rate"):
        fit(trainer_of(Brightness(), accelerator, step_loss=step_loss), xrays, tmp_path)
    assert [folder.name for folder in (tmp_path / "training").iterdir()] == ["epoch-000001"]


def test_how_to_compute_is_settled_once(accelerator, xrays, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fracture_mae.training.trainer.choose", lambda *args: asked.append(args) or Chosen("sdpa", compile=False)
    )
    trainer = trainer_of(Brightness(), accelerator, epochs=1)
    for name in ("first", "second"):
        progress = fit(trainer, xrays, tmp_path / name)
        assert progress.computed_by["attention"] == "sdpa"
    assert len(asked) == 1


def test_the_share_of_time_that_steps_wait_for_data(accelerator, xrays, tmp_path, monkeypatch):
    gather = trainer.gather

    def shares(root):
        rows = []
        fit(trainer_of(Brightness(), accelerator, batch_size=2), xrays, root, log=lambda row, epoch: rows.append(row))
        return [row["train/data_wait_share"] for row in rows]

    assert all(0 <= share < 0.9 for share in shares(tmp_path / "fast"))
    monkeypatch.setattr(trainer, "gather", lambda *args: time.sleep(0.05) or gather(*args))
    assert all(0.5 < share < 1 for share in shares(tmp_path / "slow"))  # a step takes much less than 50 ms


def seen_pixels(accelerator, xrays, root, source_augmentation, accumulation=1):
    """What the network is shown in each step of an epoch, and its labels."""
    seen = []

    def step_loss(model, batch, step_random):
        seen.append((batch.pixels[:, 0].mul(255).round().byte(), batch.label))
        return squared_loss(model, batch, step_random)

    made = trainer_of(Brightness(), accelerator, step_loss=step_loss, epochs=1)
    made.step_options = StepOptions(accumulation=accumulation)
    made.source_augmentation = source_augmentation
    fit(made, xrays, root)
    return tuple(torch.cat(parts) for parts in zip(*seen, strict=True))


def test_source_augmentation_changes_pixels_and_no_labels(accelerator, xrays, tmp_path):
    usual, label = seen_pixels(accelerator, xrays, tmp_path / "usual", None)
    hidden, same = seen_pixels(accelerator, xrays, tmp_path / "hidden", SourceAugmentation(1.0))
    assert label.equal(same)
    assert usual.shape == hidden.shape
    assert (usual != hidden).flatten(1).any(dim=1).float().mean() > 0.8
    again, _ = seen_pixels(accelerator, xrays, tmp_path / "again", SourceAugmentation(1.0))
    assert hidden.equal(again)
    in_parts, _ = seen_pixels(accelerator, xrays, tmp_path / "parts", SourceAugmentation(1.0), accumulation=3)
    assert in_parts.equal(hidden)


def test_pixels_on_a_gpu_are_not_taken_for_changed_ones(accelerator, xrays, tmp_path, monkeypatch):
    def on_the_device(xrays, device):
        raise AssertionError("these would stay as they are")

    monkeypatch.setattr(trainer, "pixels_of", on_the_device)
    seen_pixels(accelerator, xrays, tmp_path / "hidden", SourceAugmentation(1.0))
    with pytest.raises(AssertionError):
        seen_pixels(accelerator, xrays, tmp_path / "usual", None)


COMPUTATIONS = {
    "in parts": {"accumulation": 3},
    "more parts than X-rays": {"accumulation": 100},
    "recomputed": {"checkpointing": True},
    "eager": {"attention": "eager"},
    "written out": {"attention": "written_out"},
    "what is faster": {"attention": "auto"},
    "all at once": {"accumulation": 2, "checkpointing": True, "attention": "eager"},
}


@pytest.fixture
def history(accelerator, tiny_mae, dataset, tmp_path):
    """Metrics of the epochs of a stage, but for speeds."""
    configs = {
        "autoencoder": (FinetuneMae, {"rotation": 10, "source_augmentation": 1}),
        "classifier": (TrainClassifier, {"drop_path": 0.5, "weight_by": "group"}),
    }

    def of(stage, name, **options):
        kind, own = configs[stage]
        given = {"epochs": 2, "batch_size": 5, "compile": False, "attention": "sdpa"} | own | options
        config = kind(**given).settled("random")
        rows, mae = [], copy.deepcopy(tiny_mae)
        with Checkpoints(tmp_path, name, resume=True) as kept:
            settings = {"accelerator": accelerator, "checkpoints": kept, "log": lambda row, epoch: rows.append(row)}
            if stage == "autoencoder":
                progress = finetune.train(mae, dataset, config, **settings)
            else:
                progress = classifier_stage.train(
                    classifier_stage.build(MaeEncoder.of(mae), config), dataset, config, **settings
                )
        accelerator.free_memory()
        assert progress.computed_by["compile"] == str(config.compile).lower()
        return [{name: value for name, value in row.items() if name not in SPEEDS} for row in rows]

    return of


def assert_same(found, expected, what):
    assert expected[0]["train/loss"] != expected[1]["train/loss"]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5), what


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder", "classifier"])
def test_how_steps_are_computed_changes_no_result(history, stage):
    expected = history(stage, "plain")
    for name, options in COMPUTATIONS.items():
        assert_same(history(stage, name, **options), expected, name)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("stage", "options", "backend"),
    [
        (
            "autoencoder",
            {"accumulation": 2, "checkpointing": True},
            "aot_eager",
        ),  # Inductor's kernels take a minute and more
        ("classifier", {}, "inductor"),
    ],
)
def test_compiled_steps_have_the_same_result(history, monkeypatch, stage, options, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    assert_same(history(stage, "compiled", compile=True, **options), history(stage, "plain"), "compiled")


def test_a_training_goes_on_whatever_computes_it(accelerator, tiny_mae, dataset, tmp_path):
    """What was begun in one way is resumed in another, and says how it was computed last."""

    def train(stop_after=None, **options):
        config = FinetuneMae(**{"epochs": 2, "batch_size": 9, "attention": "sdpa"} | options).settled("random")

        def log(row, epoch):
            if epoch == stop_after:
                raise Interrupted

        with Checkpoints(tmp_path, "training", resume=True) as kept:
            settings = {"accelerator": accelerator, "checkpoints": kept, "log": log}
            return finetune.train(copy.deepcopy(tiny_mae), dataset, config, **settings)

    with pytest.raises(Interrupted):
        train(stop_after=1)
    progress = train(accumulation=2, checkpointing=True, attention="eager")
    assert progress.epochs_done == 2
    chosen = {"attention": "eager", "compile": "false", "cuda_graphs": "false", "precision": "fp32", "processes": "1"}
    assert progress.computed_by == chosen


class Interrupted(Exception):
    pass


def train_mae(mae, dataset, **options):
    config = FinetuneMae(epochs=3, batch_size=4, rotation=10, intensity=0.3, source_augmentation=0.5).settled("random")
    finetune.train(mae, dataset, config, **options)
    return mae


def trained_classifier(mae, dataset, **options):
    config = TrainClassifier(epochs=3, batch_size=4, drop_path=0.5).settled("random")
    classifier = classifier_stage.build(MaeEncoder.of(mae), config)
    classifier_stage.train(classifier, dataset, config, **options)
    return classifier


def trained(stage, mae, dataset, root, stop_after=None):
    """Weights after training, and the epochs that were logged; None and these if it is interrupted after `stop_after`."""
    torch.manual_seed(len(str(root)) + (stop_after or 0))  # whatever stood in the global generator before
    logged = []

    def log(row, epoch):
        logged.append(epoch)
        if epoch == stop_after:
            raise Interrupted

    options = {"accelerator": make_accelerator("fp32", "cpu"), "log": log}
    with Checkpoints(root, "training", resume=True) as checkpoints:
        try:
            return stage(copy.deepcopy(mae), dataset, checkpoints=checkpoints, **options).state_dict(), logged
        except Interrupted:
            return None, logged


@pytest.mark.parametrize("stage", [train_mae, trained_classifier])
def test_interrupted_after_each_epoch_and_resumed_ends_as_never_interrupted(
    accelerator, tiny_mae, dataset, tmp_path, stage
):
    expected, _ = trained(stage, tiny_mae, dataset, tmp_path / "whole")
    for stop_after in (1, 2):
        _, logged = trained(stage, tiny_mae, dataset, tmp_path / "resumed", stop_after)
        assert logged == list(range(1, stop_after + 1))  # earlier epochs are logged again, in order
    found, logged = trained(stage, tiny_mae, dataset, tmp_path / "resumed")
    assert logged == [1, 2, 3]
    assert_close(found, expected, rtol=0, atol=1e-6)
    assert any(not value.equal(found[name]) for name, value in stage_start(stage, tiny_mae).items())


def stage_start(stage, mae):
    if stage is train_mae:
        return mae.state_dict()
    return classifier_stage.build(MaeEncoder.of(copy.deepcopy(mae)), TrainClassifier()).state_dict()


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_ends_as_never_killed(tmp_path):
    command = [sys.executable, Path(__file__).with_name("killed_training.py"), tmp_path]
    path = os.pathsep.join([str(Path(fracture_mae.__file__).parents[1]), str(PROJECT)])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    exits = json.loads(done.stdout.splitlines()[-1])
    assert exits.count(-signal.SIGKILL) >= 7  # the seven deaths while writing; of the six at random most
    assert exits[-2:] == [0, 0]
    killed, whole = (load_file(tmp_path / f"{name}.safetensors") for name in ("killed", "whole"))
    assert_close(killed, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "no")])
@pytest.mark.usefixtures("_no_accelerator")
def test_auto_precision_is_what_the_processor_has(monkeypatch, has_bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert make_accelerator("auto", "cpu").mixed_precision == expected


@pytest.fixture
def _no_accelerator(accelerator):
    """Accelerate forgets the precision of the accelerator made first."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there():
    with pytest.raises(FractureMaeError, match="--device cuda"):
        make_accelerator("auto", "cuda")
