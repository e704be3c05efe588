"""Several processes end with the losses of one."""

import json
import os
from pathlib import Path

import pytest

import fracture_mae
from fracture_mae.processes import launching
from tests.unit.training import shared_training

pytestmark = pytest.mark.slow
SOURCES = [Path(fracture_mae.__file__).parents[1], Path(__file__).resolve().parents[3]]
PATH = os.pathsep.join([*map(str, SOURCES), os.environ.get("PYTHONPATH", "")])
SPEEDS = {"train/images_per_second", "train/data_wait_share"}


def numbers(history):
    return [{name: value for name, value in row.items() if name not in SPEEDS} for row in history]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    environment = {"PYTHONPATH": PATH, "FRACTURE_MAE_CACHE": str(folder / "cache"), "TQDM_DISABLE": "1"}
    launching.start(["-m", "tests.unit.training.shared_training", str(folder)], 2, environment)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("gradients", "histories")}


def test_two_processes_have_the_gradients_of_one(of_two, accelerator):
    expected = shared_training.gradients(accelerator)
    assert max(expected.values()) > 0.1
    assert of_two["gradients"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("case", shared_training.CASES)
def test_two_processes_have_the_losses_of_one(of_two, accelerator, tmp_path, case):
    expected = shared_training.train(shared_training.CASES[case], tmp_path, accelerator)
    found = numbers(of_two["histories"][case])
    assert len(found) == len(expected) >= 2
    for ours, theirs in zip(found, numbers(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
