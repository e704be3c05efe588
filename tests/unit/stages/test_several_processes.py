"""What the processes of a training are given, and that each finds a device."""

import pytest

from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.config.command_line import parse
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages import several_processes


@pytest.mark.parametrize(
    "config",
    [
        FinetuneMae(nproc=2, learning_rate=3e-5, recipe="original", checkpointing=True),
        TrainClassifier(nproc=2, class_weight="balanced", threshold=0.25, compile=True, weight_by="group"),
    ],
)
def test_ranks_get_the_very_same_config(config):
    words = several_processes.arguments_of(config)
    given = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    made = parse(type(config), given)
    assert made == config
    assert made.from_recipe == config.from_recipe  # of which a network need not obey what it cannot do
    assert "optimizer" in made.from_recipe


@pytest.mark.parametrize(("device", "refused"), [("auto", True), ("cuda", True), ("cpu", False)])
def test_each_process_needs_a_gpu_of_its_own(monkeypatch, device, refused):
    monkeypatch.setattr(several_processes.torch.cuda, "device_count", lambda: 2)
    several_processes._check_devices(FinetuneMae(nproc=2, device=device))
    if refused:
        with pytest.raises(FractureMaeError, match="--nproc 3: PyTorch finds 2 CUDA devices"):
            several_processes._check_devices(FinetuneMae(nproc=3, device=device))
    else:
        several_processes._check_devices(FinetuneMae(nproc=3, device=device))


@pytest.mark.parametrize("option", ["data_dir", "unlabelled_dir"])
def test_xrays_that_are_not_there_are_told_before_processes_are_started(store, monkeypatch, option):
    started = []
    monkeypatch.setattr(several_processes, "start", lambda *arguments: started.append(arguments))
    with pytest.raises(
        FractureMaeError, match=f"--{option.replace('_', '-')} /nowhere: there is no such folder or CSV"
    ):
        several_processes.lead("entrypoints.finetune_mae", FinetuneMae(nproc=2, device="cpu", **{option: "/nowhere"}))
    assert started == []
    several_processes.lead("entrypoints.finetune_mae", FinetuneMae(nproc=2, device="cpu"))
    assert len(started) == 1
