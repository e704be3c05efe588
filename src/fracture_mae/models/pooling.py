"""From what each patch says to what the X-ray says.

An X-ray is fractured where one of its patches is, and its label does not say which one: multiple-instance learning (Dietterich,
Lathrop & Lozano-Pérez, "Solving the multiple instance problem with axis-parallel rectangles", Artificial Intelligence 89, 1997; of
X-rays Wang et al., "ChestX-ray8", CVPR 2017). A head gives every patch a logit of its own, and the X-ray's logit is a pooling of them.
None of the poolings hangs on how many patches there are: X-rays whose patches all say the same say just that.
"""

import math

import torch
from torch import nn

TOKEN_POOLS = ("mean", "cls")  # of tokens, before the head reads them
PATCH_POOLS = ("lse", "topk", "attention")  # of the logits that the head gives to patches
POOLS = (*TOKEN_POOLS, *PATCH_POOLS)

# What the map of an X-ray is made of, in words for a figure.
MEANING = dict.fromkeys(PATCH_POOLS, "Logit of the patch") | {
    "mean": "What the patch adds to the logit",
    "cls": "Logit of the patch, by a head made for CLS",
}

_GATE_WIDTH = 128  # as Ilse et al. have it


class LogSumExp(nn.Module):
    """A smooth maximum, T · log(mean(exp(logit / T))) (Pinheiro & Collobert, "From image-level to pixel-level labeling with
    convolutional networks", CVPR 2015, where 1 / T is r).

    Args:
        temperature: T, above 0; near 0 it is the highest logit, far above the logits their mean.
    """

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, logit: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """Patch logits [B, K] → [B]; tokens are not looked at."""
        pooled = torch.logsumexp(logit / self.temperature, dim=1) - math.log(logit.shape[1])
        return self.temperature * pooled


class TopShare(nn.Module):
    """The mean of the highest logits (Zhu et al., "Deep multi-instance networks with sparse label assignment for whole mammogram
    classification", MICCAI 2017).

    Args:
        share: of the patches that count, in (0, 1]; at least one patch counts.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, logit: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """Patch logits [B, K] → [B]; tokens are not looked at."""
        return logit.topk(max(1, round(self.share * logit.shape[1])), dim=1).values.mean(dim=1)


class GatedAttention(nn.Module):
    """The mean weighed by attention, which the tokens themselves decide: softmax over patches of w · (tanh(V h) ⊙ sigmoid(U h)) (Ilse,
    Tomczak & Welling, "Attention-based deep multiple instance learning", ICML 2018, equations 7 and 9).

    With a linear head it is the same to weigh tokens, as they do, or logits.

    Args:
        width: of a token, d.
    """

    def __init__(self, width: int):
        super().__init__()
        self.value = nn.Linear(width, _GATE_WIDTH)
        self.gate = nn.Linear(width, _GATE_WIDTH)
        self.score = nn.Linear(_GATE_WIDTH, 1, bias=False)  # softmax would take no notice of it
        for layer in (self.value, self.gate, self.score):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        for layer in (self.value, self.gate):
            nn.init.zeros_(layer.bias)

    def forward(self, logit: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """Patch logits [B, K] of layer-normed tokens [B, K, d] → [B]."""
        score = self.score(self.value(normed).tanh() * self.gate(normed).sigmoid()).squeeze(2)
        return (score.float().softmax(dim=1) * logit).sum(dim=1)


def pooling_of(pool: str, width: int, *, temperature: float, share: float) -> nn.Module | None:
    """What pools the logits of patches; None where tokens are pooled in their place.

    Args:
        pool: one of `POOLS`.
        width: of a token.
        temperature: of "lse"; share: of "topk".
    """
    match pool:
        case "lse":
            return LogSumExp(temperature)
        case "topk":
            return TopShare(share)
        case "attention":
            return GatedAttention(width)
    return None


def contributions(patches: torch.Tensor, norm: nn.LayerNorm, head: nn.Module) -> torch.Tensor:
    """What each patch adds to the logit that a head reads from the mean of their tokens: [B, K], whose mean over patches is that logit.

    Class activation mapping (Zhou et al., "Learning deep features for discriminative localization", CVPR 2016). The layer norm is
    taken with the deviation of the mean token, and a hidden layer with the units that the mean token wakes: both are then linear.

    Args:
        patches: tokens [B, K, d].
        head: linear, or linear, ReLU, linear.
    """
    mean = patches.mean(dim=1, keepdim=True)
    deviation = (mean.var(dim=2, unbiased=False, keepdim=True) + norm.eps).sqrt()
    normed = (patches - patches.mean(dim=2, keepdim=True)) / deviation * norm.weight + norm.bias
    if isinstance(head, nn.Linear):
        return head(normed).squeeze(2)
    first, _, last = head
    return last(first(normed) * (first(norm(mean)) > 0)).squeeze(2)
