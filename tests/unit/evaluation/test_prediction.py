import numpy as np
import pytest
from accelerate.state import AcceleratorState

from fracture_mae.config import TrainClassifier
from fracture_mae.evaluation import frozen_features, prediction, reconstruction
from fracture_mae.evaluation.frozen_features import PooledEncoder
from fracture_mae.metrics.decision import Decision
from fracture_mae.models.classifier import from_mae
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.processes.accelerator import make_accelerator


def logits_of(encoder, xrays, accelerator):
    return prediction.predict(encoder, xrays, batch_size=4, accelerator=accelerator)["logit"].to_numpy()


def features_of(encoder, xrays, accelerator):
    return frozen_features.features(encoder, xrays, batch_size=4, accelerator=accelerator)["mean"]


def errors_of(mae, xrays, accelerator):
    found = reconstruction.masked_errors(
        mae, xrays, reconstruction.Masks(0.5, 0), batch_size=4, accelerator=accelerator
    )
    return np.array([found["masked_mse"]])


ASKED = {
    "predictions": (lambda mae: from_mae(mae, pool="mean"), logits_of),
    "frozen features": (lambda mae: PooledEncoder(MaeEncoder.of(mae)), features_of),
    "rebuilding": (lambda mae: mae, errors_of),
}


@pytest.mark.parametrize("asked", ASKED)
def test_bf16_on_a_processor_changes_evaluations_by_its_rounding(accelerator, tiny_mae, xrays, asked):
    """Rounding to 8 binary digits changes what they say by a fiftieth of its range at most, and by something."""
    build, ask = ASKED[asked]
    model = build(tiny_mae)
    exact = ask(model, xrays, accelerator)
    AcceleratorState._reset_state(reset_partial_state=True)
    rounded = ask(model, xrays, make_accelerator("bf16", "cpu"))
    assert 0 < np.abs(rounded - exact).max() < max(np.ptp(exact), np.abs(exact).max()) / 50


@pytest.fixture
def in_bf16(accelerator):
    """A run in bf16 on the processor; after one in fp32, which the process had first."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return make_accelerator("bf16", "cpu")


def settled(classifier, xrays, accelerator, slope, even=0.0, precision="auto"):
    """With probabilities that are 1/2 at the logit `even`."""
    config = TrainClassifier(precision=precision, batch_size=4)
    decision = Decision(("no", "yes"), slope=slope, intercept=-slope * even)
    return prediction.settle_arithmetic(classifier, decision, xrays, config, accelerator)


def test_what_bf16_would_change_is_answered_in_fp32(accelerator, tiny_mae, xrays):
    """So steep that a rounding changes a probability, and so flat that none can: by hand, slope · change of a logit / 4 at most."""
    classifier = from_mae(tiny_mae, pool="mean")
    exact = logits_of(classifier, xrays, accelerator)
    AcceleratorState._reset_state(reset_partial_state=True)
    in_bf16 = make_accelerator("bf16", "cpu")
    rounded = logits_of(classifier, xrays, in_bf16)
    largest, even = np.abs(rounded - exact).max(), np.median(exact)
    told = settled(classifier, xrays, in_bf16, slope=3e-3 / largest, even=even)
    assert told.startswith("bf16, which changes no probability of ")
    np.testing.assert_array_equal(logits_of(classifier, xrays, in_bf16), rounded)
    told = settled(classifier, xrays, in_bf16, slope=0.1 / largest, even=even)
    assert told.startswith("fp32: bf16 changes a probability of ")
    np.testing.assert_array_equal(logits_of(classifier, xrays, in_bf16), exact)
    np.testing.assert_array_equal(features_of_classifier(classifier, xrays, in_bf16), exact_features(classifier, xrays))


def features_of_classifier(classifier, xrays, accelerator):
    return prediction.features(classifier, xrays, batch_size=4, accelerator=accelerator)


def exact_features(classifier, xrays):
    AcceleratorState._reset_state(reset_partial_state=True)
    return features_of_classifier(classifier, xrays, make_accelerator("fp32", "cpu"))


def test_who_asks_for_bf16_gets_it(in_bf16, tiny_mae, xrays):
    classifier = from_mae(tiny_mae, pool="mean")
    assert settled(classifier, xrays, in_bf16, slope=1e6, precision="bf16") == "bf16, asked for"
    assert classifier.bf16


def test_where_nothing_was_tried_answers_are_in_fp32(accelerator, tiny_mae, xrays):
    classifier = from_mae(tiny_mae, pool="mean")
    assert settled(classifier, xrays, accelerator, slope=1e-6) == "fp32"
    assert not classifier.bf16
