import numpy as np
import pytest
from accelerate.state import AcceleratorState

from fracture_mae.evaluation import frozen_features, prediction, reconstruction
from fracture_mae.evaluation.frozen_features import PooledEncoder
from fracture_mae.models import encoders
from fracture_mae.models.classifier import from_encoder, from_mae
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.processes.accelerator import make_accelerator
from tests.unit.models.networks import save_network


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
def test_evaluations_in_bf16_on_a_processor_write_attention_out(accelerator, tiny_mae, xrays, asked):
    """Rounding to 8 binary digits changes what they say by a fiftieth of its range at most, and by something."""
    build, ask = ASKED[asked]
    model, calls = build(tiny_mae), []
    for name, module in model.named_modules():
        if name.endswith("q_proj"):
            module.register_forward_hook(lambda *_: calls.append(1))
    exact = ask(model, xrays, accelerator)
    assert calls
    calls.clear()
    AcceleratorState._reset_state(reset_partial_state=True)
    rounded = ask(model, xrays, make_accelerator("bf16", "cpu"))
    assert not calls
    assert 0 < np.abs(rounded - exact).max() < max(np.ptp(exact), np.abs(exact).max()) / 50


def test_an_encoder_of_another_kind_does_so_too(accelerator, xrays, tmp_path):
    save_network(tmp_path, "vit")
    classifier, calls = from_encoder(encoders.load(str(tmp_path), xrays.pixels.shape[1]), pool="cls"), []
    classifier.encoder.network.layers[0].attention.q_proj.register_forward_hook(lambda *_: calls.append(1))
    logits_of(classifier, xrays, accelerator)
    assert calls
    calls.clear()
    AcceleratorState._reset_state(reset_partial_state=True)
    logits_of(classifier, xrays, make_accelerator("bf16", "cpu"))
    assert not calls
