"""What every architecture must do as an encoder, on tiny random checkpoints of each."""

import copy
import json
import pickle
import sys

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BeitForMaskedImageModeling,
    BertConfig,
    ViTConfig,
    ViTForImageClassification,
)

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.frozen_features import fingerprint
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import encoders
from tests.unit.models.networks import FAMILIES, SIDE, encoder_of, pixels, save_network

# Tokens before the patches: CLS, and DeiT's distillation token or registers.
BEFORE = {"vit": 1, "deit": 2, "beit_cls": 1, "dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 4}
WITHOUT_CLS = ("swin", "swinv2", "convnext", "convnextv2", "efficientnet", "resnet")


def normalised(grey):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (grey - mean) / std


@pytest.mark.parametrize("family", BEFORE)
def test_tokens_are_told_apart_as_the_network_orders_them(tmp_path, family):
    network = save_network(tmp_path, family, std=0.2)
    encoder = encoders.load(str(tmp_path), SIDE)
    with torch.inference_mode():
        tokens, found = network(normalised(pixels())).last_hidden_state, encoder(pixels())
    assert tokens.shape[1] == BEFORE[family] + 16
    assert_close(found.cls, tokens[:, 0], atol=1e-4, rtol=1e-4)
    assert_close(found.patches, tokens[:, BEFORE[family] :], atol=1e-4, rtol=1e-4)
    assert found.shown is None
    assert not encoder.training


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bright_square_changes_most_the_token_of_its_cell(tmp_path, family):
    side = FAMILIES[family][2]
    # With the small weights that transformers gives, nothing of a picture is left behind an EfficientNet's last block.
    encoder = encoder_of(tmp_path, family, std=0.4 if family == "efficientnet" else None)
    assert encoder.grid == (side, side)
    assert encoder.has_cls == (family not in WITHOUT_CLS)
    grey = torch.full((1, 1, SIDE, SIDE), 0.4)
    cell = SIDE // side
    with torch.inference_mode():
        before = encoder(grey).patches
        assert before.shape == (1, side**2, encoder.width)
        for row, column in ((0, 1), (side - 2, 1), (1, side - 1)):
            bright = grey.clone()
            bright[..., row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 1
            change = (encoder(bright).patches - before).norm(dim=2)[0]
            found = divmod(int(change.argmax()), side)
            reach = 1 if side == 8 else 0  # cells of these are smaller than what their first layers look at
            assert max(abs(found[0] - row), abs(found[1] - column)) <= reach


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_reaches_every_weight_and_the_classifier_survives_saving(tmp_path, family):
    encoder = encoder_of(tmp_path / "checkpoint", family)
    dropped = {"patch_dropout": 0.5} if encoder.can_leave_out_patches else {}
    classifier = classifier_model.from_encoder(encoder, pool="mean", drop_path=0.1, **dropped).train()
    groups = classifier_model.layerwise_groups(classifier, learning_rate=0.01, layer_decay=0.9, weight_decay=0.05)
    optimizer = torch.optim.AdamW(groups)
    before = copy.deepcopy(classifier.state_dict())
    for _ in range(2):  # in the first step the head is still nearly zero
        optimizer.zero_grad()
        torch.nn.functional.softplus(-classifier(pixels())).sum().backward()
        optimizer.step()
    trained = {name: value for name, value in classifier.named_parameters() if value.requires_grad}
    assert not [name for name, value in trained.items() if value.grad is None]
    first = next(name for name in trained if "proj" in name or "conv" in name or "embedder" in name)
    assert not classifier.state_dict()[first].equal(before[first])

    classifier.eval()
    decision = Decision(("not fractured", "fractured"), threshold=0.3)
    classifier_model.save(classifier, decision, tmp_path / "classifier")
    loaded, loaded_decision = classifier_model.load(tmp_path / "classifier")
    assert (loaded.image_size, loaded.grid, loaded_decision) == (SIDE, classifier.grid, decision)
    with torch.inference_mode():
        assert loaded(pixels()).equal(classifier(pixels()))


@pytest.mark.parametrize(
    "family", ["vit", "deit", "beit", "beit_cls", "dinov2", "dinov3_vit", "convnext", "efficientnet"]
)
def test_another_image_size(tmp_path, family):
    encoder = encoder_of(tmp_path, family, image_size=96)
    side = FAMILIES[family][2] * 3 // 2
    assert (encoder.image_size, encoder.grid) == (96, (side, side))
    with torch.inference_mode():
        assert encoder(pixels(96)).patches.isfinite().all()


@pytest.mark.parametrize("family", ["beit", "convnext", "convnextv2"])
def test_the_mean_of_tokens_is_normed_as_in_the_networks_own_classifier(tmp_path, family):
    network = save_network(tmp_path, family, std=0.2)
    with torch.inference_mode():
        pooled = network(normalised(pixels())).pooler_output
        found = encoders.load(str(tmp_path), SIDE)(pixels())
    assert_close(found.patches.mean(dim=1), pooled, atol=1e-4, rtol=1e-4)


def test_beit_as_it_was_pretrained_keeps_the_norm_that_lies_outside_of_its_encoder(tmp_path):
    torch.manual_seed(0)
    values = FAMILIES["beit"][1] | {"vocab_size": 11, "use_mask_token": True}
    whole = BeitForMaskedImageModeling(BeitConfig(**values)).eval()
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    whole.save_pretrained(tmp_path / "checkpoint")
    classifier = classifier_model.from_encoder(encoders.load(str(tmp_path / "checkpoint"), SIDE), pool="mean").eval()
    with torch.inference_mode():
        expected = whole.layernorm(whole.beit(normalised(pixels())).last_hidden_state)[:, 1:]
        assert_close(classifier.tokens(pixels()).patches, expected, atol=1e-4, rtol=1e-4)
        classifier_model.save(classifier, Decision(("a", "b")), tmp_path / "classifier")
        assert classifier_model.load(tmp_path / "classifier")[0](pixels()).equal(classifier(pixels()))


@pytest.mark.parametrize(
    ("family", "config", "classifier"),
    [("vit", ViTConfig, ViTForImageClassification), ("beit", BeitConfig, BeitForImageClassification)],
)
def test_the_encoder_of_a_classifier_checkpoint_is_taken_whole(tmp_path, family, config, classifier, capfd):
    torch.manual_seed(1)
    network = classifier(config(**FAMILIES[family][1])).eval()
    network.save_pretrained(tmp_path)
    with torch.inference_mode():
        whole = network.base_model(normalised(pixels()))
        found = encoders.load(str(tmp_path), SIDE)(pixels())
        expected = whole.last_hidden_state[:, 1:].mean(dim=1) if family == "vit" else whole.pooler_output
    assert_close(found.patches.mean(dim=1), expected, atol=1e-5, rtol=1e-4)
    assert "UNEXPECTED" not in "".join(capfd.readouterr())  # that its head is left over is no news


def test_a_grey_network_takes_grey(tmp_path):
    encoder = encoder_of(tmp_path, "vit", num_channels=1)
    assert encoder.normalisation.mean == (0.5,)
    assert encoder(pixels()).patches.shape == (2, 16, 16)


def test_what_features_depend_on_is_in_their_name(tmp_path):
    """Two heads or one make other features of the same weights, and so does another size."""
    save_network(tmp_path / "a", "vit")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 1}))
    (tmp_path / "b" / "model.safetensors").write_bytes((tmp_path / "a" / "model.safetensors").read_bytes())
    found = [encoders.load(str(tmp_path / name), size) for name, size in (("a", 64), ("a", 96), ("b", 64))]
    assert len({fingerprint(encoder, encoder.described()) for encoder in found}) == 3
    again = encoders.load(str(tmp_path / "a"), 64)
    assert fingerprint(again, again.described()) == fingerprint(found[0], found[0].described())


