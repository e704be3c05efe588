import cv2
import numpy as np
import pytest

from fracture_mae.data.synthetic.xray import xray
from tests.builders import csv_of


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """A cache for what is made once for a module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(folder))
        yield folder


@pytest.fixture
def one_cache(module_cache, monkeypatch, _own_cache):
    """All tests of a module share one cache: the X-rays take seconds to draw."""
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(module_cache))


@pytest.fixture
def renamed(tmp_path):
    """Six X-rays under names that tell nothing; 0 and 1 were also turned, with the copy in test, as X-rays 6 and 7."""
    lines = ["path,label,split"]
    pictures = [xray(np.random.default_rng(seed), fractured=False, size=128) for seed in range(6)]
    pictures += [cv2.warpAffine(x, cv2.getRotationMatrix2D((64, 64), 20, 1), x.shape[::-1]) for x in pictures[:2]]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        side = ("train", "train", "train", "val", "val", "test", "test", "test")[number]
        lines.append(f"{number}.png,{('healthy', 'fractured')[number % 2]},{side}")
    return csv_of(tmp_path, lines)
