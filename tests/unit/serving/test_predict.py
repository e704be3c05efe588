import base64
import io
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from PIL import Image

from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.metrics.calibration import Isotonic, apply
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder, classifier, gate
from fracture_mae.models.gate import Gate
from fracture_mae.serving import models
from tests import builders, pictures

DECISION = Decision(("healthy", "broken"), threshold=0.55, slope=0.5, split_fingerprint="5" * 16)
PICTURES = builders.xrays("train", [0, 1, 0, 1, 0]).pixels
COLUMNS = ["label", "probability", "threshold", "model_id", "accepted", "reason", "farther_than"]


def as_base64(picture):
    return base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()


def rows(*images):
    return pd.DataFrame({"image": list(images)})


def open_model(model, network):
    """A model as MLflow opens it: its MLmodel file beside a folder of artifacts."""
    Model(model_id="m-7").save(network.parents[1] / "MLmodel")
    model.load_context(SimpleNamespace(artifacts={"network": str(network)}))
    return model


@pytest.fixture
def network(tiny_mae):
    return classifier.from_mae(tiny_mae, pool="mean", drop_path=0.0, seed=1).eval()


@pytest.fixture
def served(network, tmp_path):
    folder = tmp_path / "artifacts" / "network"
    classifier.save(network, DECISION, folder)
    return open_model(models.ServedClassifier(), folder)


def logits_of(network):
    with torch.inference_mode():
        return network(torch.from_numpy(PICTURES).unsqueeze(1) / 255).numpy().astype(float)


@pytest.fixture
def probability(network):
    """What the classifier itself says of PICTURES."""
    return apply(logits_of(network), 0.5)


def test_answers_are_the_classifiers_in_order(served, probability, monkeypatch):
    monkeypatch.setattr(models, "_BATCH", 2)  # the last batch holds one
    answers = served.predict(None, rows(*map(as_base64, PICTURES)))
    assert answers.columns.tolist() == COLUMNS
    np.testing.assert_allclose(answers["probability"], probability, rtol=1e-5)
    assert set(answers["threshold"]) == {0.55}
    assert set(answers["model_id"]) == {"m-7"}


def test_an_isotonic_classifier_answers_with_its_map(network, tmp_path):
    logit = logits_of(network)
    low, _, middle, _, high = np.sort(logit)
    isotonic = Isotonic((low, middle, high), (0.2, 0.6, 0.6))
    folder = tmp_path / "artifacts" / "network"
    classifier.save(network, replace(DECISION, threshold=0.6, isotonic=isotonic), folder)
    answers = open_model(models.ServedClassifier(), folder).predict(None, rows(*map(as_base64, PICTURES)))
    # Single precision moves a logit by some 1e-8.
    np.testing.assert_allclose(answers["probability"], isotonic.apply(logit), atol=1e-4)
    assert (answers["label"] == "broken").sum() >= 2  # all on the upper step but, by rounding, the one at its edge


def test_a_threshold_in_the_request_replaces_the_models_own(served, probability):
    middle = float(np.median(probability))  # of five, so two lie below
    answers = served.predict(None, rows(*map(as_base64, PICTURES)), {"threshold": middle * (1 - 1e-6)})
    assert answers["label"].tolist() == np.where(probability >= middle, "broken", "healthy").tolist()
    assert answers["label"].value_counts().to_dict() == {"broken": 3, "healthy": 2}
    assert served.predict(None, rows(as_base64(PICTURES[0])), {"threshold": None})["threshold"].tolist() == [0.55]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(served, threshold):
    with pytest.raises(MlflowException, match=f"threshold: found {threshold}, expected a number from 0 to 1"):
        served.predict(None, rows(as_base64(PICTURES[0])), {"threshold": threshold})


