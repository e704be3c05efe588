import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.alternatives import files, per_image
from benchmarks.alternatives.encoder_in_loop import HeadTraining
from benchmarks.alternatives.notebook import Notebook
from benchmarks.alternatives.reference_mae import ReferenceMae, ReferenceStep
from benchmarks.flops import Sizes
from benchmarks.ours import batch_of
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics import intervals
from fracture_mae.metrics.scores import summaries
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import squared_error


@pytest.fixture
def paths(xrays, tmp_path):
    """The X-rays as files."""
    places = [str(tmp_path / f"{number}.png") for number in range(len(xrays))]
    for path, pixels in zip(places, xrays.pixels, strict=True):
        cv2.imwrite(path, pixels)
    return places


def test_files_are_read_as_they_are(paths, xrays):
    assert np.array_equal(files.read(paths[0], 1, 32)[0], xrays.pixels[0])
    coloured = files.read(paths[0], 3, 16)
    assert coloured.shape == (3, 16, 16)
    with pytest.raises(FractureMaeError, match=r"gone\.png cannot be read any more"):
        files.read("gone.png", 1, 32)


def test_the_notebook_learns(paths, tiny_mae, monkeypatch):
    monkeypatch.setattr("benchmarks.alternatives.notebook._LEARNING_RATE", 3e-3)
    notebook = Notebook(tiny_mae, torch.device("cpu"))
    first = notebook.train(paths)
    for _ in range(5):
        last = notebook.train(paths)
    assert last < 0.8 * first


def test_the_reference_learns(xrays, tiny_mae, accelerator):
    step = reference_step(tiny_mae, accelerator, learning_rate=3e-3)
    pixels = batch_of(xrays, np.arange(len(xrays)), accelerator.device).pixels
    losses = [step(pixels).item() for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def reference_step(mae, accelerator, learning_rate):
    options = {"learning_rate": learning_rate, "mask_ratio": 0.75, "accelerator": accelerator}
    return ReferenceStep(Sizes.of(mae), mae.normalisation, **options)


def test_the_reference_has_as_many_parameters(tiny_mae):
    reference = ReferenceMae(Sizes.of(tiny_mae))
    for trained in (True, False):  # position embeddings are not
        ours, theirs = (
            sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad == trained)
            for model in (tiny_mae, reference)
        )
        assert theirs == ours


def test_the_reference_with_our_weights_has_our_loss(tiny_mae, xrays, accelerator):
    reference = ReferenceMae(Sizes.of(tiny_mae))
    reference.load_state_dict(translated(tiny_mae.network.state_dict()))
    pixels = batch_of(xrays, np.arange(len(xrays)), accelerator.device).pixels
    torch.manual_seed(3)
    found = reference(tiny_mae.normalisation.apply(pixels), 0.75)
    torch.manual_seed(3)
    noise = torch.rand(len(pixels), tiny_mae.n_patches)
    expected = squared_error(*tiny_mae(pixels, noise, 0.75), "masked").mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


PLACES = {
    "projection": "vit.embeddings.patch_embeddings.projection",
    "bridge": "decoder.decoder_embed",
    "prediction": "decoder.decoder_pred",
    "encoder.2": "vit.layernorm",
    "decoder.1": "decoder.decoder_norm",
}
SINGLE = {
    "cls_token": "vit.embeddings.cls_token",
    "mask_token": "decoder.mask_token",
    "encoder_positions": "vit.embeddings.position_embeddings",
    "decoder_positions": "decoder.decoder_pos_embed",
}
IN_BLOCK = {
    "attention_norm": "layernorm_before",
    "mlp_norm": "layernorm_after",
    "attention.projection": "attention.o_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


def translated(state):
    """Weights of Hugging Face's network by the reference's names."""
    blocks = {"encoder.0": "vit.layers.0", "encoder.1": "vit.layers.1", "decoder.0": "decoder.decoder_layers.0"}
    layers = PLACES | {
        f"{ours}.{name}": f"{theirs}.{other}" for ours, theirs in blocks.items() for name, other in IN_BLOCK.items()
    }
    values = {ours: state[theirs] for ours, theirs in SINGLE.items()}
    for kind in ("weight", "bias"):
        values |= {f"{ours}.{kind}": state[f"{theirs}.{kind}"] for ours, theirs in layers.items()}
        for ours, theirs in blocks.items():
            parts = [state[f"{theirs}.attention.{name}_proj.{kind}"] for name in "qkv"]
            values[f"{ours}.attention.qkv.{kind}"] = torch.cat(parts)
    return values


def test_one_by_one_predicts_what_batches_do(xrays, tiny_mae, accelerator):
    classifier = classifier_model.from_mae(tiny_mae, pool="mean")
    expected = predict(classifier, xrays, batch_size=4, accelerator=accelerator)["logit"]
    np.testing.assert_allclose(per_image.predict(classifier, xrays, accelerator), expected, atol=1e-5)


@pytest.mark.slow
def test_one_by_one_draws_what_arrays_do():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), np.where(np.arange(60) % 5, 1, 6))
    label = (group < 25).astype(int)
    # Those with many files are taken for the other class: drawn without all their files, they would count too little.
    seems = np.where(group % 5, label, 1 - label)
    probability = np.clip(rng.normal(0.4 + 0.2 * seems, 0.2), 0.01, 0.99)
    found = per_image.bootstrap(label, probability, group, n_draws=150)
    draws = intervals.resampled(label, group, n_draws=4000, seed=0)
    drawn = pd.concat([pd.DataFrame(summaries(label, probability, 0.5, each.astype(float))) for each in draws])
    expected = drawn.quantile([0.025, 0.975])
    assert set(found) == set(expected)
    for name, ends in found.items():
        low, high = expected[name]
        assert ends == pytest.approx([low, high], abs=0.3 * (high - low)), name


def test_a_head_learns_and_the_encoder_does_not(xrays, tiny_mae, accelerator):
    training = HeadTraining(tiny_mae, accelerator)
    before = {name: value.clone() for name, value in training._classifier.encoder.state_dict().items()}
    batch = batch_of(xrays, np.arange(len(xrays)), accelerator.device)
    losses = [training.step(batch.pixels, batch.label).item() for _ in range(200)]
    assert losses[-1] < losses[0]
    assert all(value.equal(before[name]) for name, value in training._classifier.encoder.state_dict().items())
