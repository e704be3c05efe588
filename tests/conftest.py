"""Fixtures for all tests, and caches that no test shares with the user."""

import os
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests import builders

# torch and huggingface_hub read these once, when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir(), "fracture-mae-tests-without-a-hub"))
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: of several processes none works on a long one while the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory):
    """A cache that all tests on real X-rays share: to search them for copies takes minutes."""
    return tmp_path_factory.mktemp("real-cache")


@pytest.fixture
def accelerator():
    from accelerate.state import AcceleratorState

    from fracture_mae.processes.accelerator import make_accelerator

    yield make_accelerator("fp32", "cpu")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tiny_mae():
    return builders.tiny_mae()


@pytest.fixture
def tiny_encoder():
    return builders.tiny_encoder()


@pytest.fixture
def xrays():
    return builders.training_xrays()


@pytest.fixture
def dataset():
    return builders.dataset()


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """Where the whole chain ran once; of parallel workers one runs it and the others wait."""
    from tests.workplace import SMALL, Workplace, given

    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    workplace = Workplace(shared / "chain")
    with FileLock(shared / "chain.lock"):
        if not workplace.root.exists():
            options = {"model": "vit-mae-nano", "seed": 5, "mae_epochs": 2, "classifier_epochs": 3, "n_draws": 100}
            options["promote"] = "always"  # two epochs make nothing that is better than chance
            done = workplace.create(database=False).mlflow("run", ".", *given(SMALL | options))
            (workplace.root / "stdout.txt").write_text(done.stdout)
            (workplace.root / "stderr.txt").write_text(done.stderr)
            (workplace.root / "returncode.txt").write_text(str(done.returncode))
    assert (workplace.root / "returncode.txt").read_text() == "0", (workplace.root / "stderr.txt").read_text()
    return workplace