@pytest.fixture
def fitted(network, tmp_path):
    """Served with a calibration that was fitted where 60 % are fractured, and a threshold in the middle of what it answers."""
    middle = float(np.median(apply(logits_of(network), 0.5, 0.3))) * (1 - 1e-6)
    folder = tmp_path / "fitted" / "artifacts" / "network"
    classifier.save(network, replace(DECISION, threshold=middle, intercept=0.3, prevalence=0.6), folder)
    return open_model(models.ServedClassifier(), folder)


def test_a_prevalence_in_the_request_moves_probabilities_and_the_models_own_threshold(fitted):
    asked = rows(*map(as_base64, PICTURES))
    own, rare = fitted.predict(None, asked), fitted.predict(None, asked, {"prevalence": 0.05})
    odds = own["probability"] / (1 - own["probability"]) * (0.05 / 0.95) / (0.6 / 0.4)
    np.testing.assert_allclose(rare["probability"], odds / (1 + odds), rtol=1e-6)
    assert rare["label"].tolist() == own["label"].tolist()
    assert rare["label"].value_counts().to_dict() == {"broken": 3, "healthy": 2}
    assert (rare["threshold"] < own["threshold"]).all()
    np.testing.assert_array_equal(rare["probability"] >= rare["threshold"], rare["label"] == "broken")
    same = fitted.predict(None, asked, {"prevalence": 0.6})
    np.testing.assert_allclose(same["probability"], own["probability"], rtol=1e-6)


def test_a_threshold_beside_a_prevalence_is_one_on_what_is_answered(fitted):
    asked = rows(*map(as_base64, PICTURES))
    rare = fitted.predict(None, asked, {"prevalence": 0.05})["probability"]
    limit = float(np.sort(rare)[1])
    answers = fitted.predict(None, asked, {"prevalence": 0.05, "threshold": limit})
    assert set(answers["threshold"]) == {limit}
    assert answers["label"].tolist() == np.where(rare >= limit, "broken", "healthy").tolist()
    assert (answers["label"] == "broken").sum() == 4


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_prevalence_out_of_range_is_refused(fitted, prevalence):
    refusal = f"prevalence: found {prevalence}, expected a share of fractured X-rays between 0 and 1"
    with pytest.raises(MlflowException, match=refusal) as refused:
        fitted.predict(None, rows(as_base64(PICTURES[0])), {"prevalence": prevalence})
    assert refused.value.get_http_status_code() == 400


def test_a_prevalence_is_refused_where_the_probabilities_know_none(served):
    with pytest.raises(MlflowException, match="fitted to no share of fractured X-rays") as refused:
        served.predict(None, rows(as_base64(PICTURES[0])), {"prevalence": 0.05})
    assert refused.value.get_http_status_code() == 400


def beyond_the_pixel_limit():
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "found '', expected a picture file"),
        (None, "found null, expected a picture file"),
        (3, "found 3, expected"),
        ("%%%", "not base64 .*, expected a picture file"),
        ("é", "not base64"),
        (base64.b64encode(b"hello").decode(), "not an image file"),
        (as_base64(PICTURES[0])[:400], "truncated"),
        (base64.b64encode(pictures.brand(b"heic")).decode(), "a HEIC picture, which is not supported; expected AVIF"),
        (beyond_the_pixel_limit(), "9000 × 9000 pixels are more than the"),
    ],
    ids=["empty", "null", "number", "no base64", "no ASCII", "no picture", "HEIC", "half a file", "too many pixels"],
)
def test_a_bad_row_is_named(served, bad, message):
    with pytest.raises(MlflowException, match=f"^row 1: {message}") as refused:
        served.predict(None, rows(as_base64(PICTURES[0]), bad, "%%%"))
    assert refused.value.get_http_status_code() == 400
    assert refused.value.__suppress_context__


def test_no_rows_make_no_answers(served):
    answers = served.predict(None, rows())
    assert answers.columns.tolist() == COLUMNS
    assert answers.empty


