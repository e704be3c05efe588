"""The real X-rays: what is known of them must come out."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import loading, splits
from fracture_mae.data.copies import search
from fracture_mae.data.copies.groups import families
from tests import real_xrays

pytestmark = pytest.mark.data
SOURCE = Path(os.environ.get("FRACTURE_DATA", ""))

LOOKED_AT = 24  # links between pictures that names hold apart: looked at one by one, each pair is one X-ray


@pytest.fixture
def root(real_xrays, monkeypatch):
    """The folders `published` and `nameless`, see `real_xrays.prepare`, whose cache is in use."""
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(real_xrays / "cache"))
    return real_xrays


@pytest.fixture(scope="module")
def named():
    """A row for each content and family of names that it has: columns image, family, rotated."""
    listing = real_xrays.listing(SOURCE)
    family = families(listing["label"] + "/" + listing["published_name"], listing["label"])
    rotated = listing["published_name"].str.contains("rotated")
    return listing.assign(family=family, rotated=rotated).drop_duplicates(["image", "family", "rotated"])


@pytest.fixture
def found(root):
    """The links under names that tell nothing, a and b as in the listing; and the group of each image."""
    dataset = loading.load(str(root / "nameless"), image_size=32)
    images = real_xrays.contents(SOURCE)["image"]
    number = dataset.index["path"].map(lambda path: int(Path(path).stem))
    image = pd.Series(images[number].to_numpy(), index=dataset.index["sha256"])
    links = dataset.links.assign(a=image[dataset.links["a"]].to_numpy(), b=image[dataset.links["b"]].to_numpy())
    return links, search.groups(links, image.tolist())


def test_rotated_copies_are_found_under_names_that_tell_nothing(found, named):
    """All files called N-rotated… with one N and one label are copies of one X-ray: 39,110 pairs."""
    _, group = found
    rotated = named[named["rotated"] & named["image"].isin(group.index)]
    pairs = {pair for _, images in rotated.groupby("family")["image"] for pair in combinations(sorted(set(images)), 2)}
    linked = sum(group[a] == group[b] for a, b in pairs)
    assert len(pairs) > 39_000
    assert linked >= 0.99 * len(pairs)


def test_hardly_a_link_joins_different_xrays(found, named):
    links, _ = found
    family = named.groupby("image")["family"].agg(set)
    apart = sum(not family[a] & family[b] for a, b in zip(links["a"], links["b"], strict=True))
    assert len(links) > 2_200
    assert apart - LOOKED_AT <= 0.01 * len(links)


def test_grouped_split_of_the_published_tree(root):
    dataset = loading.load(str(root / "published"), image_size=32)
    assert len(dataset.index) + len(dataset.rejected) == 7_367
    assert dataset.rejected["reason"].str.contains("truncated").all()
    assert len(dataset.rejected) < 20
    assert not dataset.leakage
    by_source = dataset.index.groupby("source")["group"].nunique()
    assert 60 <= by_source["0 rotated"] <= 75
    for xrays in (dataset.train, dataset.validation, dataset.test):
        rotated = xrays.table[xrays.table["source"] == "0 rotated"]
        assert rotated.groupby("label")["group"].nunique().reindex([0, 1]).min() >= 1


@pytest.mark.parametrize("seed", range(3))
def test_each_side_has_its_share_though_some_xrays_have_a_hundred_copies(root, seed):
    table = loading.load(str(root / "published"), image_size=32, split_seed=seed).index.drop_duplicates("sha256")
    xrays = table.groupby("group").agg(label=("label", "first"), split=("split", "first"), size=("sha256", "size"))
    assert xrays["size"].max() > 60
    for _, mine in xrays.groupby("label"):
        for part, tolerance in ((mine, 2), (mine[mine["size"] >= 8], 1.25)):  # standard deviations of chance
            counts = part["split"].value_counts()
            for side in ("validation", "test"):
                assert abs(counts[side] - 0.15 * len(part)) <= tolerance * (0.15 * 0.85 * len(part)) ** 0.5
        files = mine.groupby("split")["size"].sum()[list(splits.NAMES)] / mine["size"].sum()
        assert files.tolist() == pytest.approx(splits.FRACTIONS, abs=0.2)


def test_almost_all_of_the_published_test_leaks(root):
    assert loading.load(str(root / "published"), image_size=32, split="published").leakage.with_label > 0.9


def test_boxes_of_the_xrays_that_come_with_some(tmp_path):
    """384 X-rays, 19 of them without a box; the letterbox leaves every box inside its picture."""
    folder = Path(os.environ["FRACTURE_DATA"]).parent / "fracture-boxes"
    listed = pd.read_csv(folder / "boxes.csv")
    names = listed["image"].drop_duplicates()
    pd.DataFrame({"path": [folder / "images" / name for name in names], "label": "fractured"}).to_csv(
        tmp_path / "xrays.csv", index=False
    )
    options = {"image_size": 64, "split": "external", "group_by": "names", "label_names": ("healthy", "fractured")}
    xrays = loading.load(str(tmp_path / "xrays.csv"), boxes=str(folder / "boxes.csv"), **options).test
    assert len(xrays) == 384
    assert xrays.has_boxes.sum() == 365
    boxes = xrays.boxes[~np.isnan(xrays.boxes).any(axis=2)]
    assert len(boxes) == listed["x0"].notna().sum()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    first = xrays.table["path"].str.endswith("0046a9320177656d.jpg").argmax()
    # 168.5, 153.0 to 218.0, 181.9 of 512 x 280 pixels, of which 64 x 35 are shown, from row 14 on.
    expected = [168.5 / 512, (14 + 153 / 8) / 64, 218 / 512, (14 + 181.9 / 8) / 64]
    assert xrays.boxes[first, 0] == pytest.approx(expected, abs=1e-5)
