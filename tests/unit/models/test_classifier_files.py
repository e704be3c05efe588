"""What is written of a classifier, and read again, also what earlier versions wrote."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import pooling
from fracture_mae.models.pixels import Normalisation
from tests.unit.models.networks import classifier_on, random_pixels


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_save_and_load_give_the_same_classifier(tiny_mae, tmp_path, pool):
    tiny_mae.normalisation = Normalisation((0.3,), (0.2,))
    classifier = classifier_on(tiny_mae, pool, drop_path=0.2).eval()
    decision = Decision(
        ("not fractured", "fractured"),
        threshold=math.pi / 10,
        slope=1.5,
        intercept=-math.e,
        prevalence=0.3,
        split_fingerprint="5a",
    )
    classifier_model.save(classifier, decision, tmp_path)
    loaded, loaded_decision = classifier_model.load(tmp_path)
    assert loaded_decision == decision
    assert not loaded.training
    assert loaded.image_size == 32
    assert loaded(random_pixels()).equal(classifier(random_pixels()))


def test_the_preprocessing_comes_from_the_encoder_and_is_kept(tiny_mae, tmp_path):
    decision = Decision(("not fractured", "fractured"), threshold=0.4, split_fingerprint="5a")
    assert classifier_on(tiny_mae).preprocess == "letterbox"
    tiny_mae.preprocess = "film"
    classifier_model.save(classifier_on(tiny_mae), decision, tmp_path)
    assert classifier_model.load(tmp_path)[0].preprocess == "film"
    described = json.loads((tmp_path / "classifier.json").read_text())
    del described["preprocess"]  # as before there was a choice
    (tmp_path / "classifier.json").write_text(json.dumps(described))
    assert classifier_model.load(tmp_path)[0].preprocess == "letterbox"
    (tmp_path / "classifier.json").write_text(json.dumps(described | {"preprocess": "sepia"}))
    with pytest.raises(FractureMaeError, match="preprocessed by 'sepia'"):
        classifier_model.load(tmp_path)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_arithmetic_of_its_answers_is_kept(tiny_mae, tmp_path, bf16):
    classifier = classifier_on(tiny_mae)
    classifier.bf16 = bf16
    classifier_model.save(classifier, Decision(("no", "yes")), tmp_path)
    assert classifier_model.load(tmp_path)[0].bf16 is bf16
    described = json.loads((tmp_path / "classifier.json").read_text())
    (tmp_path / "classifier.json").write_text(json.dumps(described | {"bf16": "perhaps"}))
    with pytest.raises(FractureMaeError, match="is damaged: bf16 is 'perhaps', not true or false"):
        classifier_model.load(tmp_path)
    del described["bf16"]  # as before it was tried
    (tmp_path / "classifier.json").write_text(json.dumps(described))
    assert classifier_model.load(tmp_path)[0].bf16 is False


def test_an_isotonic_decision_survives_saving(tiny_mae, tmp_path):
    isotonic = Isotonic((-1.5, 0.1 + 0.2, 2.0), (1 / 7, 1 / 3, 6 / 7))
    decision = Decision(("not fractured", "fractured"), threshold=0.4, split_fingerprint="5a", isotonic=isotonic)
    classifier_model.save(classifier_on(tiny_mae), decision, tmp_path)
    _, loaded = classifier_model.load(tmp_path)
    assert loaded == decision
    np.testing.assert_array_equal(loaded.probability([-2, 0, 5]), isotonic.apply([-2, 0, 5]))


def test_a_classifier_saved_before_there_was_an_isotonic_map(tiny_mae, tmp_path):
    decision = Decision(("not fractured", "fractured"), threshold=0.4, slope=0.5, split_fingerprint="5a")
    classifier_model.save(classifier_on(tiny_mae), decision, tmp_path)
    described = json.loads((tmp_path / "classifier.json").read_text())
    del described["decision"]["isotonic"]
    (tmp_path / "classifier.json").write_text(json.dumps(described))
    assert classifier_model.load(tmp_path)[1] == decision


def test_a_classifier_saved_with_a_temperature_answers_as_before(tiny_mae, tmp_path):
    classifier_model.save(classifier_on(tiny_mae), Decision(("not fractured", "fractured"), threshold=0.4), tmp_path)
    described = json.loads((tmp_path / "classifier.json").read_text())
    for name in ("slope", "intercept", "prevalence"):
        del described["decision"][name]
    described["decision"]["temperature"] = 2.5
    (tmp_path / "classifier.json").write_text(json.dumps(described))
    loaded = classifier_model.load(tmp_path)[1]
    assert (loaded.slope, loaded.intercept, loaded.prevalence) == (0.4, 0.0, None)
    np.testing.assert_allclose(loaded.probability([-3, 0, 2.5 * math.log(4)]), [1 / (1 + math.exp(1.2)), 0.5, 0.8])


def test_a_folder_without_a_classifier(tmp_path):
    with pytest.raises(FractureMaeError, match=r"holds no classifier.*classifier\.json"):
        classifier_model.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"short"),
        ("model.safetensors", None),
        ("classifier.json", b"{"),
        ("classifier.json", b"{}"),
        ("config.json", b"[]"),
    ],
)
def test_a_damaged_classifier_is_a_sentence(tiny_mae, tmp_path, file, content):
    classifier_model.save(classifier_on(tiny_mae), Decision(("not fractured", "fractured")), tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(FractureMaeError, match=r"the classifier in .* is damaged: .* register it anew"):
        classifier_model.load(tmp_path)


def test_weights_are_stored_under_the_names_of_an_encoders_own_checkpoint(tiny_mae, tmp_path):
    """So that classifiers can be read whichever version wrote them."""
    classifier_model.save(classifier_on(tiny_mae), Decision(("not fractured", "fractured")), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as stored:
        names = {name.removeprefix("encoder.") for name in stored.keys() if name.startswith("encoder.")}  # noqa: SIM118
    assert names == set(tiny_mae.network.vit.state_dict())


@pytest.mark.parametrize("pool", pooling.PATCH_POOLS)
def test_a_head_on_patches_is_kept_with_its_pooling(tiny_mae, tmp_path, pool):
    classifier = classifier_on(tiny_mae, pool, pool_temperature=0.7, pool_share=0.5).eval()
    with torch.no_grad():
        classifier.head.weight *= 50
    classifier_model.save(classifier, Decision(("not fractured", "fractured")), tmp_path)
    loaded, _ = classifier_model.load(tmp_path)
    assert loaded.pool_options == {"pool_temperature": 0.7, "pool_share": 0.5}
    with torch.no_grad():
        assert loaded(random_pixels()).equal(classifier(random_pixels()))


def test_a_classifier_from_before_heads_could_read_patches_is_read(tiny_mae, tmp_path):
    classifier = classifier_on(tiny_mae, "mean").eval()
    classifier_model.save(classifier, Decision(("not fractured", "fractured")), tmp_path)
    described = json.loads((tmp_path / "classifier.json").read_text())
    del described["pool_options"]
    (tmp_path / "classifier.json").write_text(json.dumps(described))
    loaded, _ = classifier_model.load(tmp_path)
    with torch.no_grad():
        assert loaded(random_pixels()).equal(classifier(random_pixels()))
