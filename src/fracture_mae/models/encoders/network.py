"""Any network of transformers that makes a grid of tokens of a picture: vision transformers, windowed ones, convolutional ones."""

import inspect
import json
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.models.blocks import blocks_of, depths_of
from fracture_mae.models.encoders.tokens import Encoder, Tokens
from fracture_mae.models.pixels import Normalisation

# Kinds whose layers ask a patch's place of the patch itself, so that patches may be left out; others count on all being there.
FREE_OF_PLACE = ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit")
_NOT_DECAYED = ("token", "tokens", "position_embeddings", "relative_position_bias_table", "pos_embed", "logit_scale")
_WITHOUT_SAY = ("_name_or_path", "transformers_version", "architectures", "dtype")


class NetworkEncoder(Encoder):
    """A network whose last hidden state is a grid of cells: [B, tokens before the patches + L, d] or [B, d, rows, columns].

    What its grid is, whether it has a CLS token and which blocks can be skipped is found by showing it a black picture once.

    Batch normalisation keeps the mean and variance of the checkpoint while training, and only its scale and shift are trained: of a
    batch of 32 X-rays, most of them black, they would be noise, and another with each way of sharing a step out over processes.

    Convolutions keep their weights, and so all that they make, with channels last, which processors and GPUs compute sooner.

    Of what a picture is turned into, the last norm counts as in the network's own classifier. Where that norms the mean of the
    tokens, as in BEiT and ConvNeXt, tokens are brought to the scale of that mean, so that their mean is what that classifier reads.

    Args:
        network: with `last_hidden_state` in its output.
        image_size: side of the pictures [pixels]; where it is not the checkpoint's own, position embeddings are interpolated.

    Raises:
        FractureMaeError: the network cannot take such pictures, or gives no grid.
    """

    def __init__(self, network: PreTrainedModel, normalisation: Normalisation, image_size: int, source: str = ""):
        super().__init__(network, normalisation, image_size, source)
        for name, parameter in network.named_parameters():
            if name.endswith("mask_token"):  # nothing is masked, so it would have no gradient
                parameter.requires_grad_(False)
        self._options = self._options_of(network)
        self._blocks = list(blocks_of(network).values())
        self._depths = depths_of(network)
        if any(isinstance(module, nn.Conv2d) for block in self._blocks for module in block.modules()):
            network.to(memory_format=torch.channels_last)
        self._is_last = getattr(getattr(network, "timm_model", None), "output_fmt", "NCHW") == "NHWC"
        self._chance: torch.Tensor | None = None
        self._shown: torch.Tensor | None = None
        self._look()
        for number, block in enumerate(self._blocks):
            block.register_forward_hook(partial(self._skip, number), with_kwargs=True)
        if self.can_leave_out_patches:
            network.embeddings.register_forward_hook(self._leave_out)
            if hasattr(network, "rope_embeddings"):
                network.rope_embeddings.register_forward_hook(self._leave_out_places)

    @property
    def blocks(self) -> list[nn.Module]:
        return self._blocks

    @property
    def can_skip_blocks(self) -> bool:
        return any(self._keeps_shape)

    @property
    def can_leave_out_patches(self) -> bool:
        return self.network.config.model_type in FREE_OF_PLACE

    def regularise(self, *, drop_path: float = 0.0, patch_dropout: float = 0.0) -> None:
        super().regularise(drop_path=drop_path, patch_dropout=patch_dropout)
        # A block that changes the shape of what it reads cannot be left out.
        self.drop_rates = [rate * keeps for rate, keeps in zip(self.drop_rates, self._keeps_shape, strict=True)]

    def train(self, mode: bool = True) -> "NetworkEncoder":
        super().train(mode)
        for name, module in self.network.named_modules():
            # DINOv3 stretches the places of patches at random while training, the same for all pictures of a batch: not asked for.
            if isinstance(module, _BatchNorm) or name == "rope_embeddings":
                module.eval()
        return self

    def forward(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> Tokens:
        if self.training and chance is None:
            chance = torch.rand(len(pixels), self.n_draws, device=pixels.device)
        self._chance = chance[:, self.n_patches :] if self.training else None
        self._shown = shown = self.shown(chance)
        # Both stay until the next pictures come: where activations are computed again in the backward pass, they are asked for again.
        hidden = self._listed(self.network(self.normalisation.apply(pixels), **self._options).last_hidden_state)
        patches, cls = hidden[:, self._n_before :], hidden[:, 0] if self.has_cls else None
        norm = _norm_behind_pooling(self.network)
        if norm is not None:
            patches, cls = as_pooled(patches, norm), None if cls is None else norm(cls)
        return Tokens(patches, cls, shown)

    def depth_of(self, name: str) -> int:
        return self._depths[name]

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and not name.endswith(_NOT_DECAYED)

    def described(self) -> str:
        config = {name: value for name, value in self.network.config.to_dict().items() if name not in _WITHOUT_SAY}
        return f"{self.normalisation} {self.image_size} {json.dumps(config, sort_keys=True, default=str)}"

    def _options_of(self, network: PreTrainedModel) -> dict[str, bool]:
        known = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        resizes = self.image_size != getattr(network.config, "image_size", self.image_size)
        return {"interpolate_pos_encoding": True} if known and resizes else {}

    def _look(self) -> None:
        """Find the grid, the CLS token, the width, and which blocks keep the shape of what they read."""
        shapes: dict[int, tuple[torch.Size, torch.Size]] = {}

        def note(number: int, _: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            shapes[number] = (_read(args, kwargs).shape, _first(output).shape)

        hooks = [
            block.register_forward_hook(partial(note, number), with_kwargs=True)
            for number, block in enumerate(self._blocks)
        ]
        self.eval()
        try:
            # Not in inference mode: what a network keeps of its first picture, such as places, is trained with later.
            with torch.no_grad():
                black = torch.zeros(1, len(self.normalisation.mean), self.image_size, self.image_size)
                hidden = self.network(black, **self._options).last_hidden_state
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError) as error:
            raise FractureMaeError(
                f"{self.source} cannot be shown a picture of {self.image_size} × {self.image_size} pixels: {first_line(error)}. "
                "Leave --image-size at auto, or take another encoder."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        self._keeps_shape = [number in shapes and len(set(shapes[number])) == 1 for number in range(len(self._blocks))]
        self.grid, self._n_before = self._grid_of(hidden)
        self.has_cls = self._n_before > 0
        self.width = self._listed(hidden).shape[2]

    def _grid_of(self, hidden: torch.Tensor) -> tuple[tuple[int, int], int]:
        """Rows and columns, and how many tokens stand before those of patches."""
        if hidden.ndim == 4:
            rows, columns = hidden.shape[1:3] if self._is_last else hidden.shape[2:]
            return (rows, columns), 0
        n_tokens, patch_size = hidden.shape[1], getattr(self.network.config, "patch_size", None)
        side = self.image_size // patch_size if isinstance(patch_size, int) else n_tokens
        if side**2 > n_tokens:  # patches were merged, as Swin does
            side = int(n_tokens**0.5)
        return (side, side), n_tokens - side**2

    def _listed(self, hidden: torch.Tensor) -> torch.Tensor:
        """A last hidden state as tokens [B, L, d]."""
        if hidden.ndim == 3:
            return hidden
        return hidden.flatten(1, 2) if self._is_last else hidden.flatten(2).transpose(1, 2)

    def _skip(self, number: int, _: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        """What the next block reads: where chance says so, what this one read."""
        rate = self.drop_rates[number] if self.drop_rates else 0.0
        if self._chance is None or not rate:
            return None
        read, result = _read(args, kwargs), _first(output)
        kept = self._chance[:, number].view(-1, *[1] * (read.ndim - 1)) >= rate
        mixed = read + (result - read) * kept / (1 - rate)
        return mixed if output is result else (mixed, *output[1:])

    def _leave_out(self, _: nn.Module, __: tuple, tokens: torch.Tensor) -> torch.Tensor | None:
        """Tokens [B, before + L, d] → [B, before + K, d], those of the patches shown, which know their place by now."""
        if self._shown is None:
            return None
        before, patches = tokens[:, : self._n_before], tokens[:, self._n_before :]
        return torch.cat([before, patches.gather(1, self._shown.unsqueeze(2).expand(-1, -1, patches.shape[2]))], dim=1)

    def _leave_out_places(self, _: nn.Module, __: tuple, places: tuple[torch.Tensor, ...]) -> tuple | None:
        """Rotations by place, [L, d / heads] each → [B, 1, K, d / heads]."""
        return None if self._shown is None else tuple(each[self._shown].unsqueeze(1) for each in places)


def as_pooled(patches: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Tokens [B, K, d], moved and scaled, the same for all of a picture, so that their mean is norm(mean); float32."""
    patches = patches.float()
    pooled = patches.mean(dim=1, keepdim=True)  # [B, 1, d]
    centred = patches - pooled.mean(dim=2, keepdim=True)
    scale = (pooled.var(dim=2, correction=0, keepdim=True) + norm.eps).rsqrt()
    return centred * scale * norm.weight + norm.bias


def _norm_behind_pooling(network: PreTrainedModel) -> nn.LayerNorm | None:
    """The norm that the network's own classifier puts behind the mean of the tokens, and the last hidden state lacks."""
    timm = getattr(network, "timm_model", None)
    places = (
        getattr(getattr(network, "pooler", None), "layernorm", None),  # BEiT
        getattr(network, "layernorm", None) if network.config.model_type.startswith("convnext") else None,
        getattr(timm, "fc_norm", None),
        getattr(getattr(timm, "head", None), "norm", None),
    )
    return next((place for place in places if isinstance(place, nn.LayerNorm)), None)


def _read(args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
    """What a block is given: the first of its arguments."""
    return args[0] if args else next(iter(kwargs.values()))


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output
