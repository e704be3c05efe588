import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fracture_mae.models import pooling
from fracture_mae.models.pooling import GatedAttention, LogSumExp, TopShare, contributions

FOUR = torch.tensor([[0.0, 1.0, 2.0, 3.0]])  # 2 x 2 patches
NORMED = torch.zeros(1, 4, 5)


def test_log_sum_exp_by_hand():
    by_hand = math.log((1 + math.e + math.e**2 + math.e**3) / 4)
    assert LogSumExp(1.0)(FOUR, NORMED).item() == pytest.approx(by_hand, abs=1e-5)
    squared = math.log((1 + math.e**2 + math.e**4 + math.e**6) / 4) / 2
    assert LogSumExp(0.5)(FOUR, NORMED).item() == pytest.approx(squared, abs=1e-5)
    assert LogSumExp(0.01)(FOUR, NORMED).item() == pytest.approx(3 - 0.01 * math.log(4), abs=1e-5)  # nearly the highest
    assert LogSumExp(1e3)(FOUR, NORMED).item() == pytest.approx(1.5, abs=1e-3)  # nearly the mean


@pytest.mark.parametrize(("share", "expected"), [(0.01, 3), (0.25, 3), (0.5, 2.5), (1, 1.5)])
def test_top_share_by_hand(share, expected):
    assert TopShare(share)(FOUR, NORMED).item() == expected


def test_gated_attention_by_hand():
    attention, normed = GatedAttention(1), torch.tensor([[[0.0], [1.0], [1.0], [2.0]]])
    assert attention(FOUR, NORMED[..., :1]).item() == pytest.approx(1.5)  # equal tokens: the mean
    for weights in attention.parameters():
        nn.init.zeros_(weights)
    attention.value.weight.data[0], attention.gate.weight.data[0], attention.score.weight.data[0, 0] = 1, 3, 2
    scores = [2 * math.tanh(x) / (1 + math.exp(-3 * x)) for x in (0, 1, 1, 2)]
    weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    expected = sum(weight * logit for weight, logit in zip(weights, range(4), strict=True))
    assert attention(FOUR, normed).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pool", pooling.PATCH_POOLS)
def test_patches_that_all_say_the_same_say_just_that_however_many_they_are(pool):
    module = pooling.pooling_of(pool, 5, temperature=0.3, share=0.2)
    for n_patches in (1, 7, 400):
        logit, normed = torch.full((2, n_patches), -1.7), torch.randn(2, n_patches, 5)
        assert_close(module(logit, normed), torch.full((2,), -1.7), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", pooling.PATCH_POOLS)
def test_the_order_of_patches_tells_nothing(pool):
    module = pooling.pooling_of(pool, 5, temperature=0.3, share=0.2)
    logit, normed, order = torch.randn(2, 9), torch.randn(2, 9, 5), torch.randperm(9)
    assert_close(module(logit[:, order], normed[:, order]), module(logit, normed))


def test_tokens_that_are_pooled_before_the_head_need_no_pooling_of_logits():
    assert [pooling.pooling_of(pool, 5, temperature=1, share=1) for pool in pooling.TOKEN_POOLS] == [None, None]


@pytest.mark.parametrize("hidden", [0, 3])
def test_contributions_add_up_to_the_logit_of_the_mean_token(hidden):
    torch.manual_seed(0)
    norm, patches = nn.LayerNorm(6), 3 * torch.randn(4, 9, 6) + 1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    head = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 1)) if hidden else nn.Linear(6, 1)
    found = contributions(patches, norm, head)
    assert found.shape == (4, 9)
    assert found.std() > 0.1
    assert_close(found.mean(dim=1), head(norm(patches.mean(dim=1))).squeeze(1))


def test_contributions_by_hand():
    # Tokens (2, 0) and (0, 0): the mean (1, 0) has deviation 1/2, so the first gives (1, -1) / 0.5 and the second nothing.
    patches, norm, head = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]), nn.LayerNorm(2, eps=0), nn.Linear(2, 1)
    head.weight.data, head.bias.data = torch.tensor([[3.0, 1.0]]), torch.tensor([0.5])
    assert_close(contributions(patches, norm, head), torch.tensor([[3 * 2 - 2 + 0.5, 0.5]]))
