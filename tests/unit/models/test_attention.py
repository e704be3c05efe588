import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import ViTConfig, ViTModel

from fracture_mae.models import attention, explanation
from fracture_mae.models.attention import SDPA, WRITTEN_OUT, use_attention, usual
from fracture_mae.models.autoencoder import Mae, squared_error
from fracture_mae.models.classifier import from_mae
from fracture_mae.models.encoders.network import NetworkEncoder
from fracture_mae.models.pixels import Normalisation

BF16, FP32 = torch.bfloat16, torch.float32
UNIT = 2.0**-9  # of bf16: 8 binary digits, the last of which is rounded


class Layer(torch.nn.Module):
    """What attention is told of the layer that asks."""

    is_causal = False

    def __init__(self, asked):
        super().__init__()
        self.config = type("Config", (), {"_attn_implementation": asked})()


class Made(TorchDispatchMode):
    """Notes every floating-point tensor that an operator makes, as its dtype and number of values."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        made = operator(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(made) if torch.is_tensor(each) and each.is_floating_point()]
        self.tensors += [(each.dtype, each.numel()) for each in tensors]
        return made


def heads(dtype=FP32, shape=(3, 2, 11, 8)):
    """Query, key and value [B, heads, n, d], leaves of a graph."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def attended(kind, operands):
    """The result of a registered attention, and the gradients of queries, keys and values."""
    result = attention.AttentionInterface()[kind](Layer(kind), *operands, None, scaling=0.4)[0]
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(result.shape, generator=generator).to(result.dtype)
    return result.detach(), torch.autograd.grad(result, operands, direction)


def inputs(mae, n=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(n, 1, mae.image_size, mae.image_size, generator=generator)
    return pixels, torch.rand(n, mae.n_patches, generator=generator)


def step(mae, kind=None, dtype=FP32):
    """Prediction, and gradients of all weights, of a training step by an attention; None: that of a model as it was made."""
    mae = copy.deepcopy(mae)
    if kind:
        use_attention(mae, kind)
    pixels, noise = inputs(mae)
    with torch.autocast("cpu", BF16, enabled=dtype == BF16):
        prediction, target, mask = mae(pixels, noise, 0.4)
        squared_error(prediction, target, mask, "masked").mean().backward()
    gradients = {name: each.grad for name, each in mae.named_parameters() if each.requires_grad}
    return prediction.detach(), gradients


def apart(found, expected):
    """The distance of two gradients, by the length of the second."""
    found, expected = (torch.cat([each.flatten() for each in gradients.values()]) for gradients in (found, expected))
    return ((found - expected).norm() / expected.norm()).item()


def n_projected_alone(mae, dtype):
    """How often a query was projected by itself."""
    calls = []
    layers = [*mae.network.vit.layers, *mae.network.decoder.decoder_layers]
    hooks = [layer.attention.q_proj.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    with torch.no_grad(), torch.autocast("cpu", BF16, enabled=dtype == BF16):
        mae(*inputs(mae), 0.4)
    for hook in hooks:
        hook.remove()
    return len(calls)


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [("cpu", BF16, WRITTEN_OUT), ("cpu", FP32, None), ("cuda", BF16, None), ("cuda", FP32, None), ("mps", BF16, None)],
)
def test_what_is_known_to_be_the_fastest(device, dtype, expected):
    assert usual(torch.device(device), dtype) == expected


def test_written_out_and_fused_agree():
    found, expected = (attended(kind, heads()) for kind in (attention._PLAIN, attention._FUSED))
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("is_trained", "n_roundings"), [(True, 2), (False, 4)])
def test_in_bf16_it_is_as_exact_as_its_roundings_allow(is_trained, n_roundings):
    """Each of the scaled query, the score, the weight and the result is rounded once; untrained, the sum and what it divides, too.

    The first two leave a score within 2·u·A, where A is the largest sum of |query · key|, so a weight, which has scores above and
    below its line, within 4·u·A of itself; with its own rounding and those that follow, 4·u·A + 2·u or 4·u, by the largest value.
    """
    operands = heads(BF16)
    with torch.set_grad_enabled(is_trained):
        found = attention.AttentionInterface()[attention._PLAIN](Layer(attention._PLAIN), *operands, None, scaling=0.4)[
            0
        ]
    query, key, value = (each.detach().double() for each in operands)
    exact = ((0.4 * query @ key.mT).softmax(-1) @ value).transpose(1, 2)
    largest = (0.4 * query.abs() @ key.abs().mT).max()
    within = (4 * UNIT * largest + n_roundings * UNIT) * value.abs().max()
    assert (found.double() - exact).abs().max() <= within


