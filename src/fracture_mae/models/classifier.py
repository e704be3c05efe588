"""A fractured / not fractured classifier on an encoder: that of a masked autoencoder, or any other that transformers loads."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fracture_mae.data.reading.preprocessing import LETTERBOX
from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import encoders
from fracture_mae.models.autoencoder import Mae, known_preprocess
from fracture_mae.models.encoders import Encoder, MaeEncoder, Tokens
from fracture_mae.models.pixels import Normalisation
from fracture_mae.models.pooling import contributions, pooling_of

# Names of the encoder's weights here and in files, where those of an encoder's own checkpoint stand behind the word.
_NETWORK, _STORED = "encoder.network.", "encoder."


class FractureClassifier(nn.Module):
    """Encoder, pooling, layer norm and a head of one logit; takes grey pixels in [0, 1].

    Args:
        encoder: which makes tokens of pictures.
        pool: what the head reads: the "mean" of the patch tokens, "cls", or each patch token by itself, where the logit of the X-ray is
            a pooling of those of its patches, "lse", "topk" or "attention", see `pooling`.
        pool_temperature: of "lse"; pool_share: of "topk".
        hidden: width of a hidden layer (ReLU) in the head; 0: the head is linear.
        preprocess: how X-rays become the squares that it takes, see `data.reading.preprocessing`.

    Attributes:
        bf16: whether autocast may compute answers in bf16, too, as it may in training; else they are computed in fp32.

    Raises:
        FractureMaeError: the encoder has no token to be pooled so.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        pool: str = "mean",
        pool_temperature: float = 0.05,
        pool_share: float = 0.1,
        hidden: int = 0,
        preprocess: str = LETTERBOX,
    ):
        super().__init__()
        if pool == "cls" and not encoder.has_cls:
            raise FractureMaeError(
                f"--pool cls: {encoder.named} has no CLS token. Take --pool mean, the mean of its patch tokens."
            )
        self.encoder = encoder
        self.preprocess = preprocess
        self.bf16 = True
        self.pool = pool
        self.hidden = hidden
        self.norm = nn.LayerNorm(encoder.width)
        self.head = (
            nn.Sequential(nn.Linear(encoder.width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            if hidden
            else nn.Linear(encoder.width, 1)
        )
        for layer in self.linear_layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.pool_options = {"pool_temperature": pool_temperature, "pool_share": pool_share}
        self.pooling = pooling_of(pool, encoder.width, temperature=pool_temperature, share=pool_share)

    @property
    def image_size(self) -> int:
        return self.encoder.image_size

    @property
    def normalisation(self) -> Normalisation:
        return self.encoder.normalisation

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells whose tokens are pooled."""
        return self.encoder.grid

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The linear layers of the head, the one that reads the features first."""
        return [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)]

    @property
    def n_draws(self) -> int:
        """Random numbers that an X-ray needs while training."""
        return self.encoder.n_draws

    def tokens(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> Tokens:
        """Grey [B, 1, H, W] in [0, 1] → the encoder's tokens.

        Args:
            chance: float32 [B, n_draws] in [0, 1), decides while training which patches and layers are left out; None: drawn here.
        """
        return self.encoder(pixels, chance)

    def features(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> torch.Tensor:
        """Grey [B, 1, H, W] in [0, 1] → the CLS token for pool "cls", else the mean of the patch tokens: [B, width]; `chance` as in
        `tokens`."""
        with self._arithmetic(pixels):
            return self._pooled(self.tokens(pixels, chance))

    def forward(
        self, pixels: torch.Tensor, chance: torch.Tensor | None = None, *, with_patches: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Grey [B, 1, H, W] in [0, 1] → logits [B], float32; positive means fractured. `chance` as in `tokens`.

        Args:
            with_patches: also what each patch says, float32 [B, K], see `places`, and which patches these are, see `Tokens.shown`.
        """
        with self._arithmetic(pixels):
            return self._read(self.tokens(pixels, chance), with_patches)

    def with_features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Grey [B, 1, H, W] in [0, 1] → logits [B] as in `forward`, and features [B, width], both float32, by one pass."""
        with self._arithmetic(pixels):
            tokens = self.tokens(pixels)
            return self._read(tokens, False), self._pooled(tokens).float()

    def _arithmetic(self, pixels: torch.Tensor) -> AbstractContextManager:
        """That of autocast, or fp32 where answers are to be computed in nothing less."""
        is_free = self.training or self.bf16
        return nullcontext() if is_free else torch.autocast(pixels.device.type, enabled=False)

    def _read(
        self, tokens: Tokens, with_patches: bool
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What the head says of tokens, see `forward`."""
        if self.pooling is None:
            logit = self.head(self.norm(self._pooled(tokens))).squeeze(1).float()
            return (logit, self._asked_patch_by_patch(tokens.patches), tokens.shown) if with_patches else logit
        normed = self.norm(tokens.patches)
        patches = self.head(normed).squeeze(2).float()
        logit = self.pooling(patches, normed)
        return (logit, patches, tokens.shown) if with_patches else logit

    def places(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Grey [B, 1, H, W] in [0, 1] → logits [B] as in `forward`, and what each patch says [B, rows, columns], both float32.

        That is what a map of the X-ray is made from: where the head reads patches, the logit of each, and where it reads their mean,
        what each adds to that. A head that reads CLS was made for no patch; it is asked for each nevertheless. In evaluation mode.
        """
        logit, patches, _ = self(pixels, with_patches=True)
        return logit, patches.view(len(patches), *self.grid)

    def _pooled(self, tokens: Tokens) -> torch.Tensor:
        return tokens.cls if self.pool == "cls" else tokens.patches.mean(dim=1)

    def _asked_patch_by_patch(self, patches: torch.Tensor) -> torch.Tensor:
        """What a head that reads no patch by itself says of each: tokens [B, K, d] → float32 [B, K]."""
        if self.pool == "mean":
            return contributions(patches, self.norm, self.head).float()
        return self.head(self.norm(patches)).squeeze(2).float()


def from_encoder(
    encoder: Encoder, *, drop_path: float = 0.0, patch_dropout: float = 0.0, seed: int = 0, **options: Any
) -> FractureClassifier:
    """A classifier on an encoder, which it takes over; the head starts at random from `seed`.

    Args:
        drop_path, patch_dropout: of the encoder, see `Encoder.regularise`.
        options: of the head, see `FractureClassifier`.
    """
    encoder.regularise(drop_path=drop_path, patch_dropout=patch_dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FractureClassifier(encoder, preprocess=encoder.preprocess or LETTERBOX, **options)


def from_mae(mae: Mae, **options: Any) -> FractureClassifier:
    """A classifier on the encoder of `mae`, which it takes over; options as in `from_encoder`."""
    return from_encoder(MaeEncoder.of(mae), **options)


def freeze_encoder(classifier: FractureClassifier) -> None:
    """Leave only the layer norm and the head trainable."""
    classifier.encoder.requires_grad_(False)


def layerwise_groups(
    classifier: FractureClassifier, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict]:
    """Parameter groups for an optimizer: the deeper a layer lies below the head, the smaller its learning rate.

    The head has `learning_rate`, the last of N layers `learning_rate · layer_decay`, the patch embedding
    `learning_rate · layer_decay^(N + 1)`, as in He et al. (MAE, appendix A.2; introduced by Clark et al., ELECTRA, 2020). Layers
    are the encoder's blocks, see `models.blocks`. Biases, norms, tokens and position embeddings are not decayed.
    """
    encoder = classifier.encoder
    n_layers = len(encoder.blocks)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            if name.startswith(_NETWORK):
                own = name.removeprefix(_NETWORK)
                depth, decays = encoder.depth_of(own), encoder.decays(own, parameter)
            else:
                depth, decays = n_layers + 1, parameter.ndim > 1
            groups.setdefault((depth, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (n_layers + 1 - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def save(classifier: FractureClassifier, decision: Decision, folder: Path) -> None:
    """Write config.json (the encoder's), classifier.json (all else) and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    classifier.encoder.network.config.save_pretrained(folder)
    described = {
        "pool": classifier.pool,
        "pool_options": classifier.pool_options,
        "hidden": classifier.hidden,
        "preprocess": classifier.preprocess,
        "image_size": classifier.image_size,
        "bf16": classifier.bf16,
        "normalisation": asdict(classifier.normalisation),
        "decision": asdict(decision),
    }
    (folder / "classifier.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    state = classifier.state_dict()
    save_file(
        {name.replace(_NETWORK, _STORED): value.contiguous() for name, value in state.items()},
        folder / "model.safetensors",
    )


def load(folder: Path) -> tuple[FractureClassifier, Decision]:
    """What `save` wrote.

    Raises:
        FractureMaeError: the folder holds no classifier, or a damaged one.
    """
    if not (folder / "classifier.json").exists():
        raise FractureMaeError(
            f"{folder} holds no classifier: expected are classifier.json, config.json and model.safetensors, as train_classifier "
            "registers them."
        )
    try:
        return _read(folder)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise FractureMaeError(
            f"the classifier in {folder} is damaged: {first_line(error)}. Expected are classifier.json, config.json and "
            "model.safetensors as train_classifier wrote them. Fetch or register it anew, or take another."
        ) from error


def _read(folder: Path) -> tuple[FractureClassifier, Decision]:
    described = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    normalisation = Normalisation(*(tuple(described["normalisation"][key]) for key in ("mean", "std")))
    # Not written before there were encoders that take another size than their config says.
    encoder = encoders.built(folder, normalisation, described.get("image_size"))
    hidden = described.get("hidden", 0)  # not written before heads could have a hidden layer
    preprocess = known_preprocess(described.get("preprocess"), f"the classifier in {folder}") or LETTERBOX
    pooling = described.get("pool_options", {})  # nor before they could read patches
    options = {"pool": described["pool"], "hidden": hidden, "preprocess": preprocess}
    classifier = FractureClassifier(encoder, **options, **pooling)
    classifier.bf16 = described.get("bf16", False)  # nor before that was tried
    if not isinstance(classifier.bf16, bool):
        raise ValueError(f"bf16 is {classifier.bf16!r}, not true or false")
    stored = load_file(folder / "model.safetensors")
    classifier.load_state_dict({_renamed(name): value for name, value in stored.items()})
    return classifier.eval(), Decision.restored(described["decision"])


def _renamed(name: str) -> str:
    """The name that a weight of a file has here."""
    return _NETWORK + name.removeprefix(_STORED) if name.startswith(_STORED) else name
