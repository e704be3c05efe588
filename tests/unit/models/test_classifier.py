import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import pooling
from tests.unit.models.networks import classifier_on, random_pixels


def tokens_of(classifier, pixels):
    """What the encoder makes of all patches in their order, step by step; [B, 1 + L, hidden_size]."""
    encoder = classifier.encoder.network
    positions = encoder.embeddings.position_embeddings
    patches = encoder.embeddings.patch_embeddings(classifier.normalisation.apply(pixels)) + positions[:, 1:]
    cls = (encoder.embeddings.cls_token + positions[:, :1]).expand(len(pixels), -1, -1)
    tokens = torch.cat([cls, patches], dim=1)
    for layer in encoder.layers:
        tokens = layer(tokens)
    return encoder.layernorm(tokens)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_features_come_from_all_patches_in_order(tiny_mae, pool):
    classifier, pixels = classifier_on(tiny_mae, pool, patch_dropout=0.5).eval(), random_pixels()
    with torch.no_grad():
        tokens = tokens_of(classifier, pixels)
        expected = tokens[:, 1:].mean(dim=1) if pool == "mean" else tokens[:, 0]
        features = classifier.features(pixels)
        assert_close(features, expected, rtol=0, atol=1e-5)
        assert classifier.features(pixels).equal(features)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_where_a_patch_stands_matters_because_of_positions_alone(tiny_mae, pool):
    classifier = classifier_on(tiny_mae, pool).eval()
    pixels = random_pixels()
    swapped = pixels.clone()
    swapped[..., :8, :], swapped[..., 24:, :] = pixels[..., 24:, :], pixels[..., :8, :]
    with torch.no_grad():
        assert not torch.allclose(classifier.features(swapped), classifier.features(pixels), atol=1e-4)
        classifier.encoder.network.embeddings.position_embeddings.zero_()
        assert_close(classifier.features(swapped), classifier.features(pixels), rtol=0, atol=1e-5)


