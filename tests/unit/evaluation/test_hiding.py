"""Classifiers that look at the upper left corner alone, and maps that say so or do not."""

import numpy as np
import pytest
import torch
from torch import nn

from fracture_mae.evaluation import hiding
from fracture_mae.evaluation.place import Maps
from fracture_mae.models import classifier as classifier_model
from tests import builders
from tests.unit.evaluation.maps import maps_of


class UpperLeft(nn.Module):
    """Its logit is the contrast within the upper left quarter of the picture, and nothing else."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        return pixels[:, 0, : pixels.shape[2] // 4, : pixels.shape[3] // 4].flatten(1).std(dim=1)


def falls(hottest, accelerator):
    maps = maps_of([1] * 6, [""] * 6, [hottest] * 6)
    noise = np.random.default_rng(0).integers(0, 256, maps.xrays.pixels.shape).astype(np.uint8)
    xrays = type(maps.xrays)("made", maps.xrays.table, noise, maps.xrays.rows)
    made = Maps(xrays, maps.predictions, maps.heat, maps.meaning)
    return hiding._falls(UpperLeft(), made, np.random.default_rng(0), accelerator)


def test_hiding_what_it_looks_at_lowers_the_logit_and_hiding_others_does_not(accelerator):
    right, wrong = (falls(hottest, accelerator) for hottest in ((0, 0), (3, 3)))
    assert (np.array(right["hottest"]) > 0.1).all()
    assert right["others"] == pytest.approx([0] * 6, abs=1e-6)  # the others are the quarters it does not look at
    assert wrong["hottest"] == pytest.approx([0] * 6, abs=1e-6)
    assert (np.array(wrong["others"]) >= 0).all()


def test_what_lies_beyond_the_film_is_not_hidden():
    heat = np.arange(16.0).reshape(4, 4)
    shown = np.zeros((4, 4), bool)
    shown[0] = True
    hottest, *others = hiding._patches(heat, shown, np.random.default_rng(0))
    assert np.argwhere(hottest).tolist() == [[0, 3]]
    assert len(others) == 10
    for other in others:
        assert other.sum() == 1
        assert other[0, :3].any()


def test_random_weights_are_the_same_values_in_another_order(tiny_mae):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0)
    other, again = (hiding._with_random_weights(network, seed=1) for _ in range(2))
    moved = 0
    for one, two, three in zip(network.parameters(), other.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.flatten().sort().values, two.flatten().sort().values)
        torch.testing.assert_close(two, three)
        moved += int(not torch.equal(one, two))
    assert moved > 5


def test_everything_is_told_of_up_to_32_xrays(tiny_mae, accelerator):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0)
    xrays = builders.xrays("test", np.arange(40) % 2)
    report = hiding.judge(network, xrays, "test", seed=0, batch_size=8, accelerator=accelerator)
    table = report.tables["test/hidden_patches.csv"]
    assert len(table) == 32
    assert "patient" not in table
    rate = (table["hottest"] > table["others"]).mean()
    assert report.metrics["test/map/hottest_matter_more"] == pytest.approx(rate)
    assert report.metrics["test/map/alike_at_random"] == pytest.approx(table["alike_at_random"].mean())
    assert report.metrics["test/map/alike_at_random"] < 0.9
    told = hiding.digest(report, "test")
    assert (
        f"on 32 X-rays of test: with the hottest 10% of the patches hidden the logit falls by {table['hottest'].mean():.3f}"
        in told
    )
    again = hiding.judge(network, xrays, "test", seed=0, batch_size=8, accelerator=accelerator)
    assert again.metrics == report.metrics
