import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fracture_mae.config import Compare, Evaluate
from fracture_mae.data.types import XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import references
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import predict
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import encoders
from fracture_mae.models.pixels import to_unit
from fracture_mae.stages import external, inputs
from tests.unit.models.networks import save_network

NAME = "frozen some/network"


@pytest.fixture
def frozen(tmp_path, accelerator):
    """A network for squares of 64 pixels."""
    save_network(tmp_path / "network", "convnext")
    return FrozenNetwork("some/network", encoders.load(str(tmp_path / "network")), 4, accelerator)


def features_of(frozen, pixels):
    with torch.inference_mode():
        return frozen.encoder(to_unit(torch.from_numpy(pixels))).patches.mean(dim=1).numpy()


def at_side(xrays, side):
    pixels = np.stack([cv2.resize(picture, (side, side)) for picture in xrays.images(np.arange(len(xrays)))])
    return XRays(xrays.name, xrays.table, pixels, np.arange(len(xrays)))


def test_it_is_shown_xrays_at_its_own_size(frozen, xrays):
    own = at_side(xrays, 64)
    np.testing.assert_allclose(frozen.describe(own), features_of(frozen, own.pixels), atol=1e-5)
    # Half the side tells less, but much the same; and the cache does not give out what was read from the other.
    small, black = frozen.describe(xrays), features_of(frozen, np.zeros_like(own.pixels))
    assert not np.array_equal(small, frozen.describe(own))
    apart = np.linalg.norm(small - frozen.describe(own), axis=1)
    assert (apart < np.linalg.norm(black - frozen.describe(own), axis=1)).all()


def test_a_third_reference_by_hand(frozen, dataset):
    train, test = dataset.train, dataset.test
    found = references.fit_and_predict(dataset, 0, frozen)
    assert list(found) == [references.FILE_PROPERTIES, references.GRADIENT_HISTOGRAMS, NAME]
    known, unknown = frozen.describe(train), frozen.describe(test)
    weight = 1 / np.array([train.group.tolist().count(group) for group in train.group])
    scaler = StandardScaler().fit(known, sample_weight=weight)
    model = LogisticRegression(C=1e-3, max_iter=2000).fit(scaler.transform(known), train.label, sample_weight=weight)
    np.testing.assert_allclose(found[NAME]["test"], model.decision_function(scaler.transform(unknown)), atol=1e-4)


def test_out_of_fold_it_stands_beside_the_others(frozen, xrays):
    fold = np.array([0, 0, 0, 1, 0, 0, 1, 1, 1])
    found = references.out_of_fold(xrays, fold, 0, frozen)
    assert list(found) == [references.FILE_PROPERTIES, references.GRADIENT_HISTOGRAMS, NAME]
    assert np.isfinite(found[NAME]["logit"]).all()
    assert list(references.out_of_fold(xrays, fold, 0)) == [references.FILE_PROPERTIES, references.GRADIENT_HISTOGRAMS]


@pytest.fixture
def own(frozen, dataset, tiny_mae, accelerator, tmp_path):
    classifier = classifier_model.from_mae(tiny_mae, pool="mean")
    options = {"batch_size": 4, "accelerator": accelerator}
    chosen_on = ChosenOn(predict(classifier, dataset.validation, **options))
    made = OwnData.of(classifier, dataset, chosen_on, seed=0, frozen=frozen, **options)
    made.save(tmp_path)
    return OwnData.load(tmp_path)


def test_a_classifier_keeps_what_was_fitted(own, frozen, dataset):
    assert own.frozen_by == ("some/network", frozen.fingerprint)
    found = own.reference_logits(dataset.test, 3, frozen)[NAME]
    np.testing.assert_allclose(found, references.fit_and_predict(dataset, 3, frozen)[NAME]["test"], atol=1e-4)
    assert NAME not in own.reference_logits(dataset.test, 3)


def test_elsewhere_only_what_is_kept_of_just_that_network_is_judged(own, frozen, accelerator, tmp_path, caplog):
    folder, other = str(tmp_path / "network"), str(tmp_path / "other")
    save_network(other, "resnet")
    for name, kept, said in (
        (folder, own, ""),
        (other, own, "keeps that on some/network"),
        (folder, bare(own), "keeps none"),
    ):
        found, tags = external._kept_reference(kept, Evaluate(reference_encoder=name), accelerator)
        assert (found is not None) == (not said)
        assert said in tags["reference_encoder.used"]
    assert f"train it with --reference-encoder {folder}" in caplog.text


def bare(own):
    return replace(own, frozen=None, frozen_by=("", ""))


def test_a_network_of_the_hub_that_cannot_be_had_is_left_out_and_a_folder_is_an_error(accelerator, caplog):
    with caplog.at_level(logging.WARNING):
        found, tags = inputs.load_reference(Compare(reference_encoder="some/network"), accelerator)
    assert (found, tags) == (None, {"reference_encoder.used": "none: some/network could not be had"})
    assert "left out: some/network is neither a folder" in caplog.text
    with pytest.raises(FractureMaeError, match="/no/such/folder does not exist"):
        inputs.load_reference(Compare(reference_encoder="/no/such/folder"), accelerator)
    assert inputs.load_reference(Compare(), accelerator) == (None, {})


def test_the_size_of_the_network_judged_is_not_that_of_the_reference(accelerator, tmp_path):
    save_network(tmp_path, "convnext")
    found, tags = inputs.load_reference(Compare(reference_encoder=str(tmp_path), image_size=96), accelerator)
    assert (found.encoder.image_size, found.title) == (64, f"frozen {tmp_path}")
    assert tags == {"reference_encoder.used": str(tmp_path)}
