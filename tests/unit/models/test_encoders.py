"""Tiny random checkpoints of each kind, made here, saved as transformers saves them."""

import json
import pickle

import pytest
import torch
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BeitModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ResNetConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.frozen_features import fingerprint
from fracture_mae.models import encoders

SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
# Tokens before the patches: CLS, and DeiT's distillation token or four registers.
KINDS = {
    "vit": (ViTConfig, ViTModel, 1),
    "deit": (DeiTConfig, DeiTModel, 2),
    "dinov2": (Dinov2Config, Dinov2Model, 1),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel, 5),
    "beit": (BeitConfig, BeitModel, 1),
}


def saved(folder, kind, **settings):
    config, model, _ = KINDS[kind]
    torch.manual_seed(0)
    network = model(config(**SMALL | settings)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # zeros, such as of tokens, would hide a mistake
    network.save_pretrained(folder)
    return network


def pixels(side=32, n=2):
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


def normalised(grey):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (grey - mean) / std


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_pooled_as_the_network_orders_them(tmp_path, kind):
    network = saved(tmp_path, kind)
    encoder = encoders.load(str(tmp_path))
    with torch.inference_mode():
        tokens = network(normalised(pixels())).last_hidden_state
        found = encoder(pixels())
    assert tokens.shape[1] == KINDS[kind][2] + 16
    torch.testing.assert_close(found["cls"], tokens[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["mean"], tokens[:, KINDS[kind][2] :].mean(dim=1), atol=1e-4, rtol=1e-4)
    assert encoder.image_size == 32
    assert not encoder.network.training


@pytest.mark.parametrize("kind", KINDS)
def test_another_image_size_interpolates_positions(tmp_path, kind):
    saved(tmp_path, kind)
    encoder = encoders.load(str(tmp_path), image_size=64)
    with torch.inference_mode():
        found = encoder(pixels(64))
    assert (encoder.image_size, encoder.n_patches) == (64, 64)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"mean": (2, 16), "cls": (2, 16)}
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(
    ("kind", "classifier"), [("vit", ViTForImageClassification), ("beit", BeitForImageClassification)]
)
def test_the_encoder_of_a_classifier_checkpoint_is_taken_whole(tmp_path, kind, classifier, capfd):
    torch.manual_seed(1)
    network = classifier(KINDS[kind][0](**SMALL)).eval()
    network.save_pretrained(tmp_path)
    with torch.inference_mode():
        expected = network.base_model(normalised(pixels())).last_hidden_state[:, 0]
        torch.testing.assert_close(encoders.load(str(tmp_path))(pixels())["cls"], expected, atol=1e-5, rtol=1e-4)
    assert "UNEXPECTED" not in "".join(capfd.readouterr())  # that its head is left over is no news


@pytest.mark.parametrize(
    ("described", "mean"),
    [({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, (0.5,) * 3), (None, (0.485, 0.456, 0.406))],
)
@pytest.mark.parametrize("processor", ["ViTImageProcessor", "BitImageProcessor", "BeitImageProcessor"])
def test_normalisation_is_the_preprocessors(tmp_path, described, mean, processor):
    saved(tmp_path, "dinov2")
    if described:
        file = tmp_path / "preprocessor_config.json"
        file.write_text(json.dumps(described | {"image_processor_type": processor}))
    assert encoders.load(str(tmp_path)).normalisation.mean == mean


def test_a_grey_network_takes_grey(tmp_path):
    saved(tmp_path, "vit", num_channels=1)
    encoder = encoders.load(str(tmp_path))
    assert encoder.normalisation.mean == (0.5,)
    assert encoder(pixels())["mean"].shape == (2, 16)


def test_what_features_depend_on_is_in_their_name(tmp_path):
    """Two heads or one make other features of the same weights, and so does another size."""
    saved(tmp_path / "a", "vit")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 1}))
    (tmp_path / "b" / "model.safetensors").write_bytes((tmp_path / "a" / "model.safetensors").read_bytes())
    found = [encoders.load(str(tmp_path / name), size) for name, size in (("a", 32), ("a", 64), ("b", 32))]
    assert len({fingerprint(encoder, encoder.described()) for encoder in found}) == 3
    again = encoders.load(str(tmp_path / "a"), 32)
    assert fingerprint(again, again.described()) == fingerprint(found[0], found[0].described())


def test_an_unknown_kind_is_refused(tmp_path):
    ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(
        FractureMaeError, match=r"of type 'resnet'; as encoders are known vit, deit, dinov2, .*beit, vit_mae"
    ):
        encoders.load(str(tmp_path))


def test_an_image_size_that_does_not_fall_into_patches_is_refused(tmp_path):
    saved(tmp_path, "dinov2", patch_size=14, image_size=42)
    with pytest.raises(FractureMaeError, match=r"64 pixels do not fall into the patches of 14 .* such as 56"):
        encoders.load(str(tmp_path), image_size=64)
    assert encoders.load(str(tmp_path), image_size=56).n_patches == 16


def test_missing_weights_are_refused(tmp_path):
    saved(tmp_path, "vit", num_hidden_layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(FractureMaeError, match=r"lacks \d+ weights of a ViTModel"):
        encoders.load(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    saved(tmp_path, "vit")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(FractureMaeError, match=r"does not hold a model that can be loaded.*model\.safetensors"):
        encoders.load(str(tmp_path))


@pytest.mark.parametrize("name", ["facebook/dinov2-base", "/no/such/folder"])
def test_what_is_not_to_be_had_is_said(name):
    with pytest.raises(FractureMaeError, match=r"HF_HUB_OFFLINE.*vit-mae-tiny|does not exist.*vit-mae-tiny"):
        encoders.load(name)
