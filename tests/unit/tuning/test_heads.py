import json

import numpy as np
import pytest
import torch

from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.training.batches import batch_of
from fracture_mae.tuning import heads
from tests import builders

KINDS = ["logistic", "ridge", "mlp"]


def params(head="logistic", **changes):
    return {"head": head, "regularisation": 0.01, "class_weight": 1.0, **changes}


@pytest.fixture
def points():
    """Features that lie apart by label in their second column, and labels, one in four fractured."""
    rng = np.random.default_rng(0)
    label = np.arange(80) % 4 == 0
    features = rng.standard_normal((80, 6)) * [1, 1, 1, 30, 0.01, 1] + [0, 0, 5, 0, 0, 0]
    features[:, 1] += 2.0 * label
    return features, label.astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_learns_what_tells_the_classes_apart(points, kind):
    features, label = points
    logit = heads.fit(features, label, np.ones(80), params(kind)).logit(features)
    assert logit[label == 1].mean() > logit[label == 0].mean() + 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_class_weight_moves_the_logit_towards_fractured(points, kind):
    features, label = points
    light, even, heavy = (
        heads.fit(features, label, np.ones(80), params(kind, class_weight=weight)).logit(features).mean()
        for weight in (0.2, 1, 5)
    )
    assert light < even < heavy


@pytest.mark.parametrize("kind", KINDS)
def test_regularisation_makes_logits_smaller(points, kind):
    features, label = points
    spread = [
        heads.fit(features, label, np.ones(80), params(kind, regularisation=r)).logit(features).std() for r in (1e-2, 5)
    ]
    assert spread[1] < 0.7 * spread[0]


def test_ridge_has_no_gradient_left(points):
    """Of the mean of the weighted squared distances to ±1, plus λ/2 · |w|²."""
    features, label = points
    head = heads.fit(features, label, np.ones(80), params("ridge", regularisation=0.3, class_weight=4))
    ((weight, bias),) = head.layers
    standardised = (features - head.mean) / head.std
    counts = np.where(label == 1, 4.0, 1.0)
    distance = standardised @ weight[0] + bias - (2 * label - 1)
    gradient = 2 * (counts * distance) @ standardised / counts.sum() + 0.3 * weight[0]
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_weighing_a_file_twice_is_showing_it_twice(points):
    features, label = points
    weight = np.ones(80)
    weight[:10] = 2
    weighted = heads.fit(features, label, weight, params()).logit(features)
    twice = np.r_[0:10, 0:80]
    repeated = heads.fit(features[twice], label[twice], np.ones(90), params(regularisation=0.01)).logit(features)
    np.testing.assert_allclose(weighted, repeated, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_head_answers_what_it_answered_on_the_features(tmp_path, kind):
    xrays = builders.training_xrays()
    with torch.inference_mode():
        pixels = batch_of(xrays, np.arange(len(xrays)), torch.device("cpu")).pixels
        features = classifier_model.from_mae(builders.tiny_mae(), pool="cls").eval().features(pixels).numpy()
        normed = heads.layer_normed(features)
        head = heads.fit(normed, xrays.label, np.ones(len(xrays)), params(kind))
        classifier = classifier_model.from_mae(builders.tiny_mae(), pool="cls", hidden=head.hidden)
        head.install(classifier)
        np.testing.assert_allclose(classifier.eval()(pixels), head.logit(normed), atol=1e-3)

        classifier_model.save(classifier, Decision(("no", "yes"), 0.2, objective="f2"), tmp_path)
        loaded, decision = classifier_model.load(tmp_path)
        assert decision == Decision(("no", "yes"), 0.2, objective="f2")
        np.testing.assert_array_equal(loaded(pixels), classifier(pixels))


def test_a_classifier_saved_before_heads_could_have_a_hidden_layer_still_loads(tmp_path):
    classifier = classifier_model.from_mae(builders.tiny_mae(), pool="mean").eval()
    classifier_model.save(classifier, Decision(("no", "yes"), 0.3), tmp_path)
    file = tmp_path / "classifier.json"
    described = json.loads(file.read_text())
    del described["hidden"], described["decision"]["objective"], described["decision"]["data_fingerprint"]
    file.write_text(json.dumps(described))
    loaded, decision = classifier_model.load(tmp_path)
    assert loaded.hidden == 0
    assert decision == Decision(("no", "yes"), 0.3)
