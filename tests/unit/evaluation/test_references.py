from dataclasses import replace

import numpy as np
import pytest

from fracture_mae.data.types import XRays
from fracture_mae.evaluation import references
from fracture_mae.metrics.scores import summary
from tests import builders


def pictures(images, **columns):
    """X-rays that are these pictures [n, side, side], with columns of the table replaced."""
    xrays = builders.xrays("train", np.arange(len(images)) % 2)
    return XRays("train", xrays.table.assign(**columns), np.stack(images).astype(np.uint8), xrays.rows)


def test_gradient_histograms_see_edges_and_their_direction():
    flat, upright = np.full((32, 32), 90), np.zeros((32, 32))
    upright[:, 16:] = 200
    found = references.gradient_histograms(pictures([flat, upright, upright.T]))
    assert found.shape == (3, 1764)
    assert found.dtype == np.float32
    assert not found[0].any()
    directions = found[1:].reshape(2, -1, 9).sum(axis=1)
    assert directions.argmax(axis=1).tolist() == [0, 4]  # of nine from 0° to 180°, 4 is the one around 90°


@pytest.fixture
def told_by_size(dataset):
    """Fractured X-rays come as files twice as big, and look like any other."""

    def side(name, n):
        xrays = builders.xrays(name, np.arange(n) % 2)
        grey = np.random.default_rng(n).integers(0, 255, xrays.pixels.shape, dtype=np.uint8)
        return XRays(name, xrays.table.assign(bytes=1000 * (1 + xrays.label)), grey, xrays.rows)

    return replace(dataset, train=side("train", 40), validation=side("validation", 12), test=side("test", 14))


def auroc(xrays, logit):
    return summary(xrays.label, 1 / (1 + np.exp(-logit)), 0.5)["auroc"]


def test_references_find_what_is_theirs_to_find(told_by_size):
    logits = references.fit_and_predict(told_by_size, seed=0)
    by_file, by_gradient = logits[references.FILE_PROPERTIES], logits[references.GRADIENT_HISTOGRAMS]
    assert {name: len(values) for name, values in by_file.items()} == {"train": 40, "validation": 12, "test": 14}
    assert auroc(told_by_size.test, by_file["test"]) == 1
    assert auroc(told_by_size.test, by_gradient["test"]) < 0.9
    assert np.isfinite(by_gradient["train"]).all()


def test_gradient_histograms_find_a_line_across_the_bone(dataset):
    logits = references.fit_and_predict(dataset, seed=0)[references.GRADIENT_HISTOGRAMS]
    assert auroc(dataset.test, logits["test"]) == 1


def test_held_out_labels_have_no_say(told_by_size):
    turned = told_by_size.test.table.assign(label=1 - told_by_size.test.label)
    test = XRays("test", turned, told_by_size.test.pixels, told_by_size.test.rows)
    before = references.fit_and_predict(told_by_size, seed=0)
    after = references.fit_and_predict(replace(told_by_size, test=test), seed=0)
    for name, by_split in before.items():
        np.testing.assert_allclose(after[name]["test"], by_split["test"])  # threads add up trees in any order


def test_an_xray_weighs_the_same_however_many_files_it_has(dataset):
    once = builders.xrays("train", [0, 1, 0, 1, 0, 1])
    copied = once.subset(np.array([0, 1, 1, 1, 1, 2, 3, 4, 5]))
    logits = [
        references.fit_and_predict(replace(dataset, train=train), seed=0)[references.GRADIENT_HISTOGRAMS]["test"]
        for train in (once, copied)
    ]
    np.testing.assert_allclose(*logits, atol=1e-6)