@pytest.mark.parametrize(("largest", "is_divided_last"), [(1, True), (60, True), (75, False), (1e4, False)])
def test_scores_too_large_for_exponentials_are_weighed_all_the_same(monkeypatch, largest, is_divided_last):
    """Scores of ± `largest`: from 70 on sums of exponentials leave 1e-30 … 1e30. Two of four keys share the highest."""
    asked, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda scores, dim: asked.append(dim) or softmax(scores, dim=dim))
    query = torch.tensor([[1.0], [-1.0]], dtype=BF16)[None, None]
    key = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=BF16)[None, None] * largest
    value = torch.tensor([[1.0], [3.0], [5.0], [7.0]], dtype=BF16)[None, None]
    with torch.no_grad():
        found = attention._weighed(*(each.flatten(0, 1) for each in (query, key, value)), 0.0)
    share = 1 / (1 + math.exp(-2 * largest))
    assert_close(
        found.flatten().tolist(), [2 * share + 6 * (1 - share), 6 * share + 2 * (1 - share)], rtol=4 * UNIT, atol=0
    )
    assert bool(asked) != is_divided_last


def test_scores_that_are_all_too_low_for_exponentials_weigh_alike():
    query, value = torch.ones(1, 1, 1, dtype=BF16), torch.tensor([[[1.0], [3.0]]], dtype=BF16)
    with torch.no_grad():
        found = attention._weighed(query, torch.full((1, 2, 1), -100.0, dtype=BF16), value, 0.0)
    assert found.item() == 2.0


def test_a_step_by_it_is_that_of_sdpa(tiny_mae):
    found, expected = step(tiny_mae, WRITTEN_OUT), step(tiny_mae, SDPA)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_in_bf16_the_gradient_is_as_exact_as_that_of_sdpa(tiny_mae):
    """Both round as often, but not in the same places: neither may be twice as far off as the other."""
    exact = step(tiny_mae)[1]
    ours, fused = (apart(step(tiny_mae, kind, BF16)[1], exact) for kind in (WRITTEN_OUT, SDPA))
    assert 0 < ours < 2 * fused


def test_query_key_and_value_are_one_product_where_it_is_written_out(tiny_mae):
    n_layers = 3  # two in the encoder, one in the decoder
    use_attention(tiny_mae, WRITTEN_OUT)
    assert n_projected_alone(tiny_mae, BF16) == n_projected_alone(tiny_mae, FP32) == 0
    use_attention(tiny_mae, SDPA)
    assert n_projected_alone(tiny_mae, BF16) == n_layers
    assert not any("forward" in vars(module) for module in tiny_mae.modules())  # for torch.compile to stumble over


def test_as_it_is_made_attention_is_written_out_in_bf16_alone(tiny_mae):
    """And so it is again where a trained autoencoder's encoder becomes a classifier's."""
    use_attention(tiny_mae, SDPA)
    assert n_projected_alone(Mae(tiny_mae.network, tiny_mae.normalisation, ""), BF16) == 0
    assert n_projected_alone(tiny_mae, FP32) == 3
    use_attention(tiny_mae, SDPA)
    assert attention_of(from_mae(tiny_mae).encoder) == {attention._USUAL}


def attention_of(encoder):
    return {layer.attention.config._attn_implementation for layer in encoder.network.layers}


def test_a_network_of_transformers_is_written_out_in_bf16_alone(monkeypatch):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network = ViTModel(ViTConfig(**sizes, image_size=32, num_channels=1), add_pooling_layer=False)
    encoder = NetworkEncoder(network, Normalisation(), 32)
    asked = []
    weighed = attention._weighed
    monkeypatch.setattr(
        attention, "_weighed", lambda query, *others: asked.append(query.dtype) or weighed(query, *others)
    )
    for dtype in (FP32, BF16):
        with torch.no_grad(), torch.autocast("cpu", BF16, enabled=dtype == BF16):
            encoder(torch.rand(1, 1, 32, 32))
    assert asked == [BF16]


@pytest.mark.parametrize("at_once", [1, 11 * 11, 2 * 11 * 11 + 1])
def test_in_pieces_it_is_the_same(monkeypatch, at_once):
    """Of 6 heads of 11 tokens: one by one, and two at once; no more weights than that are made at once."""
    whole = attended(attention._PLAIN, heads())
    monkeypatch.setattr(attention, "_AT_ONCE", at_once)
    with Made() as made:
        pieces = attended(attention._PLAIN, heads())
    assert_close(pieces, whole, rtol=1e-6, atol=1e-6)
    n_heads = 2 if at_once > 2 * 11 * 11 else 1
    assert {number for _, number in made.tensors if number % 11**2 == 0} == {n_heads * 11**2}


