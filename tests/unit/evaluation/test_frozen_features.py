import numpy as np
import pytest
import torch
from torch import nn

from fracture_mae.data.reading import decoding
from fracture_mae.evaluation import frozen_features
from fracture_mae.evaluation.frozen_features import PooledEncoder, features
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.training.batches import batch_of
from tests import builders


class Brightness(nn.Module):
    """Mean grey of a picture times a weight; counts the pictures that it is shown."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.shown = 0

    def described(self):
        return "brightness"

    def forward(self, pixels):
        self.shown += len(pixels)
        return {"mean": pixels.mean(dim=(2, 3)) * self.weight}


@pytest.fixture
def compute(accelerator):
    return lambda encoder, xrays: features(encoder, xrays, batch_size=4, accelerator=accelerator)


def test_features_are_the_encoders_in_the_order_of_the_files(compute, xrays):
    expected = xrays.pixels.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(compute(Brightness(), xrays)["mean"][:, 0], expected, rtol=1e-5)
    backwards = xrays.subset(np.arange(len(xrays))[::-1])
    np.testing.assert_allclose(compute(Brightness(), backwards)["mean"][:, 0], expected[::-1], rtol=1e-5)


def test_what_is_known_is_not_computed_and_new_files_cost_themselves_alone(compute, xrays):
    encoder = Brightness()
    compute(encoder, xrays.subset(np.arange(5)))
    assert encoder.shown == 5
    again = compute(encoder, xrays)
    assert encoder.shown == len(xrays)
    np.testing.assert_array_equal(compute(encoder, xrays)["mean"], again["mean"])
    assert encoder.shown == len(xrays)


def test_other_weights_or_another_description_never_answer_for_these(compute, xrays):
    compute(Brightness(), xrays)
    other = Brightness(2.0)
    np.testing.assert_allclose(compute(other, xrays)["mean"], 2 * compute(Brightness(), xrays)["mean"], rtol=1e-6)
    assert other.shown == len(xrays)
    described = Brightness()
    described.described = lambda: "at another size"
    compute(described, xrays)
    assert described.shown == len(xrays)


def test_features_of_pixels_decoded_otherwise_never_answer_for_these(compute, xrays, monkeypatch):
    compute(Brightness(), xrays)
    monkeypatch.setattr(decoding, "VERSION", decoding.VERSION + 1)
    decoded_anew = Brightness()
    compute(decoded_anew, xrays)
    assert decoded_anew.shown == len(xrays)


def test_a_killed_writer_leaves_nothing_and_a_damaged_file_is_made_anew(compute, xrays, tmp_path):
    expected = compute(Brightness(), xrays)["mean"]
    (file,) = tmp_path.rglob("*.npz")
    file.with_suffix(".unfinished").write_bytes(b"half")
    file.write_bytes(file.read_bytes()[:100])
    encoder = Brightness()
    np.testing.assert_array_equal(compute(encoder, xrays)["mean"], expected)
    assert encoder.shown == len(xrays)


def test_chunks_are_put_together_again(compute, xrays, monkeypatch):
    monkeypatch.setattr(frozen_features, "_CHUNK", 4)
    expected = xrays.pixels.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(compute(Brightness(), xrays)["mean"][:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("pool", frozen_features.POOLS)
def test_an_mae_pools_as_the_classifier_does(compute, xrays, pool):
    found = compute(PooledEncoder(MaeEncoder.of(builders.tiny_mae())), xrays)[pool]
    classifier = classifier_model.from_mae(builders.tiny_mae(), pool=pool).eval()
    with torch.inference_mode():
        expected = classifier.features(batch_of(xrays, np.arange(len(xrays)), torch.device("cpu")).pixels)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_features_leave_the_mae_as_it_was(xrays, tiny_mae):
    """Its mask ratio too, which is saved with it."""
    before = tiny_mae.network.config.to_dict()
    with torch.inference_mode():
        PooledEncoder(MaeEncoder.of(tiny_mae))(batch_of(xrays, np.arange(2), torch.device("cpu")).pixels)
    assert before["mask_ratio"] == 0.75
    assert tiny_mae.network.config.to_dict() == before


def test_an_mae_with_as_many_weights_in_other_heads_is_another_encoder(tiny_mae):
    before = PooledEncoder(MaeEncoder.of(tiny_mae)).described()
    tiny_mae.network.vit.config.num_attention_heads *= 2
    assert PooledEncoder(MaeEncoder.of(tiny_mae)).described() != before
