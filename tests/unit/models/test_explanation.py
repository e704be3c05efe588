"""Maps of classifiers whose answers hang on places that are known."""

import copy
import importlib.util
import threading

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import encoders, explanation
from fracture_mae.models.attention import use_attention
from tests.unit.models.networks import SIDE, save_network

GLOBAL = ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit")


def pictures(n, side, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, 1, side, side), dtype=np.float32))


def of_mae(tiny_mae, pool, seed=0):
    return classifier_model.from_mae(tiny_mae, pool=pool, seed=seed).eval()


def of_family(folder, family, pool="mean"):
    save_network(folder / family, family, std=0.3)
    return classifier_model.from_encoder(encoders.load(str(folder / family), SIDE), pool=pool).eval()


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_relevance_is_that_of_its_definition(tiny_mae, pool):
    """Of one layer: positive parts of attention times its gradient, the mean over heads; found here by small changes of attention."""
    network = of_mae(tiny_mae, pool)
    network.encoder.network.layers = network.encoder.network.layers[:1]
    pixels = pictures(1, network.image_size)
    logit, found = explanation.relevance(network, pixels)
    (layer,) = network.encoder.network.layers
    noted, change = [], {}

    def attend(module, query, key, value, mask, scaling=None, **_):
        attention = (query @ key.transpose(2, 3) * scaling).softmax(-1)
        noted.append(attention.detach())
        attention = attention + change.get("of", 0)
        return (attention @ value).transpose(1, 2).contiguous(), attention

    explanation.AttentionInterface.register("by_hand", attend)
    network.double()
    layer.attention.config._attn_implementation = "by_hand"
    n = network.encoder.n_patches + 1
    with torch.no_grad():
        plain = network(pixels.double())
        heads = noted[0].shape[1]
        gradient = np.zeros((heads, n, n))
        for head, row, column in np.ndindex(heads, n, n):
            change["of"] = torch.zeros(1, heads, n, n, dtype=torch.float64)
            change["of"][0, head, row, column] = 1e-5
            gradient[head, row, column] = (network(pixels.double()) - plain).item() / 1e-5
    weighed = np.clip(noted[0][0].numpy() * gradient, 0, None).mean(axis=0)[:, 1:]
    expected = weighed[0] if pool == "cls" else (weighed[1:] + np.eye(n - 1)).mean(axis=0)
    np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=2e-2, atol=1e-7)
    assert logit.item() == pytest.approx(plain.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", [*GLOBAL, "beit", "swin", "convnext"])
def test_every_kind_of_encoder_has_maps_and_the_logits_of_forward(tmp_path, family):
    network = of_family(tmp_path, family)
    assert explanation.is_by_relevance(network) == (family in GLOBAL)
    pixels = pictures(2, SIDE)
    with torch.inference_mode():
        expected = network(pixels)
        logit, heat = explanation.maps(network, pixels)
        np.testing.assert_allclose(network(pixels), expected)  # asked as before
    assert heat.shape == (2, *network.grid)
    assert heat.std() > 0
    np.testing.assert_allclose(logit, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "cls", "lse", "topk", "attention"])
def test_with_other_weights_the_map_is_another(tiny_mae, pool):
    """Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that stays tells of the picture, not of the classifier."""
    pixels = pictures(12, of_mae(tiny_mae, pool).image_size)
    network = of_mae(copy.deepcopy(tiny_mae), pool)
    before = explanation.maps(network, pixels)[1].detach().flatten(1)
    again = explanation.maps(network, pixels)[1].detach().flatten(1)
    np.testing.assert_array_equal(before, again)
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=float(parameter.detach().std(correction=0)) + 0.02)
    after = explanation.maps(network, pixels)[1].detach().flatten(1)
    alike = [spearmanr(one, other)[0] for one, other in zip(before, after, strict=True)]
    assert abs(np.mean(alike)) < 0.5


def test_a_request_in_another_thread_meanwhile_is_answered_and_not_noted(tiny_mae, monkeypatch):
    network = of_mae(tiny_mae, "mean")
    use_attention(network, "sdpa")
    pixels = pictures(2, network.image_size)
    with torch.inference_mode():
        expected, answers = network(pixels), []
    plain = explanation.relevance(network, pixels)[1]
    forward = network.forward

    def meanwhile(pixels, *rest):
        other = threading.Thread(target=lambda: answers.append(forward(pixels.detach())))
        other.start()
        other.join()
        return forward(pixels, *rest)

    monkeypatch.setattr(network, "forward", meanwhile)
    found = explanation.relevance(network, pixels)[1]
    np.testing.assert_allclose(answers[0].detach(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found, plain)


def test_another_version_of_it_in_the_same_python_notes_its_own(tiny_mae):
    network = of_mae(tiny_mae, "mean")
    pixels = pictures(2, network.image_size)
    expected = explanation.relevance(network, pixels)[1]
    found = importlib.util.find_spec(explanation.__name__)
    other = importlib.util.module_from_spec(found)
    found.loader.exec_module(other)
    for each in (explanation, other, explanation):
        np.testing.assert_array_equal(each.relevance(network, pixels)[1], expected)