def test_neither_the_autoencoders_mask_nor_training_leaves_patches_out(tiny_mae):
    tiny_mae.network.config.mask_ratio = 0.75
    classifier, pixels = classifier_on(tiny_mae, patch_dropout=0.5), random_pixels(1)
    with torch.no_grad():
        classifier.train()(pixels)
        classifier.eval()
        features = classifier.features(pixels)
        for patch in range(16):
            row, column = divmod(patch, 4)
            changed = pixels.clone()
            changed[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
            assert not torch.allclose(classifier.features(changed), features, atol=1e-5)


def test_logits(tiny_mae):
    classifier = classifier_on(tiny_mae).eval()
    logits = classifier(random_pixels(3))
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32
    assert classifier(random_pixels(3)[1:2])[0].item() == pytest.approx(logits[1].item(), abs=1e-6)


def test_the_head_starts_from_the_seed(tiny_mae):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (classifier_on(tiny_mae, seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.rand(1) == expected  # the global generator stays where it was
    assert first.equal(again)
    assert not first.equal(other)


def test_drop_path_does_nothing_in_evaluation(tiny_mae):
    plain, dropping = (classifier_on(tiny_mae, drop_path=rate).eval() for rate in (0.0, 0.9))
    assert dropping(random_pixels()).equal(plain(random_pixels()))


class Shift(torch.nn.Module):
    """Stands for a layer: adds a number to all tokens."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, tokens):
        return tokens + self.by


def test_drop_path_skips_layers_and_keeps_the_mean(tiny_mae):
    classifier = classifier_on(tiny_mae, drop_path=0.25)  # 0 for the first layer, 0.25 for the last
    classifier.encoder.network.layers = torch.nn.ModuleList([Shift(1.0), Shift(10.0)])
    classifier.encoder.network.layernorm = torch.nn.Identity()
    pixels, chance = random_pixels(1).expand(4000, -1, -1, -1), torch.rand(4000, classifier.n_draws)
    with torch.no_grad():
        plain = classifier.eval().features(pixels[:1])
        dropped = classifier.train().features(pixels, chance)
    added = dropped - (plain - 11)  # by both layers
    skipped = chance[:, -1] < 0.25
    assert skipped.float().mean().item() == pytest.approx(0.25, abs=0.03)  # 4 standard deviations
    assert_close(added[skipped], torch.ones(int(skipped.sum()), 16), rtol=0, atol=1e-4)
    assert_close(added[~skipped], torch.full((int((~skipped).sum()), 16), 1 + 10 / 0.75), rtol=0, atol=1e-4)


def shown_patches(classifier, pixels, chance=None):
    """Which patches reach the first layer while training, told by their positions: bool [B, L]."""
    seen = []
    hook = classifier.encoder.network.layers[0].register_forward_hook(
        lambda layer, inputs, output: seen.append(inputs[0])
    )
    with torch.no_grad():
        for parameter in classifier.encoder.network.embeddings.patch_embeddings.projection.parameters():
            parameter.zero_()
        classifier.train()(pixels, chance)
    hook.remove()
    positions = classifier.encoder.network.embeddings.position_embeddings[0, 1:]
    return torch.cdist(positions.expand(len(pixels), -1, -1), seen[0][:, 1:]).lt(1e-3).any(dim=2)


def test_patch_dropout_shows_other_patches_each_time(tiny_mae):
    classifier = classifier_on(tiny_mae, patch_dropout=0.5)
    shown = torch.cat([shown_patches(classifier, random_pixels(3)) for _ in range(2)])
    assert shown.sum(dim=1).tolist() == [8] * 6
    assert len(shown.unique(dim=0)) == 6


def test_what_is_left_out_hangs_on_chance_alone(tiny_mae):
    classifier = classifier_on(tiny_mae, patch_dropout=0.5, drop_path=0.5)
    chance = torch.rand(3, classifier.n_draws)
    expected = chance[:, :16] <= chance[:, :16].sort(dim=1).values[:, 7:8]
    assert shown_patches(classifier, random_pixels(3), chance).equal(expected)
    classifier = classifier_on(tiny_mae, patch_dropout=0.5, drop_path=0.5).train()
    together = classifier(random_pixels(3), chance)
    assert_close(classifier(random_pixels(3)[2:], chance[2:]), together[2:], rtol=0, atol=1e-6)
    assert classifier(random_pixels(3), chance).equal(together)


def test_patch_dropout_that_leaves_no_patch_is_refused(tiny_mae):
    with pytest.raises(FractureMaeError, match=r"--patch-dropout 0\.95 leaves none of the 16 patches"):
        classifier_on(tiny_mae, patch_dropout=0.95)


def test_layerwise_learning_rates_by_hand(tiny_mae):
    classifier = classifier_on(tiny_mae)
    groups = classifier_model.layerwise_groups(classifier, learning_rate=0.8, layer_decay=0.5, weight_decay=0.05)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    by_name = {name: found.pop(id(p)) for name, p in classifier.named_parameters() if p.requires_grad}
    assert not found  # nothing twice
    expected = {
        "head.weight": (0.8, 0.05),
        "head.bias": (0.8, 0.0),
        "norm.weight": (0.8, 0.0),
        "encoder.network.layernorm.bias": (0.8, 0.0),
        "encoder.network.layers.1.mlp.fc1.weight": (0.4, 0.05),
        "encoder.network.layers.1.mlp.fc1.bias": (0.4, 0.0),
        "encoder.network.layers.0.attention.q_proj.weight": (0.2, 0.05),
        "encoder.network.layers.0.layernorm_before.weight": (0.2, 0.0),
        "encoder.network.embeddings.patch_embeddings.projection.weight": (0.1, 0.05),
        "encoder.network.embeddings.patch_embeddings.projection.bias": (0.1, 0.0),
        "encoder.network.embeddings.cls_token": (0.1, 0.0),
    }
    for name, rates in expected.items():
        assert by_name[name] == pytest.approx(rates), name


def test_without_layer_decay_all_learn_at_one_rate(tiny_mae):
    groups = classifier_model.layerwise_groups(
        classifier_on(tiny_mae), learning_rate=0.8, layer_decay=1.0, weight_decay=0.0
    )
    assert {group["lr"] for group in groups} == {0.8}


def test_a_frozen_encoder_leaves_norm_and_head(tiny_mae):
    classifier = classifier_on(tiny_mae)
    classifier_model.freeze_encoder(classifier)
    trained = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    assert trained == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    groups = classifier_model.layerwise_groups(classifier, learning_rate=1.0, layer_decay=0.5, weight_decay=0.05)
    assert sum(len(group["params"]) for group in groups) == 4
    assert {group["lr"] for group in groups} == {1.0}


def test_in_training_autocast_decides(tiny_mae):
    classifier, pixels = classifier_on(tiny_mae), random_pixels()
    classifier.bf16 = False
    dtypes = []
    classifier.encoder.network.layers[0].mlp.register_forward_hook(lambda _, __, made: dtypes.append(made.dtype))
    for is_training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            classifier.train(is_training)(pixels)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_probabilities_of_a_decision():
    names = ("not fractured", "fractured")
    plain, cooled = Decision(names), Decision(names, slope=0.5)
    stepped = Decision(names, isotonic=Isotonic((0.0, 1.0), (0.25, 0.75)))
    logit = [0, 2 * math.log(3)]
    np.testing.assert_allclose(plain.probability(logit), [0.5, 0.9])
    np.testing.assert_allclose(cooled.probability(logit), [0.5, 0.75])
    np.testing.assert_allclose(stepped.probability(logit), [0.25, 0.75])
    assert [decision.calibrated for decision in (plain, cooled, stepped)] == [False, True, True]


def test_position_embeddings_are_trained_unless_the_encoder_is_frozen(tiny_mae):
    classifier = classifier_model.from_mae(tiny_mae, pool="mean")
    positions = classifier.encoder.network.embeddings.position_embeddings
    assert positions.requires_grad
    classifier_model.freeze_encoder(classifier)
    assert not positions.requires_grad


def test_tokens_of_all_patches_and_of_those_shown(tiny_mae):
    classifier, pixels = classifier_on(tiny_mae, patch_dropout=0.5), random_pixels()
    with torch.no_grad():
        whole, part = classifier.eval().tokens(pixels), classifier.train().tokens(pixels)
    assert classifier.grid == (4, 4)
    assert (whole.patches.shape, whole.cls.shape, whole.shown) == ((2, 16, 16), (2, 16), None)
    assert (part.patches.shape, part.shown.shape) == ((2, 8, 16), (2, 8))


@pytest.mark.parametrize("pool", pooling.POOLS)
def test_each_patch_says_something_of_its_own_and_the_logit_is_the_same(tiny_mae, pool):
    classifier, pixels = classifier_on(tiny_mae, pool, hidden=3 if pool == "mean" else 0).eval(), random_pixels(3)
    with torch.no_grad():
        logit, maps = classifier.places(pixels)
        assert maps.shape == (3, 4, 4)
        assert maps.dtype == torch.float32
        assert logit.equal(classifier(pixels))
        tokens = tokens_of(classifier, pixels)
        if pool == "mean":
            assert_close(maps.mean(dim=(1, 2)), logit)
        else:
            expected = classifier.head(classifier.norm(tokens[:, 1:])).squeeze(2)
            assert_close(maps.flatten(1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_head_that_reads_no_patch_answers_as_ever(tiny_mae, pool):
    classifier = classifier_on(tiny_mae, pool)
    names = {name.partition(".")[0] for name in classifier.state_dict()}
    assert names == {"encoder", "norm", "head"}
    with torch.no_grad():
        as_ever = classifier.head(classifier.norm(classifier.eval().features(random_pixels()))).squeeze(1)
        assert classifier(random_pixels()).equal(as_ever)


@pytest.mark.parametrize("pool", pooling.PATCH_POOLS)
def test_the_logit_is_a_pooling_of_what_patches_say(tiny_mae, pool):
    classifier = classifier_on(tiny_mae, pool, pool_temperature=0.5, pool_share=0.25).eval()
    with torch.no_grad():
        classifier.head.weight *= 50
        logit, maps = classifier.places(random_pixels(3))
        flat = maps.flatten(1)
        by_hand = {
            "lse": (2 * flat).exp().mean(dim=1).log() / 2,
            "topk": flat.sort(dim=1).values[:, -4:].mean(dim=1),
        }
        if pool in by_hand:
            assert_close(logit, by_hand[pool], rtol=0, atol=1e-5)
        assert ((flat.amin(dim=1) < logit) & (logit < flat.amax(dim=1))).all()


def test_of_the_patches_shown_alone_something_is_said(tiny_mae):
    classifier = classifier_on(tiny_mae, "lse", patch_dropout=0.75).train()
    logit, patches, shown = classifier(random_pixels(3), with_patches=True)
    assert (logit.shape, patches.shape, shown.shape) == ((3,), (3, 4), (3, 4))
    assert_close(logit, classifier.pooling(patches, None))
