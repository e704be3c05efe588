"""A fractured / not fractured classifier on the encoder of a masked autoencoder."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ViTMAEConfig, ViTMAEModel

from fracture_mae.data.reading.preprocessing import LETTERBOX
from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.metrics.decision import Decision
from fracture_mae.models.autoencoder import Mae, known_preprocess
from fracture_mae.models.pixels import Normalisation
from fracture_mae.models.vit import encode, is_decayed, patches_of


class FractureClassifier(nn.Module):
    """Encoder, pooling, layer norm and a head of one logit; takes grey pixels in [0, 1].

    Args:
        encoder: a ViTMAEModel; but for `patch_dropout`, all patches are shown to it.
        normalisation: of the encoder's input.
        pool: "mean" of the patch tokens, or "cls".
        drop_path: chance that the last layer is skipped for an X-ray while training, rising linearly from 0 at the first layer
            (Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016).
        patch_dropout: share of patches that are left out while training, which regularises and saves their time (Liu et al.,
            "PatchDropout", WACV 2023).
        hidden: width of a hidden layer (ReLU) in the head; 0: the head is linear.
        preprocess: how X-rays become the squares that it takes, see `data.reading.preprocessing`.

    Raises:
        FractureMaeError: no patch would stay.
    """

    def __init__(
        self,
        encoder: ViTMAEModel,
        normalisation: Normalisation,
        *,
        pool: str = "mean",
        drop_path: float = 0.0,
        patch_dropout: float = 0.0,
        hidden: int = 0,
        preprocess: str = LETTERBOX,
    ):
        super().__init__()
        n_patches = encoder.embeddings.patch_embeddings.num_patches
        if int(n_patches * (1 - patch_dropout)) < 1:
            raise FractureMaeError(
                f"--patch-dropout {patch_dropout} leaves none of the {n_patches} patches of an image; at least one must stay. Take a "
                "smaller share or a larger --image-size."
            )
        self.encoder = encoder
        self.patch_dropout = patch_dropout
        self.normalisation = normalisation
        self.preprocess = preprocess
        self.pool = pool
        self.hidden = hidden
        width = encoder.config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.head = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1)) if hidden else nn.Linear(width, 1)
        )
        for layer in self.linear_layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.drop_rates = torch.linspace(0, drop_path, len(encoder.layers)).tolist()

    @property
    def image_size(self) -> int:
        return self.encoder.config.image_size

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The linear layers of the head, the one that reads the features first."""
        return [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)]

    @property
    def n_patches(self) -> int:
        return self.encoder.embeddings.patch_embeddings.num_patches

    @property
    def n_draws(self) -> int:
        """Random numbers that an X-ray needs while training: one for each patch, then one for each layer."""
        return self.n_patches + len(self.drop_rates)

    def features(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> torch.Tensor:
        """Grey [B, 1, H, W] in [0, 1] → pooled features [B, hidden_size].

        Args:
            chance: float32 [B, n_draws] in [0, 1), decides while training which patches and layers are left out; None: drawn here.
        """
        if self.training and chance is None:
            chance = torch.rand(len(pixels), self.n_draws, device=pixels.device)
        patches = patches_of(self.normalisation.apply(pixels), self.encoder.config.patch_size)
        skip = (self.drop_rates, chance[:, self.n_patches :]) if self.training else None
        tokens = encode(self.encoder, patches, self._shown(chance), skip)
        return tokens[:, 1:].mean(dim=1) if self.pool == "mean" else tokens[:, 0]

    def _shown(self, chance: torch.Tensor | None) -> torch.Tensor | None:
        """Numbers of the patches to show, int64 [B, K]; None: all of them."""
        if not (self.training and self.patch_dropout):
            return None
        return chance[:, : self.n_patches].argsort(dim=1)[:, : int(self.n_patches * (1 - self.patch_dropout))]

    def forward(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> torch.Tensor:
        """Grey [B, 1, H, W] in [0, 1] → logits [B], float32; positive means fractured. `chance` as in `features`."""
        return self.head(self.norm(self.features(pixels, chance))).squeeze(1).float()


def from_mae(
    mae: Mae, *, pool: str, drop_path: float = 0.0, patch_dropout: float = 0.0, hidden: int = 0, seed: int = 0
) -> FractureClassifier:
    """A classifier on the encoder of `mae`, which it takes over; the head starts at random from `seed`.

    Position embeddings, fixed in the autoencoder, are trained here, as by He et al.
    """
    mae.network.vit.embeddings.position_embeddings.requires_grad_(True)
    options = {"pool": pool, "drop_path": drop_path, "patch_dropout": patch_dropout, "hidden": hidden}
    options["preprocess"] = mae.preprocess or LETTERBOX
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FractureClassifier(mae.network.vit, mae.normalisation, **options)


def freeze_encoder(classifier: FractureClassifier) -> None:
    """Leave only the layer norm and the head trainable."""
    classifier.encoder.requires_grad_(False)


def layerwise_groups(
    classifier: FractureClassifier, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict]:
    """Parameter groups for an optimizer: the deeper a layer lies below the head, the smaller its learning rate.

    The head has `learning_rate`, the last of N layers `learning_rate · layer_decay`, the patch embedding
    `learning_rate · layer_decay^(N + 1)`, as in He et al. (MAE, appendix A.2; introduced by Clark et al., ELECTRA, 2020). Biases,
    norms, tokens and position embeddings are not decayed.
    """
    n_layers = len(classifier.encoder.layers)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((_depth(name, n_layers), is_decayed(name, parameter)), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (n_layers + 1 - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _depth(name: str, n_layers: int) -> int:
    """0 for the embeddings, 1 … N for the layers, N + 1 for what lies behind them."""
    if name.startswith("encoder.embeddings"):
        return 0
    if name.startswith("encoder.layers."):
        return int(name.split(".")[2]) + 1
    return n_layers + 1


def save(classifier: FractureClassifier, decision: Decision, folder: Path) -> None:
    """Write config.json (the encoder's), classifier.json (all else) and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    classifier.encoder.config.save_pretrained(folder)
    described = {
        "pool": classifier.pool,
        "hidden": classifier.hidden,
        "preprocess": classifier.preprocess,
        "normalisation": asdict(classifier.normalisation),
        "decision": asdict(decision),
    }
    (folder / "classifier.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    save_file(
        {name: value.contiguous() for name, value in classifier.state_dict().items()}, folder / "model.safetensors"
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
    encoder = ViTMAEModel(ViTMAEConfig.from_pretrained(folder))
    hidden = described.get("hidden", 0)  # not written before heads could have a hidden layer
    preprocess = known_preprocess(described.get("preprocess"), f"the classifier in {folder}") or LETTERBOX
    classifier = FractureClassifier(
        encoder, normalisation, pool=described["pool"], hidden=hidden, preprocess=preprocess
    )
    classifier.load_state_dict(load_file(folder / "model.safetensors"))
    return classifier.eval(), Decision.restored(described["decision"])
