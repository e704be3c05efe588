"""Where on an X-ray a classifier sees a fracture, patch by patch.

A head that reads patches says it itself, see `pooling`. A head that reads the mean or the CLS token of a transformer is asked by the
relevance of each patch: attention, weighed by the gradient of the logit, through all layers (Chefer, Gur & Wolf, "Generic
attention-model explainability for interpreting bi-modal and encoder-decoder transformers", ICCV 2021, equations 5 and 6). Other
encoders have no attention between all patches: there it is what each cell adds to the logit (class activation mapping).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, PreTrainedModel

from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.models.encoders.network import FREE_OF_PLACE
from fracture_mae.models.pooling import MEANING

RELEVANCE = "Relevance of the patch to the logit"
_notes = threading.local()  # of each thread, the attention of the layers, from the first one on
_NOTED = f"fracture_mae_noted_{id(_notes)}"  # a served model that carries another version of this module has its own
_one_at_a_time = threading.Lock()


def maps(classifier: FractureClassifier, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey [B, 1, H, W] in [0, 1] → logits [B], and what speaks for a fracture in each patch [B, rows, columns], both float32.

    In evaluation mode; in inference mode or out of it.
    """
    return relevance(classifier, pixels) if is_by_relevance(classifier) else classifier.places(pixels)


def meaning(classifier: FractureClassifier) -> str:
    """What the numbers of its maps are, in words for a figure."""
    return RELEVANCE if is_by_relevance(classifier) else MEANING[classifier.pool]


def is_by_relevance(classifier: FractureClassifier) -> bool:
    """Whether the head reads no patch by itself and every patch attends to every other."""
    encoder = classifier.encoder
    of_all = isinstance(encoder, MaeEncoder) or encoder.network.config.model_type in FREE_OF_PLACE
    return classifier.pooling is None and of_all


def relevance(classifier: FractureClassifier, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [B] and the relevance of each patch to them [B, rows, columns], not below 0; see this module."""
    with torch.inference_mode(False), torch.enable_grad(), _noting(classifier.encoder.network) as layers:
        # What came of inference mode is no part of a graph.
        logit = classifier(pixels.clone().requires_grad_())
        gradients = torch.autograd.grad(logit.sum(), layers)
    n_tokens, n_patches = layers[0].shape[-1], classifier.encoder.n_patches
    relevant = torch.eye(n_tokens, device=logit.device).expand(len(logit), -1, -1)
    for attention, gradient in zip(layers, gradients, strict=True):  # [B, heads, T, T]
        weighed = (attention.detach() * gradient).float().clamp(min=0).mean(dim=1)
        relevant = relevant + weighed @ relevant
    to_patches = relevant[:, :, n_tokens - n_patches :]
    read = to_patches[:, 0] if classifier.pool == "cls" else to_patches[:, n_tokens - n_patches :].mean(dim=1)
    return logit.detach(), read.reshape(-1, *classifier.grid)


@contextmanager
def _noting(network: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Attention of the network's layers while it is asked, from the first layer on."""
    configs = {id(each.config): each.config for each in network.modules() if isinstance(each, PreTrainedModel)}
    with _one_at_a_time:
        before = {key: config._attn_implementation for key, config in configs.items()}
        for config in configs.values():
            config._attn_implementation = _NOTED
        _notes.layers = []
        try:
            yield _notes.layers
        finally:
            del _notes.layers
            for key, config in configs.items():
                config._attn_implementation = before[key]


def _noted_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention, noted; of queries, keys and values [B, heads, T, d]."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    attention = (query @ key.transpose(2, 3) * scaling).softmax(dim=-1)
    if hasattr(_notes, "layers"):  # another thread, meanwhile, only wants its answer
        _notes.layers.append(attention)
    return (attention @ value).transpose(1, 2).contiguous(), attention


AttentionInterface.register(_NOTED, _noted_attention)
