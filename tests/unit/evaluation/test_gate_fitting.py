from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC

from fracture_mae.data.types import XRays
from fracture_mae.evaluation import gate_fitting
from fracture_mae.models import classifier as classifier_model
from tests import builders


@pytest.fixture
def network(tiny_mae):
    return classifier_model.from_mae(tiny_mae, pool="mean", seed=0)


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch):
    monkeypatch.setattr(gate_fitting, "_FEWEST_FOREIGN", 48)
    monkeypatch.setattr(gate_fitting, "_MOST_FOREIGN", 48)


def fit(network, dataset, accelerator, train=None):
    options = {"batch_size": 16, "accelerator": accelerator}
    return gate_fitting.fit(network, train or dataset.train, dataset.validation, seed=0, **options)


@pytest.fixture
def large():
    """40 training X-rays, 20 of validation, 20 of test."""
    sides = {
        name: builders.xrays(name, builders.LABEL[:n]) for name, n in (("train", 40), ("validation", 20), ("test", 20))
    }
    index = pd.concat([side.table.assign(split=name) for name, side in sides.items()], ignore_index=True)
    return replace(builders.dataset(), index=index, **sides)


def test_what_is_no_xray_is_refused_and_other_xrays_are_not(network, large, accelerator):
    made = fit(network, large, accelerator)
    described = gate_fitting.described(network, large.test, batch_size=16, accelerator=accelerator)
    assert made.accepts(made.distance(described)).mean() >= 0.9
    rng = np.random.default_rng(0)
    foreign = np.concatenate(
        [
            np.full((18, 32, 32), 0, np.uint8) + np.arange(0, 256, 15, dtype=np.uint8)[:, None, None],
            rng.integers(0, 256, (10, 32, 32), dtype=np.uint8),
            rng.normal(120, 30, (10, 32, 32)).clip(0, 255).astype(np.uint8),
            np.where(rng.random((10, 32, 32)) < 0.1, 255, 60).astype(np.uint8),
        ]
    )
    pictures = XRays("foreign", large.test.table.iloc[np.zeros(len(foreign), int)], foreign, np.arange(len(foreign)))
    described = gate_fitting.described(network, pictures, batch_size=16, accelerator=accelerator)
    assert not made.accepts(made.distance(described)).any()


def test_too_few_for_one_percent_are_joined_by_training_xrays_out_of_fold(network, large, accelerator, monkeypatch):
    made = fit(network, large, accelerator)
    assert made.where == "20 of validation and 40 of training, out of fold"
    assert len(made.distances) == 60
    monkeypatch.setattr(gate_fitting, "_FEWEST", 20)
    alone = fit(network, large, accelerator)
    assert (alone.where, len(alone.distances)) == ("20 of validation", 20)
    assert set(alone.distances) <= set(made.distances)  # the border itself is the same
    assert (np.diff(made.distances) >= 0).all()


def test_out_of_fold_distances_are_larger_than_those_of_xrays_it_was_fitted_on(network, large, accelerator):
    described = gate_fitting.described(network, large.train, batch_size=16, accelerator=accelerator)
    others = gate_fitting._foreign(network, 48, accelerator)
    known = gate_fitting._Known.of(described, np.ones(40), others)
    own = known.gate().distance(described)
    fresh = known.out_of_fold(large.train.table["patient"].to_numpy())
    assert fresh.mean() > own.mean()


def test_a_border_is_that_of_a_support_vector_machine_on_the_numbers_themselves(network, large, accelerator):
    described = gate_fitting.described(network, large.train, batch_size=16, accelerator=accelerator)
    others = gate_fitting._foreign(network, 48, accelerator)
    known = gate_fitting._Known.of(described, np.ones(40), others)
    label = np.repeat([1, 0], [40 * known.parts, 48 * known.parts])
    weight = np.where(label == 1, 88 / 80, 88 / 96)
    machine = SVC(gamma=known.gamma).fit(known.values, label, sample_weight=weight)
    expected = -machine.decision_function(known.values[: 40 * known.parts]).reshape(40, -1).mean(axis=1)
    np.testing.assert_allclose(known.gate().distance(described), expected, atol=0.01)  # of a solver that stops at 0.001


def test_validation_that_stands_in_training_does_not_count(network, dataset, accelerator):
    """As where `tune` trains on both: two of its six, by patient."""
    both = dataset.validation.subset(np.arange(2))
    pixels = np.concatenate([dataset.train.pixels, both.pixels[:2]])
    table = pd.concat([dataset.train.table, both.table], ignore_index=True)
    joined = XRays("train", table, pixels, np.arange(len(pixels)))
    assert fit(network, dataset, accelerator, joined).where == "4 of validation and 8 of training, out of fold"


def test_copies_are_known_but_do_not_weigh_more(dataset, monkeypatch):
    """Nine files of six X-rays: of one there are three, of another two, of a third two."""
    assert len(gate_fitting._some_of_each(dataset.train, 0)) == 9
    monkeypatch.setattr(gate_fitting, "_MOST_COPIES", 2)
    taken = gate_fitting._some_of_each(dataset.train, 0)
    assert taken.table["group"].value_counts().max() == 2
    assert set(taken.group) == set(dataset.train.group)
    monkeypatch.setattr(gate_fitting, "_MOST_FILES", 4)
    assert len(gate_fitting._some_of_each(dataset.train, 0)) == 4


def test_of_each_xray_one_file_counts(network, dataset, accelerator):
    made = fit(network, dataset, accelerator)
    assert made.where == "6 of validation and 6 of training, out of fold"  # nine files of six X-rays
    assert made.centre.shape == made.scale.shape == made.support.shape[1:]
    assert made.refused == pytest.approx(1 / 13)


def test_it_is_the_same_every_time(network, dataset, accelerator):
    first, second = (fit(network, dataset, accelerator) for _ in range(2))
    np.testing.assert_array_equal(first.distances, second.distances)
    np.testing.assert_array_equal(first.support, second.support)
