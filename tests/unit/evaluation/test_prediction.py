import numpy as np
import pytest
from accelerate.state import AcceleratorState

from fracture_mae.evaluation import frozen_features, prediction, reconstruction
from fracture_mae.evaluation.frozen_features import PooledEncoder
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
