import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import ViTMAEConfig
from transformers.models.vit_mae import modeling_vit_mae

from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models.attention import use_attention
from fracture_mae.models.autoencoder import Mae, squared_error
from fracture_mae.models.pixels import IMAGENET
from fracture_mae.models.vit import encode, is_decayed, patches_of, recompute_activations, tokens_of


def in_colour(mae):
    config = ViTMAEConfig(**mae.network.config.to_dict() | {"num_channels": 3})
    return Mae(mae_model.random_start(config, 0), IMAGENET, "made")


@pytest.fixture(params=["preset", "three channels"])
def mae(request, tiny_mae):
    return mae_model.load("vit-mae-nano", image_size=64) if request.param == "preset" else in_colour(tiny_mae)


def inputs(mae, n=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(n, 1, mae.image_size, mae.image_size, generator=generator)
    return pixels, torch.rand(n, mae.n_patches, generator=generator)


def gradients(mae, loss):
    mae.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in mae.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("mask_ratio", [0.75, 0.4])
def test_what_nobody_sees_is_left_out_and_nothing_changes(mae, mask_ratio):
    """transformers' own forward pass, which projects all patches, under the same noise: outputs, loss and gradients."""
    pixels, noise = inputs(mae)
    mae.network.config.mask_ratio = mask_ratio
    theirs = mae.network(mae.normalisation.apply(pixels), noise=noise)
    prediction, target, mask = mae(pixels, noise, mask_ratio)
    assert_close(prediction, theirs.logits, rtol=1e-5, atol=1e-5)
    assert mask.equal(theirs.mask)
    assert target.equal(mae.network.patchify(mae.normalisation.apply(pixels)))
    loss = squared_error(prediction, target, mask, "masked").mean()
    assert loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    expected = gradients(mae, theirs.loss)
    assert_close(gradients(mae, loss), expected, rtol=1e-4, atol=1e-6)


def theirs_of(encoder, pixels, noise, mask_ratio):
    """transformers' own forward pass, which projects all patches by a convolution; [B, 1 + K, hidden_size]."""
    encoder.config.mask_ratio = mask_ratio
    return encoder(pixels, noise=noise).last_hidden_state


@pytest.mark.parametrize("mask_ratio", [0.0, 0.75])
def test_tokens_are_those_of_transformers(mae, mask_ratio):
    """In float64, since sums in another order differ by 2e-6 in float32."""
    pixels, noise = (values.double() for values in inputs(mae))
    pixels, encoder = mae.normalisation.apply(pixels), mae.network.vit.double().eval()
    shown = noise.argsort(dim=1)[:, : int(mae.n_patches * (1 - mask_ratio))]
    with torch.no_grad():
        found = encode(encoder, patches_of(pixels, mae.network.config.patch_size), shown)
        assert_close(found, theirs_of(encoder, pixels, noise, mask_ratio), rtol=0, atol=1e-12)


def test_all_patches_are_shown_in_their_order_unless_told(mae):
    pixels, _ = (values.double() for values in inputs(mae))
    pixels, encoder = mae.normalisation.apply(pixels), mae.network.vit.double().eval()
    in_order = torch.arange(mae.n_patches).expand(len(pixels), -1)
    with torch.no_grad():
        found = encode(encoder, patches_of(pixels, mae.network.config.patch_size))
        assert_close(found, theirs_of(encoder, pixels, in_order, 0.0), rtol=0, atol=1e-12)


class Multiply(nn.Module):
    """Stands for a layer: multiplies all tokens by a number."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, tokens):
        return tokens * self.by


def test_layers_are_skipped_by_their_rate_and_what_others_add_grows(tiny_mae):
    encoder = tiny_mae.network.vit
    encoder.layers, encoder.layernorm = nn.ModuleList([Multiply(3.0), Multiply(5.0)]), nn.Identity()
    patches = torch.rand(3, tiny_mae.n_patches, 64, generator=torch.Generator().manual_seed(0))
    chance = torch.tensor([[0.0, 0.49], [0.9, 0.5], [0.2, 0.1]])
    with torch.no_grad():
        found = encode(encoder, patches, skip=([0.0, 0.5], chance))
        factors = found / tokens_of(encoder, patches)
    # The first layer has rate 0. The second is skipped, or adds 4 times its input, twice as much as at rate 0.
    expected = torch.tensor([3.0, 27.0, 3.0]).view(3, 1, 1).expand_as(factors)
    assert_close(factors, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("lowered", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_layers_add_in_lower_precision_where_asked(tiny_mae, lowered, expected):
    encoder, read = tiny_mae.network.vit, []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, given: read.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        encode(encoder, torch.rand(2, tiny_mae.n_patches, 64), lowered=lowered)
    assert read == [expected] * 2


def test_only_visible_patches_are_projected(tiny_mae, monkeypatch):
    pixels, noise = inputs(tiny_mae)
    projected = []
    linear = torch.nn.functional.linear
    weight = tiny_mae.network.vit.embeddings.patch_embeddings.projection.weight

    def count(values, matrix, bias=None):
        if matrix.shape == weight.flatten(1).shape and matrix.data_ptr() == weight.data_ptr():
            projected.append(values.shape)
        return linear(values, matrix, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", count)
    tiny_mae(pixels, noise, 0.75)
    assert projected == [(3, 4, 64)]  # a quarter of 16 patches


def test_patches_are_those_of_transformers(tiny_mae):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert patches_of(pixels, 8).equal(in_colour(tiny_mae).network.patchify(pixels))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_set_in_encoder_and_decoder_and_changes_no_result(tiny_mae, monkeypatch, implementation):
    pixels, noise = inputs(tiny_mae)
    expected = tiny_mae(pixels, noise, 0.75)[0]
    eager, calls = modeling_vit_mae.eager_attention_forward, []
    monkeypatch.setattr(
        modeling_vit_mae, "eager_attention_forward", lambda *args, **kwargs: calls.append(1) or eager(*args, **kwargs)
    )
    use_attention(tiny_mae, implementation)
    assert_close(tiny_mae(pixels, noise, 0.75)[0], expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == (3 if implementation == "eager" else 0)  # two layers in the encoder, one in the decoder


def test_what_is_saved_does_not_tell_how_attention_was_computed(tiny_mae, tmp_path):
    for implementation in ("sdpa", "eager", "written_out"):
        use_attention(tiny_mae, implementation)
        mae_model.save(tiny_mae, tmp_path / implementation)
    mae_model.save(mae_model.load(str(tmp_path / "sdpa")), tmp_path / "usual")
    for file in (tmp_path / "sdpa").iterdir():
        for other in ("eager", "written_out", "usual"):
            assert file.read_bytes() == (tmp_path / other / file.name).read_bytes()


def test_recomputed_activations_give_the_same_gradients(tiny_mae):
    pixels, noise = inputs(tiny_mae)
    layer_calls = []

    def run(mae):
        mae.train()
        hook = mae.network.vit.layers[0].mlp.register_forward_pre_hook(lambda *args: layer_calls.append(1))
        prediction, target, mask = mae(pixels, noise, 0.75)
        found = gradients(mae, squared_error(prediction, target, mask, "masked").mean())
        hook.remove()
        return found

    expected = run(copy.deepcopy(tiny_mae))
    recompute_activations(tiny_mae, True)
    layer_calls.clear()
    assert_close(run(tiny_mae), expected, rtol=0, atol=1e-7)
    assert len(layer_calls) == 2  # forward, and again for backward
    recompute_activations(tiny_mae, False)
    layer_calls.clear()
    run(tiny_mae)
    assert len(layer_calls) == 1


def test_gradients_are_the_same_each_time(tiny_mae):
    """Of position embeddings too, which several threads add to."""
    encoder, threads = tiny_mae.network.vit, torch.get_num_threads()
    positions = encoder.embeddings.position_embeddings.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(512, tiny_mae.n_patches, 64, generator=generator)
    shown = torch.rand(512, tiny_mae.n_patches, generator=generator).argsort(dim=1)[:, :8]
    weight = torch.rand(512, 9, 16, generator=generator)
    torch.set_num_threads(2)
    try:
        found = [
            torch.autograd.grad((tokens_of(encoder, patches, shown) * weight).sum(), positions)[0] for _ in range(50)
        ]
    finally:
        torch.set_num_threads(threads)
    assert all(gradient.equal(found[0]) for gradient in found)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("layers.0.mlp.fc1.weight", (8, 4), True),
        ("patch_embeddings.projection.weight", (8, 3, 4, 4), True),
        ("layers.0.mlp.fc1.bias", (8,), False),
        ("layernorm.weight", (8,), False),
        ("embeddings.cls_token", (1, 1, 8), False),
        ("embeddings.register_tokens", (1, 4, 8), False),
        ("decoder.mask_token", (1, 1, 8), False),
        ("embeddings.position_embeddings", (1, 5, 8), False),
        ("decoder.decoder_pos_embed", (1, 5, 8), False),
        ("attention.relative_position_bias_table", (9, 2), False),
    ],
)
def test_weight_decay_is_for_what_multiplies(name, shape, expected):
    assert is_decayed(name, torch.nn.Parameter(torch.zeros(shape))) is expected
