"""All forms that an MAE's checkpoint may come in: whole, the encoder alone, sharded, under older names, with patches of 14."""

import re

import pytest
from safetensors.torch import load_file, save_file
from transformers import ViTImageProcessor, ViTMAEConfig, ViTMAEForPreTraining

from fracture_mae.config import AuditData, FinetuneMae
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import classifier as classifier_model


def same_weights(found, expected):
    other = dict(expected.named_parameters())
    return all(value.equal(other[name]) for name, value in found.named_parameters())


@pytest.fixture
def network(tiny_mae):
    return tiny_mae.network


def test_what_a_checkpoint_and_a_preset_began_as(tiny_mae, tmp_path):
    mae_model.save(tiny_mae, tmp_path / "whole")
    loaded = mae_model.load(str(tmp_path / "whole"))
    assert (loaded.start, loaded.decoder_is_new) == ("weights", False)
    assert mae_model.load("vit-mae-nano", image_size=32).start == "random"


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_an_encoder_alone_gets_a_decoder_that_can_learn(network, tmp_path, prefix):
    network.vit.save_pretrained(tmp_path)
    if prefix:
        state = load_file(tmp_path / "model.safetensors")
        save_file(
            {prefix + key: value for key, value in state.items()}, tmp_path / "model.safetensors", {"format": "pt"}
        )
    loaded = mae_model.load(str(tmp_path), seed=1)
    assert loaded.decoder_is_new
    assert loaded.start == "weights"
    assert same_weights(loaded.network.vit, network.vit)
    decoder = loaded.network.decoder
    assert decoder.decoder_pos_embed[:, 1:].abs().max() == 1  # sines and cosines, where transformers leaves zeros
    assert 0.01 < decoder.mask_token.std() < 0.04
    assert same_weights(decoder, mae_model.load(str(tmp_path), seed=1).network.decoder)
    assert not decoder.mask_token.equal(mae_model.load(str(tmp_path), seed=2).network.decoder.mask_token)
    mae_model.save(loaded, tmp_path / "again")  # random numbers are not passed off as weights
    assert mae_model.load(str(tmp_path / "again")).decoder_is_new


def test_a_decoder_that_is_there_in_part_is_refused(network, tmp_path):
    network.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {key: value for key, value in state.items() if not key.startswith("decoder") or "mask_token" in key}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        FractureMaeError, match=r"lacks .* weights of a ViTMAEForPreTraining, the first of them decoder"
    ):
        mae_model.load(str(tmp_path))


def test_a_classifier_is_no_encoder(tiny_mae, tmp_path):
    classifier = classifier_model.from_mae(tiny_mae, pool="mean")
    classifier_model.save(classifier, Decision(("not fractured", "fractured")), tmp_path)
    with pytest.raises(FractureMaeError, match="lacks"):
        mae_model.load(str(tmp_path))


def test_shards(network, tmp_path):
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same_weights(mae_model.load(str(tmp_path)).network, network)
    next(tmp_path.glob("model-00002-*.safetensors")).unlink()
    with pytest.raises(FractureMaeError, match=str(tmp_path)):
        mae_model.load(str(tmp_path))


def test_what_run_mae_writes(network, tmp_path):
    """Hugging Face's examples/pytorch/image-pretraining/run_mae.py: three channels, norm_pix_loss, its own processor."""
    config = ViTMAEConfig(**network.config.to_dict() | {"num_channels": 3, "norm_pix_loss": True, "mask_ratio": 0.6})
    trained = mae_model.random_start(config, seed=3)
    trained.save_pretrained(tmp_path)
    ViTImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    for name in ("trainer_state.json", "training_args.bin", "optimizer.pt"):
        (tmp_path / name).write_bytes(b"whatever")
    loaded = mae_model.load(str(tmp_path))
    assert loaded.norm_pix_loss
    assert loaded.normalisation.mean == (0.5, 0.5, 0.5)
    assert same_weights(loaded.network, trained)
    mae_model.save(loaded, tmp_path / "again")
    assert mae_model.load(str(tmp_path / "again")).norm_pix_loss


def older_names(state):
    """Names in facebook/vit-mae-base and in all that transformers saved before its fifth version."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("vit.layers.", "vit.encoder.layer.")
        for new in ("q", "k", "v"):
            old = {"q": "query", "k": "key", "v": "value"}[new]
            key = key.replace(f"attention.{new}_proj", f"attention.attention.{old}")
        key = key.replace("attention.o_proj", "attention.output.dense")
        key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        renamed[key] = value.contiguous()
    return renamed


@pytest.mark.parametrize("part", ["whole", "encoder", "encoder without prefix"])
def test_older_names(network, tmp_path, part):
    network.config.save_pretrained(tmp_path)
    state = older_names(network.state_dict())
    if part != "whole":
        state = {key: value for key, value in state.items() if key.startswith("vit.")}
    if part == "encoder without prefix":
        state = {key.removeprefix("vit."): value for key, value in state.items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = mae_model.load(str(tmp_path))
    assert loaded.decoder_is_new == (part != "whole")
    assert same_weights(
        loaded.network if part == "whole" else loaded.network.vit, network if part == "whole" else network.vit
    )


def test_patches_of_14(network, tmp_path):
    config = ViTMAEConfig(**network.config.to_dict() | {"patch_size": 14, "image_size": 56})
    ViTMAEForPreTraining.save_pretrained(mae_model.random_start(config, seed=0), tmp_path)
    assert mae_model.load(str(tmp_path)).n_patches == 16
    assert mae_model.load(str(tmp_path), image_size=70).n_patches == 25
    with pytest.raises(FractureMaeError, match=r"images of 64 pixels do not fall into the patches of 14 .* such as 56"):
        mae_model.load(str(tmp_path), image_size=64)
    with pytest.raises(
        FractureMaeError, match=r"images of 70 pixels .* of 16 pixels that vit-mae-nano takes.* such as 64"
    ):
        mae_model.load("vit-mae-nano", image_size=70)


@pytest.mark.parametrize("patch", [8, 14, 24, 48, 224])
@pytest.mark.parametrize("size", [33, 41, 250, 257, 1023])
def test_the_size_that_is_proposed_is_taken(patch, size):
    with pytest.raises(FractureMaeError, match=r"such as (\d+)\.$") as refused:
        mae_model.check_image_size("it", size, patch)
    proposed = int(re.search(r"such as (\d+)\.", str(refused.value))[1])
    mae_model.check_image_size("it", proposed, patch)
    for config in (FinetuneMae, AuditData):
        assert config(image_size=proposed).image_size == proposed