def test_what_reads_no_pictures_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(FractureMaeError, match=r"of type 'bert', which does not make tokens of pictures.*DINOv2.*Swin"):
        encoders.load(str(tmp_path))


def test_timm_that_is_not_installed_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed, or cannot be imported
    told = {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"mean": [0.5] * 3}}
    for config in (told, told | {"model_type": "timm_wrapper"}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(
            FractureMaeError, match=r"network of timm, which cannot be imported here .*fracture-mae\[timm\]"
        ):
            encoders.load(str(tmp_path))


def test_an_image_size_that_does_not_fall_into_patches_is_refused(tmp_path):
    save_network(tmp_path, "dinov2", patch_size=14, image_size=42)
    with pytest.raises(FractureMaeError, match=r"64 pixels do not fall into the patches of 14 .* such as 56"):
        encoders.load(str(tmp_path), image_size=64)
    assert encoders.load(str(tmp_path), image_size=56).n_patches == 16


def test_missing_weights_are_refused(tmp_path):
    save_network(tmp_path, "vit", num_hidden_layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(FractureMaeError, match=r"lacks \d+ weights of a ViTModel"):
        encoders.load(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    save_network(tmp_path, "vit")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(FractureMaeError, match=r"does not hold a model that can be loaded.*model\.safetensors"):
        encoders.load(str(tmp_path))


@pytest.mark.parametrize("name", ["facebook/dinov2-base", "/no/such/folder"])
def test_what_is_not_to_be_had_is_said(name):
    with pytest.raises(FractureMaeError, match=r"HF_HUB_OFFLINE.*vit-mae-tiny|does not exist.*vit-mae-tiny"):
        encoders.load(name)
