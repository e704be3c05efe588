"""Fixtures for all tests, and caches that no test shares with the user."""

import os
import tempfile
from pathlib import Path

import pytest

from tests import made

# torch and huggingface_hub read these once, when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir(), "fracture-mae-tests-without-a-hub"))
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def accelerator():
    from accelerate.state import AcceleratorState

    from fracture_mae.training import make_accelerator

    yield make_accelerator("fp32", "cpu")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tiny_mae():
    return made.tiny_mae()


@pytest.fixture
def xrays():
    return made.training_xrays()


@pytest.fixture
def dataset():
    return made.dataset()
