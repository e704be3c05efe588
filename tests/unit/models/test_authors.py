"""Files of He et al.'s code, made here from a network of transformers by the inverse of what is tested."""

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import ViTMAEConfig

from fracture_mae.errors import FractureMaeError
from fracture_mae.models import authors
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models.pixels import IMAGENET

NAMES = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    "decoder.decoder_embed": "decoder_embed",
    "decoder.decoder_norm": "decoder_norm",
    "decoder.decoder_pred": "decoder_pred",
    "vit.layers": "blocks",
    "decoder.decoder_layers": "decoder_blocks",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.o_proj": "attn.proj",
}


def their_network():
    """An encoder of one head of 64 values, a decoder of two of 32, as the authors' models have them."""
    config = ViTMAEConfig(
        image_size=32,
        patch_size=8,
        num_channels=3,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=128,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=96,
        layer_norm_eps=1e-6,
    )
    network = mae_model.random_start(config, seed=4)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "pos" not in name:
                value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))))
    return network.eval()


@pytest.fixture
def network():
    return their_network()


def by_their_names(network):
    state = network.state_dict()
    theirs = {}
    for key, value in state.items():
        for ours, name in NAMES.items():
            key = key.replace(ours, name)
        if "q_proj" in key:
            place = key.replace("attention.q_proj", "attn.qkv")
            of_key = next(k for k, v in state.items() if v is value)
            theirs[place] = torch.cat([state[of_key.replace("q_proj", f"{each}_proj")] for each in "qkv"])
        elif "k_proj" not in key and "v_proj" not in key:
            theirs[key] = value.clone()
    return theirs


def written(folder, content, name="mae_visualize_vit_tiny.pth"):
    torch.save(content, folder / name)
    return str(folder / name)


def test_the_names_are_theirs(network):
    theirs = by_their_names(network)
    assert theirs["blocks.1.attn.qkv.weight"].shape == (192, 64)
    assert {"cls_token", "pos_embed", "patch_embed.proj.bias", "norm.weight", "decoder_blocks.0.mlp.fc2.bias"} <= set(
        theirs
    )
    assert not any("proj.w" in key and "attention" in key for key in theirs)


def test_a_whole_model_rebuilds_as_the_network_it_is(network, tmp_path):
    loaded = mae_model.load(written(tmp_path, {"model": by_their_names(network)}))
    assert (loaded.image_size, loaded.n_patches, loaded.normalisation) == (32, 16, IMAGENET)
    assert (loaded.start, loaded.decoder_is_new, loaded.norm_pix_loss) == ("weights", False, False)
    generator = torch.Generator().manual_seed(0)
    pixels, noise = torch.rand(2, 1, 32, 32, generator=generator), torch.rand(2, 16, generator=generator)
    with torch.no_grad():
        expected = network(IMAGENET.apply(pixels), noise=noise).logits
        assert_close(loaded(pixels, noise, 0.75)[0], expected, rtol=0, atol=1e-5)
        assert loaded.network(IMAGENET.apply(pixels), noise=noise).logits.equal(expected)


def test_what_save_writes_of_it_is_the_same_network(network, tmp_path):
    loaded = mae_model.load(written(tmp_path, {"model": by_their_names(network)}, "mae_pretrain_vit_tiny_full.pth"))
    mae_model.save(loaded, tmp_path / "converted")
    again = mae_model.load(str(tmp_path / "converted"))
    assert again.norm_pix_loss
    assert again.network.config.layer_norm_eps == 1e-6
    assert all(value.equal(again.network.state_dict()[key]) for key, value in network.state_dict().items())


def test_an_encoder_alone(network, tmp_path):
    state = {k: v for k, v in by_their_names(network).items() if not k.startswith(("decoder", "mask_token"))}
    loaded = mae_model.load(written(tmp_path, {"model": state}, "mae_pretrain_vit_tiny.pth"), image_size=64)
    assert loaded.decoder_is_new
    assert (loaded.n_patches, loaded.norm_pix_loss) == (64, True)
    expected = network.vit.state_dict()
    found = loaded.network.vit.state_dict()
    assert all(found[key].equal(value) for key, value in expected.items() if "position" not in key)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mae_pretrain_vit_base_full.pth", None, True),
        ("mae_visualize_vit_large_ganloss.pth", None, False),
        ("checkpoint-799.pth", argparse.Namespace(norm_pix_loss=False, lr=1e-3), False),
        ("mae_visualize.pth", argparse.Namespace(norm_pix_loss=True), True),
    ],
)
def test_whether_patches_are_normalised_is_told_by_options_or_name(network, tmp_path, name, options, expected):
    content = {"model": by_their_names(network)} | ({"args": options, "epoch": 799} if options else {})
    assert mae_model.load(written(tmp_path, content, name)).norm_pix_loss is expected


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16), (64, 1), (32, 1)])
def test_heads_are_those_of_their_models(width, heads):
    state = {"patch_embed.proj.weight": torch.zeros(width, 3, 16, 16), "pos_embed": torch.zeros(1, 197, width)}
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(4 * width, width)
    config = authors._config(state, norm_pix_loss=True)
    assert (config.num_attention_heads, config.image_size, config.num_hidden_layers) == (heads, 224, 1)


class Trap:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def without(state, *keys):
    return {"model": {key: value for key, value in state.items() if key not in keys}}


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_hostile_file_is_not_unpickled(network, tmp_path, protocol):
    trace, file = tmp_path / "unpickled", tmp_path / "mae_pretrain_vit_base.pth"
    content = {"model": by_their_names(network) | {"cls_token": Trap(trace)}}
    if protocol == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(FractureMaeError, match=r"cannot be read as weights.* so it was not"):
        mae_model.load(str(file))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            lambda state: without(state, "norm.weight", "norm.bias"),
            r"lacks 2 weights .*vit.layernorm.bias.* fine-tuned",
        ),
        (lambda state: without(state, "blocks.1.attn.qkv.bias"), "lacks 3 weights"),
        (lambda state: without(state, "mask_token"), "lacks 1 weights .*decoder.mask_token"),
        (lambda state: without(state, "pos_embed"), "holds no whole masked autoencoder .*pos_embed"),
        (lambda state: {"model": state | {"blocks.0.attn.scale.weight": torch.ones(1)}}, "holds no whole"),
        (lambda state: {"model": state | {"cls_token": torch.zeros(1, 1, 3)}}, "another shape.*cls_token"),
        (lambda state: {"model": {"cls_token": 3}}, "holds no weights"),
        (lambda state: [1, 2], "holds no weights"),
    ],
)
def test_what_is_no_mae_ends_in_a_sentence(network, tmp_path, content, words):
    with pytest.raises(FractureMaeError, match=words):
        mae_model.load(written(tmp_path, content(by_their_names(network))))


@pytest.mark.parametrize("garbage", [b"", b"no weights", b"PK\x03\x04 torn"])
def test_a_damaged_file_ends_in_a_sentence(tmp_path, garbage):
    (tmp_path / "mae.pth").write_bytes(garbage)
    with pytest.raises(FractureMaeError, match=r"mae\.pth cannot be read as weights"):
        mae_model.load(str(tmp_path / "mae.pth"))
    with pytest.raises(FractureMaeError, match=r"there is no file .*other\.pth"):
        mae_model.load(str(tmp_path / "other.pth"))
