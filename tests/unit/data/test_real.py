"""The real X-rays: what is known of them must come out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fracture_mae import data

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    source = Path(os.environ["FRACTURE_DATA"])
    root = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, source / "materialise.py", root / "xrays"], check=True, stdout=subprocess.DEVNULL)
    os.environ["FRACTURE_MAE_CACHE"] = str(root / "cache")
    yield root / "xrays"
    del os.environ["FRACTURE_MAE_CACHE"]


def test_grouped_split_of_the_published_tree(published):
    dataset = data.load(str(published))
    assert len(dataset.index) + len(dataset.rejected) == 7_367
    assert dataset.rejected["reason"].str.contains("truncated").all()
    assert len(dataset.rejected) < 20
    assert dataset.leakage == 0
    by_source = dataset.index.groupby("source")["group"].nunique()
    assert 65 <= by_source["0 rotated"] <= 75
    for xrays in (dataset.train, dataset.validation, dataset.test):
        rotated = xrays.table[xrays.table["source"] == "0 rotated"]
        assert rotated.groupby("label")["group"].nunique().min() >= 3


def test_almost_all_of_the_published_test_leaks(published):
    assert data.load(str(published), split="published").leakage > 0.9