def test_another_process_computes_a_model_that_it_is_sent(tiny_mae, tmp_path):
    """As ranks do, of a training by several processes."""
    expected = step(tiny_mae)[0]
    torch.save((tiny_mae, inputs(tiny_mae)), tmp_path / "sent.pt")
    asked = (
        "import sys, torch; m, x = torch.load(sys.argv[1], weights_only=False); torch.save(m(*x, 0.4)[0], sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", asked, tmp_path / "sent.pt"], check=True)
    assert_close(torch.load(tmp_path / "sent.pt"), expected)


def test_weights_keep_their_names_and_a_copy_has_its_own(tiny_mae):
    names = list(tiny_mae.state_dict())
    before = step(tiny_mae, WRITTEN_OUT)[0]
    use_attention(tiny_mae, WRITTEN_OUT)
    assert list(tiny_mae.state_dict()) == names
    assert {f"network.vit.layers.0.attention.{each}_proj.weight" for each in "qkv"} <= set(names)
    other = copy.deepcopy(tiny_mae)
    with torch.no_grad():
        for layer in tiny_mae.network.vit.layers:
            layer.attention.v_proj.weight.zero_()
        assert_close(other(*inputs(other), 0.4)[0], before, rtol=0, atol=0)
        assert not torch.allclose(tiny_mae(*inputs(other), 0.4)[0], before)


def test_in_bf16_no_tensor_of_tokens_is_fp32(tiny_mae):
    """Forward and backward; what is larger than the weights of a layer together is made of tokens."""
    use_attention(tiny_mae, WRITTEN_OUT)
    layer = tiny_mae.network.vit.layers[0].attention
    n_weights = sum(each.numel() for each in layer.parameters())
    tokens = torch.rand(64, 17, 16, dtype=BF16, requires_grad=True)
    assert tokens.numel() > n_weights
    with Made() as made, torch.autocast("cpu", BF16):
        layer(tokens)[0].sum(dtype=BF16).backward()
    assert max(n for dtype, n in made.tensors if dtype == BF16) >= tokens.numel()
    assert max(n for dtype, n in made.tensors if dtype == FP32) <= n_weights


def test_dropout_is_obeyed_while_training(tiny_mae):
    use_attention(tiny_mae, WRITTEN_OUT)
    layer, tokens = tiny_mae.network.vit.layers[0].attention, torch.rand(2, 5, 16)
    layer.attention_dropout = 1.0
    layer.train()
    assert_close(layer(tokens)[0], layer.o_proj.bias.expand(2, 5, -1))
    layer.eval()
    assert not torch.allclose(layer(tokens)[0], layer.o_proj.bias.expand(2, 5, -1))


@pytest.mark.parametrize(("n", "is_written_out"), [(16 * 8, True), (16 * 8 + 1, False)])
def test_its_weights_never_take_most_of_the_memory(n, is_written_out):
    """Of 16 tokens for each value of a head on, sdpa, which keeps none."""
    with Made() as made:
        attended(attention._PLAIN, heads(shape=(1, 1, n, 8)))
    assert (max(number for _, number in made.tensors) >= n * n) == is_written_out


@pytest.mark.parametrize("own", ["mask", "bias", "causal"])
def test_what_more_there_is_to_reckon_with_is_sdpas(own):
    query, key, value = (each.detach() for each in heads())
    bias = torch.zeros(11, 11).masked_fill(torch.ones(11, 11, dtype=torch.bool).triu(1), -math.inf)
    mask, options = (bias if own == "mask" else None), {"position_bias": bias} if own == "bias" else {}
    layer = Layer(attention._PLAIN)
    layer.is_causal = own == "causal"
    found = attention.AttentionInterface()[attention._PLAIN](layer, query, key, value, mask, **options)[0]
    exact = ((query @ key.mT * 8**-0.5 + bias).softmax(-1) @ value).transpose(1, 2)
    assert_close(found, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_relevance_is_asked_for_as_ever(tiny_mae, pool):
    classifier = from_mae(tiny_mae, pool=pool).eval()
    pixels = inputs(tiny_mae)[0]
    use_attention(classifier, SDPA)
    expected = explanation.relevance(classifier, pixels)
    use_attention(classifier, WRITTEN_OUT)
    found = explanation.relevance(classifier, pixels)
    np.testing.assert_array_equal(found[1], expected[1])
