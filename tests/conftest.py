"""Fixtures for all tests, and caches that no test shares with the user."""

import gc
import os
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests import builders

# What is read stays: the collector, which would go through it again and again, gets a fifth of the fast tests' time otherwise.
gc.set_threshold(10_000)
# torch and huggingface_hub read these once, when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir(), "fracture-mae-tests-without-a-hub"))
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_finish():
    if "PYTEST_XDIST_WORKER" in os.environ:  # which comes to need all of them
        import fracture_mae.tracking.libraries  # noqa: F401
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: of several processes none works on a long one while the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that parallel workers have in common."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def real_xrays(shared):
    """See `real_xrays.prepare`; of parallel workers one prepares them, which takes minutes, and the others wait."""
    from tests import real_xrays

    root = shared / "real"
    with FileLock(shared / "real.lock"):
        if not root.exists():
            real_xrays.prepare(Path(os.environ["FRACTURE_DATA"]), root)
    return root


@pytest.fixture(scope="module")
def real_workplace(tmp_path_factory, real_xrays):
    """The real X-rays as they are published, copies and all, and an empty store."""
    root = tmp_path_factory.mktemp("real")
    (root / "xrays").symlink_to(real_xrays / "published")
    (root / "cache").symlink_to(real_xrays / "cache")
    return root


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
def chain(shared):
    """Where the whole chain ran once; of parallel workers one runs it and the others wait."""
    from tests.workplace import SMALL, Workplace, given

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
