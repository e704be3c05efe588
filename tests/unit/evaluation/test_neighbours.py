import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracture_mae.evaluation import neighbours
from fracture_mae.models import classifier as classifier_model
from tests import builders


class Kept:
    """What a classifier keeps of training X-rays: features of some, by the files' bytes."""

    spacing = 2.0

    def __init__(self, train, features):
        self.features, self.features_of = features, train.table["sha256"].to_numpy().astype(str)
        self.features_label = train.label

    def nearest(self, seen, k):
        distance = np.linalg.norm(seen[:, None] - self.features[None], axis=2)
        return distance.argsort(axis=1)[:, :k], np.sort(distance, axis=1)[:, :k]


@pytest.fixture
def network(tiny_mae):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0).eval()
    network.preprocess = "letterbox"
    return network


@pytest.fixture
def options(accelerator):
    return {"batch_size": 4, "accelerator": accelerator}


@pytest.fixture
def train(tmp_path):
    """Training X-rays whose files are there."""
    made = builders.xrays("train", [0, 1, 1, 0, 1])
    for position, picture in enumerate(made.pixels):
        path = tmp_path / f"{position}.png"
        Image.fromarray(picture).save(path)
        made.table.loc[position, ["path", "sha256"]] = str(path), hashlib.sha256(path.read_bytes()).hexdigest()
    return made


@pytest.fixture
def own(train, network, options):
    return Kept(train, neighbours.features(network, train, **options))


def never():
    raise AssertionError("nothing needs to be looked for")


def test_each_xray_is_nearest_to_itself(train, own, network, options):
    found = neighbours.of(train.subset(np.array([3, 1])), [train], never, own, network, **options)
    assert found.remark == ""
    assert [len(each) for each in found.of_each] == [3, 3]
    for each, position in zip(found.of_each, (3, 1), strict=True):
        np.testing.assert_array_equal(each[0].pixels, train.images(np.array([position]))[0])
        assert (each[0].label, each[0].name) == (train.label[position], f"{position}.png")
        distance = np.sort(np.linalg.norm(own.features[position] - own.features, axis=1))[:3]
        np.testing.assert_allclose([one.distance for one in each], distance / own.spacing, atol=1e-5)


def test_elsewhere_the_files_that_it_was_trained_on_are_shown(train, own, network, options):
    abroad = builders.xrays("external", [0, 1])
    found = neighbours.of(abroad, [abroad], lambda: train.table[["path", "sha256"]], own, network, **options)
    assert found.remark == ""
    pictures = {f"{position}.png": picture for position, picture in enumerate(train.pixels)}
    for each in (one for near in found.of_each for one in near):
        np.testing.assert_array_equal(each.pixels, pictures[each.name])
        assert each.label == train.label[int(each.name[0])]


def test_what_is_gone_or_changed_is_told_without_a_picture(train, own, network, options, tmp_path):
    """Of the picture that now has a name of before, nothing is shown."""
    own.nearest = lambda seen, k: (np.array([[0, 1, 2]]), np.array([[1.0, 2, 3]]))
    (tmp_path / "0.png").unlink()
    Image.fromarray(train.pixels[4]).save(tmp_path / "1.png")
    abroad = builders.xrays("external", [1])
    ((gone, changed, there),) = (
        found := neighbours.of(abroad, [abroad], lambda: train.table, own, network, **options)
    ).of_each
    assert [(each.distance, each.label, each.name) for each in (gone, changed, there)] == [
        (0.5, 0, ""),
        (1.0, 1, ""),
        (1.5, 1, "2.png"),
    ]
    assert gone.pixels is changed.pixels is None
    np.testing.assert_array_equal(there.pixels, train.pixels[2])
    assert found.remark == (
        "Nearest training X-rays: 2 of 3 are not at hand (1 no longer at their paths, 1 changed since), so that label and distance "
        "alone are told of them"
    )


@pytest.mark.parametrize("files", [None, pd.DataFrame({"path": ["/1.png"]}), pd.DataFrame({"path": [], "sha256": []})])
def test_where_nobody_knows_the_files_label_and_distance_are_told(files, own, network, options):
    abroad = builders.xrays("external", [0, 1])
    found = neighbours.of(abroad, [abroad], lambda: files, own, network, **options)
    assert {one.pixels for near in found.of_each for one in near} == {None}
    assert {one.label for near in found.of_each for one in near} <= {0, 1}
    assert "are not at hand (it is not known where they lie), so that" in found.remark
    assert found.remark.startswith("Nearest training X-rays: all ")


def test_a_classifier_that_keeps_none_tells_none(network, options):
    xrays = builders.xrays("external", [0, 1])
    found = neighbours.of(xrays, [xrays], never, None, network, **options)
    assert found.of_each == [(), ()]
    assert "none are told, as this classifier does not say which it was trained on" in found.remark


def test_of_an_earlier_version_labels_are_those_of_the_files_at_hand(train, own, network, options):
    own.features_label = None
    seen = train.subset(np.array([3]))
    ((first, *_),) = neighbours.of(seen, [seen], lambda: None, own, network, **options).of_each
    assert (first.label, first.distance) == (0, pytest.approx(0, abs=1e-5))
    assert {each.label for each in neighbours.of(seen, [], lambda: None, own, network, **options).of_each[0]} == {None}