def test_pictures_of_any_size_are_letterboxed(served, probability):
    doubled = cv2.resize(PICTURES[0], (64, 64), interpolation=cv2.INTER_NEAREST)
    answers = served.predict(None, rows(as_base64(doubled)))
    assert answers["probability"][0] == pytest.approx(probability[0], rel=1e-4)


@pytest.mark.parametrize("how", ["film", "film_equalised"])
def test_pictures_are_preprocessed_as_the_classifier_was_made(network, tmp_path, how):
    network.preprocess = how
    folder = tmp_path / "artifacts" / "network"
    classifier.save(network, DECISION, folder)
    served = open_model(models.ServedClassifier(), folder)
    picture = np.pad(cv2.resize(PICTURES[0], (90, 60)), 40)
    (square,), _ = preprocess(picture, 32, how)
    with torch.inference_mode():
        expected = network(torch.from_numpy(square)[None, None] / 255).numpy().astype(float)
    found = served.predict(None, rows(as_base64(picture)))["probability"][0]
    assert found == pytest.approx(apply(expected, 0.5)[0], rel=1e-4)


@pytest.fixture
def gated(network, tmp_path):
    """Served with a gate that knows PICTURES and nothing else."""
    with torch.inference_mode():
        features = network.features(torch.from_numpy(PICTURES).unsqueeze(1) / 255).numpy()
    known = gate.describe(PICTURES[:, None], features, "letterbox")
    numbers = known.reshape(-1, known.shape[2])
    centre, scale = numbers.mean(axis=0), numbers.std(axis=0) + 0.1
    support = gate.standardised(numbers, centre, scale)
    made = Gate(centre, scale, support, np.ones(len(support)), -0.5, 1 / numbers.shape[1], np.zeros(1), "made")
    folder = tmp_path / "gated" / "artifacts" / "network"
    classifier.save(network, DECISION, folder)
    replace(made, distances=np.sort(made.distance(known))).save(folder)
    return open_model(models.ServedClassifier(), folder)


def test_what_is_no_xray_of_its_kind_is_answered_and_refused(gated, probability):
    blank = np.full((50, 40), 200, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (50, 40), dtype=np.uint8)
    answers = gated.predict(None, rows(*map(as_base64, [*PICTURES, blank, noise, blank[:1, :1]])))
    assert answers["accepted"].tolist() == [True] * 5 + [False] * 3
    assert answers["accepted"].dtype == bool
    assert set(answers["reason"][:5]) == {""}
    assert set(answers["reason"][5:]) == {"unlike the X-rays it was made from: farther than all 5 of them"}
    assert sorted(answers["farther_than"][:5]) == [0, 0.2, 0.4, 0.6, 0.8]
    assert answers["farther_than"][5:].tolist() == [1, 1, 1]
    np.testing.assert_allclose(answers["probability"][:5], probability, rtol=1e-4)
    assert answers["probability"].between(0, 1).all()
    assert answers["label"].isin(DECISION.label_names).all()
    alone = gated.predict(None, rows(as_base64(blank)))  # whatever stands beside it
    assert alone["farther_than"].tolist() == [1]
    assert gated.predict(None, rows()).columns.tolist() == COLUMNS


def test_a_version_without_a_gate_accepts_everything_and_says_that_nothing_was_compared(served):
    answers = served.predict(None, rows(as_base64(np.zeros((9, 9), np.uint8))))
    assert answers["accepted"].tolist() == [True]
    assert answers["reason"].tolist() == [""]
    assert answers["farther_than"].isna().tolist() == [True]


def test_features_are_the_mean_patch_tokens(tiny_mae, network, tmp_path):
    folder = tmp_path / "artifacts" / "network"
    autoencoder.save(tiny_mae, folder)
    features = open_model(models.ServedFeatures(), folder).predict(None, rows(*map(as_base64, PICTURES)))
    with torch.inference_mode():
        expected = network.features(torch.from_numpy(PICTURES).unsqueeze(1) / 255)
    np.testing.assert_allclose(np.array(features["features"].tolist()), expected, rtol=1e-4, atol=1e-5)
