"""On a GPU everything comes to what it comes to on the processor; run by `pytest -m gpu` where there is one."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch.testing import assert_close

from fracture_mae.config import FinetuneMae
from fracture_mae.evaluation.frozen_features import PooledEncoder, features
from fracture_mae.evaluation.prediction import predict
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages.finetune import train as finetune
from fracture_mae.training.batches import MappedPixels, ResidentPixels, batch_of, gather, pixels_of
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.cuda_graphs import Recorded
from fracture_mae.training.patch_labels import patch_labels
from fracture_mae.training.schedule import Schedule
from fracture_mae.training.step_options import StepOptions
from fracture_mae.training.step_random import StepRandom
from fracture_mae.training.trainer import Trainer, visiting_order
from tests import builders
from tests.unit.training import shared_training
from tests.unit.training.shared_training import CASES
from tests.workplace import SMALL, Workplace, command_of

pytestmark = pytest.mark.gpu
SPEEDS = {"train/images_per_second", "train/data_wait_share"}

ON_GPU = SMALL | {"precision": "auto", "device": "auto"}


class Accelerators:
    """One at a time, as a process has only one."""

    def __call__(self, precision, device):
        AcceleratorState._reset_state(reset_partial_state=True)
        return make_accelerator(precision, device)


@pytest.fixture
def accelerators():
    yield Accelerators()
    AcceleratorState._reset_state(reset_partial_state=True)


def numbers(history):
    return [{name: value for name, value in row.items() if name not in SPEEDS} for row in history]


def assert_alike(found, expected, tolerance):
    assert len(found) == len(expected) >= 2
    for ours, theirs in zip(numbers(found), numbers(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_the_processor(accelerators, tmp_path, case):
    expected = shared_training.train(CASES[case], tmp_path / "cpu", accelerators("fp32", "cpu"))
    found = shared_training.train(CASES[case], tmp_path / "cuda", accelerators("fp32", "cuda"))
    assert_alike(found, expected, tolerance=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_every_way_to_compute_a_step_has_the_same_losses(accelerators, tmp_path, attention, compiled, cuda_graphs):
    usual = FinetuneMae(batch_size=4, epochs=3, rotation=10, intensity=0.3)
    asked = usual.model_copy(update={"attention": attention, "compile": compiled, "cuda_graphs": cuda_graphs})
    expected = shared_training.train(usual, tmp_path / "cpu", accelerators("fp32", "cpu"))
    found = shared_training.train(asked, tmp_path / "cuda", accelerators("fp32", "cuda"))
    assert_alike(found, expected, tolerance=1e-3)


def test_bf16_is_the_default_and_trains_as_well(accelerators, tmp_path):
    accelerator = accelerators("auto", "auto")
    assert accelerator.device.type == "cuda"
    assert accelerator.mixed_precision == "bf16"
    config = FinetuneMae(batch_size=4, epochs=3)
    found = shared_training.train(config, tmp_path / "cuda", accelerator)
    expected = shared_training.train(config, tmp_path / "cpu", accelerators("fp32", "cpu"))
    assert_alike(found, expected, tolerance=0.03)


def test_what_was_compiled_is_what_is_said(accelerators, tmp_path):
    mae, config = mae_model.load("vit-mae-nano", image_size=builders.SIDE), FinetuneMae(batch_size=4, epochs=2)
    with Checkpoints(tmp_path, "training", resume=True) as checkpoints:
        progress = finetune(
            mae,
            builders.dataset(),
            config.model_copy(update={"compile": True}),
            accelerator=accelerators("bf16", "cuda"),
            checkpoints=checkpoints,
            log=lambda row, epoch: None,
        )
    chosen = {"attention": "sdpa", "compile": "true", "cuda_graphs": "true", "precision": "bf16", "processes": "1"}
    assert progress.computed_by == chosen


def test_a_recording_is_made_once_for_each_size_of_batch(accelerators, xrays):
    accelerator = accelerators("fp32", "cuda")
    calls = []

    def squared(weight, batch, step_random, is_last=True):
        calls.append(len(batch.label))
        grey = batch.pixels.mean(dim=(1, 2, 3)) + patch_labels(batch.boxes, None, (4, 4)).mean(dim=1)
        loss = ((weight * grey - step_random.uniform()).square() * batch.weight).sum()
        loss.backward()
        return loss.detach()

    weight = torch.nn.Parameter(torch.tensor(2.0, device=accelerator.device))
    xrays = replace(xrays, table=xrays.table.assign(boxes=["0 0 1 0.5", "", "0.5 0 1 1; 0 0 0.25 1"] * 3))
    recorded = Recorded(partial(squared, weight), [weight])
    for size in (4, 3, 4, 3, 4):
        positions = np.arange(size) + len(calls) % 5
        batch = batch_of(xrays, positions, accelerator.device, weight=1 / size)
        found = recorded(batch, StepRandom(size, size, device=accelerator.device)), weight.grad.clone()
        weight.grad = None
        expected = squared(weight, batch, StepRandom(size, size, device=accelerator.device)), weight.grad.clone()
        weight.grad = None
        calls.pop()
        assert_close(found, expected)
    assert len(calls) == 2 * 4  # three to warm up, one recorded


def test_what_cannot_be_recorded_is_computed_as_usual(accelerators, xrays, tmp_path, caplog):
    def waits(model, batch, step_random):
        model.total = step_random.uniform().sum().item()  # brings a number from the GPU
        return (model(batch.pixels.mean(dim=(2, 3))).squeeze(1) - batch.label).square()

    def train(device, cuda_graphs):
        model = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        trainer = Trainer(
            model,
            [{"params": list(model.parameters()), "lr": 0.1}],
            optimizer="adamw",
            schedule=Schedule(epochs=3, batch_size=4, monitor="m", maximise=True),
            step_loss=waits,
            accelerator=accelerators("fp32", device),
            step_options=StepOptions(cuda_graphs=cuda_graphs),
        )
        with Checkpoints(tmp_path, device, resume=False) as checkpoints:
            order = visiting_order(xrays, "file")
            return trainer.fit(xrays, order, lambda model: {"m": 0.0}, checkpoints, lambda row, epoch: None).history

    expected = train("cpu", False)
    assert not caplog.messages
    assert_alike(train("cuda", True), expected, tolerance=1e-3)
    (message,) = caplog.messages
    assert "cannot be recorded as a CUDA graph" in message


def test_the_whole_chain_runs_on_the_gpu(tmp_path):
    workplace = Workplace(tmp_path / "project").create()
    steps = {
        "finetune_mae": {"model": "vit-mae-nano", "epochs": 3},
        "train_classifier": {"epochs": 3},
        "evaluate": {"n_draws": 100},
        "tune": {"depth": "finetune", "n_trials": 2, "n_folds": 2},
    }
    for name, parameters in steps.items():
        done = workplace.python(name, **ON_GPU | parameters)
        assert done.returncode == 0, done.stderr
    trained = workplace.runs("fracture-mae")[0]
    assert trained.data.tags["step.precision"] == "bf16"
    assert trained.data.tags["step.cuda_graphs"] == "true"


def test_a_training_goes_on_on_another_device(accelerators, tmp_path):
    def train(folder, epochs, device):
        config = FinetuneMae(batch_size=4, epochs=epochs, warmup_epochs=0, optimizer="adam")  # a constant learning rate
        return shared_training.train(config, tmp_path / folder, accelerators("fp32", device))

    expected = train("straight", 4, "cpu")
    train("parted", 1, "cpu")
    train("parted", 3, "cuda")
    assert_alike(train("parted", 4, "cpu"), expected, tolerance=1e-3)


def test_pixels_on_the_device_are_those_of_the_file(xrays):
    device = torch.device("cuda")
    xrays = replace(xrays, table=xrays.table.assign(boxes=["0 0 1 0.5", "", "0.5 0 1 1; 0 0 0.25 1"] * 3))
    assert isinstance(pixels_of(xrays, device), ResidentPixels)
    positions = np.array([3, 0, 0, 8])
    mapped, resident = (
        gather(xrays, kind(xrays, device), positions, weight=np.array([0.5, 1, 2, 0])).batch()
        for kind in (MappedPixels, ResidentPixels)
    )
    for name in ("pixels", "label", "weight", "boxes"):
        ours = getattr(resident, name)
        assert ours.device.type == "cuda"
        assert_close(ours, getattr(mapped, name), rtol=0, atol=0, equal_nan=True)
    assert (resident.pixels[:, 0] * 255).round().byte().cpu().equal(torch.from_numpy(xrays.pixels[positions]))


def test_logits_and_features_are_those_of_the_processor(accelerators, tmp_path, monkeypatch):
    xrays, found = builders.training_xrays(), {}
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / device))
        options = {"batch_size": 4, "accelerator": accelerators("fp32", device)}
        mae = mae_model.load("vit-mae-nano", image_size=builders.SIDE)
        pooled = features(PooledEncoder(MaeEncoder.of(mae)), xrays, **options)
        classifier = classifier_model.from_mae(mae, pool="mean")
        found[device] = pooled | {"logit": predict(classifier, xrays, **options)["logit"].to_numpy()}
    for name, values in found["cpu"].items():
        np.testing.assert_allclose(found["cuda"][name], values, rtol=1e-3, atol=1e-4)


def test_too_large_a_batch_is_a_sentence(tmp_path):
    workplace = Workplace(tmp_path / "project").create()
    program = (
        "import runpy, torch; torch.cuda.set_per_process_memory_fraction(0.001); "
        "runpy.run_module('entrypoints.finetune_mae', run_name='__main__', alter_sys=True)"
    )
    given = command_of("finetune_mae", ON_GPU | {"model": "vit-mae-small", "epochs": 1})[3:]
    process = workplace.start([sys.executable, "-c", program, *given])
    assert process.wait() == 1
    output = (workplace.root / "output.txt").read_text()
    assert "Take a smaller --batch-size" in output
    assert "Traceback" not in output
