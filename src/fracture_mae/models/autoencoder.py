"""The masked autoencoder (MAE): building, loading, saving, masks, loss and reconstruction.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, in the implementation of Hugging Face transformers.
"""

import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from fracture_mae.data.reading.preprocessing import PREPROCESSINGS
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import authors, hub
from fracture_mae.models.attention import AUTO, use_attention
from fracture_mae.models.pixels import IMAGENET, Normalisation
from fracture_mae.models.positions import (
    check_position_embeddings,
    interpolate_positions,
    position_embeddings_of,
    sincos_positions,
)
from fracture_mae.models.vit import as_multiplied, encode, patches_of

# Random starts for demos, tests and machines that reach no hub. One channel: an X-ray is grey.
PRESETS = {
    "vit-mae-nano": {"patch": 16, "encoder": (96, 4, 3), "decoder": (64, 2, 2)},
    "vit-mae-tiny": {"patch": 16, "encoder": (192, 12, 3), "decoder": (128, 4, 4)},
    "vit-mae-small": {"patch": 16, "encoder": (384, 12, 6), "decoder": (256, 4, 8)},
}


# What a network began as.
RANDOM, WEIGHTS = "random", "weights"
_FLAT = 1e-6  # added to a patch's variance, as by He et al.
_SMALLEST_IMAGE = 32  # pixels, as of the option image_size
PREPROCESSOR = "preprocessor_config.json"
_PREPROCESS = "xray_preprocess"  # key there, beside those of transformers


class Mae(nn.Module):
    """An MAE together with the normalisation it was made with; takes grey pixels in [0, 1].

    Args:
        source: where it comes from, to be told.
        start: what it began as, "random" numbers or "weights" that were pretrained elsewhere, whatever training it had here since.
        decoder_is_new: whether the decoder alone has random weights, since the checkpoint holds an encoder only.
        preprocess: how X-rays become the squares that it takes, see `data.reading.preprocessing`; None: it does not say.
    """

    def __init__(
        self,
        network: ViTMAEForPreTraining,
        normalisation: Normalisation,
        source: str,
        *,
        start: str = RANDOM,
        decoder_is_new: bool = False,
        preprocess: str | None = None,
    ):
        super().__init__()
        use_attention(network, AUTO)
        self.network = network
        self.normalisation = normalisation
        self.source = source
        self.start = start
        self.decoder_is_new = decoder_is_new
        self.preprocess = preprocess

    @property
    def n_patches(self) -> int:
        """Patches of an image: L = (image_size / patch_size)²."""
        return self.network.vit.embeddings.patch_embeddings.num_patches

    @property
    def image_size(self) -> int:
        return self.network.config.image_size

    @property
    def norm_pix_loss(self) -> bool:
        """Whether patches are predicted after each was normalised by its own mean and deviation (He et al., section 4.1)."""
        return self.network.config.norm_pix_loss

    @norm_pix_loss.setter
    def norm_pix_loss(self, norm_pix_loss: bool) -> None:
        self.network.config.norm_pix_loss = norm_pix_loss

    def forward(
        self, pixels: torch.Tensor, noise: torch.Tensor, mask_ratio: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict every patch from the visible ones.

        Args:
            pixels: grey [B, 1, H, W], float in [0, 1].
            noise: [B, L]; the patches with the lowest values stay visible.
            mask_ratio: share of patches that are hidden.

        Returns:
            prediction and target [B, L, patch² · C] in the units that the network predicts, which are those of its normalised input,
            or with `norm_pix_loss` each patch's own, see `normalised_patches`; mask [B, L] (0 is visible, 1 is hidden).

        Raises:
            FractureMaeError: no patch would stay visible.
        """
        n_visible = int(self.n_patches * (1 - mask_ratio))
        if n_visible < 1:
            raise FractureMaeError(
                f"a mask ratio of {mask_ratio} hides all {self.n_patches} patches of an image; at least one must stay visible. Take a "
                "smaller ratio or a larger --image-size."
            )
        patches = self.patches(pixels)
        shuffled = noise.argsort(dim=1)
        restore = shuffled.argsort(dim=1)
        encoded = encode(self.network.vit, patches, shuffled[:, :n_visible], lowered=True)
        prediction = self._decode(encoded, restore)
        target = normalised_patches(patches) if self.norm_pix_loss else patches
        return prediction.float(), target, (restore >= n_visible).float()

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Grey [B, 1, H, W] in [0, 1] → patches [B, L, patch² · C], in units of the network's normalised input."""
        return patches_of(self.normalisation.apply(pixels), self.network.config.patch_size)

    def in_input_units(self, prediction: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """What `forward` predicts, in units of the network's normalised input.

        With `norm_pix_loss` only the true patches have the mean and deviation that this takes, of hidden ones too; so it is done in
        the demonstration of He et al. A figure of it, or an error, owes these two numbers of every patch to the X-ray itself.

        Args:
            patches: the true ones, see `patches`.
        """
        if not self.norm_pix_loss:
            return prediction
        mean, deviation = _mean_and_deviation(patches)
        return prediction * deviation + mean

    def _decode(self, encoded: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
        """Encoded tokens [B, 1 + K, hidden_size] and each patch's place among the shuffled ones [B, L] → [B, L, patch² · C]."""
        decoder = self.network.decoder
        seen = decoder.decoder_embed(encoded)
        n_images, n_seen, width = seen.shape
        hidden = decoder.mask_token.to(seen.dtype).expand(n_images, restore.shape[1] + 1 - n_seen, -1)
        patches = torch.cat([seen[:, 1:], hidden], dim=1).gather(1, restore.unsqueeze(2).expand(-1, -1, width))
        tokens = as_multiplied(torch.cat([seen[:, :1], patches], dim=1) + decoder.decoder_pos_embed)
        for layer in decoder.decoder_layers:
            tokens = layer(tokens)
        return decoder.decoder_pred(decoder.decoder_norm(tokens))[:, 1:]

    def to_pixels(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches [B, L, patch² · C] in units of the network's normalised input → grey pixels [B, 1, H, W], clipped to [0, 1]."""
        return self.normalisation.invert(self.network.unpatchify(patches)).clamp(0, 1)

    def mask_to_pixels(self, mask: torch.Tensor) -> torch.Tensor:
        """Patch mask [B, L] → pixel mask [B, 1, H, W] of 0 (visible) and 1 (hidden)."""
        side = self.image_size // self.network.config.patch_size
        grid = mask.view(-1, 1, side, side).float()
        return nn.functional.interpolate(grid, scale_factor=self.network.config.patch_size, mode="nearest")


def normalised_patches(patches: torch.Tensor) -> torch.Tensor:
    """Patches [B, L, patch² · C], each less its own mean and by its own deviation, channels together."""
    mean, deviation = _mean_and_deviation(patches)
    return (patches - mean) / deviation


def _mean_and_deviation(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each patch, [B, L, 1] each; the variance has N - 1, as in transformers' ViTMAE and the code of He et al."""
    return patches.mean(dim=-1, keepdim=True), (patches.var(dim=-1, keepdim=True) + _FLAT).sqrt()


def squared_error(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, region: str) -> torch.Tensor:
    """Mean squared error of each image over its hidden patches (`region="masked"`) or all (`"all"`).

    Args:
        prediction, target: [B, L, patch² · C].
        mask: [B, L], 1 is hidden.

    Returns:
        [B], in squared units of the prediction.
    """
    error = nn.functional.mse_loss(prediction.expand_as(target), target, reduction="none")
    # Not a mean, whose gradient would be written out for each value.
    per_patch = error.sum(dim=-1) / target.shape[-1]  # [B, L]
    if region == "all":
        return per_patch.mean(dim=1)
    return (per_patch * mask).sum(dim=1) / mask.sum(dim=1)


def mean_of_visible(target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The simplest reconstruction: every patch is the mean of the visible pixels of its image.

    Args and result: as in `Mae.forward`; the result broadcasts to [B, L, patch² · C].
    """
    visible = (1 - mask).unsqueeze(-1)  # [B, L, 1]
    total = (target * visible).sum(dim=(1, 2), keepdim=True)
    return total / (visible.sum(dim=(1, 2), keepdim=True) * target.shape[-1])


def noise_of(contents: Iterable[str], n_patches: int, seed: int) -> torch.Tensor:
    """Noise that fixes the mask of each X-ray by its content: float32 [B, n_patches], always the same for the same seed.

    Args:
        contents: the files' sha256, in hexadecimal.
    """
    rows = [
        np.random.default_rng([seed, int(sha256[:16], 16)]).random(n_patches, dtype=np.float32) for sha256 in contents
    ]
    return torch.from_numpy(np.stack(rows))


def load(model: str, *, image_size: int | None = None, seed: int = 0) -> Mae:
    """An MAE from a preset (random start), a local folder, the Hugging Face hub, or a file of He et al.'s own code.

    Where a checkpoint holds an encoder alone, the decoder gets random weights (`Mae.decoder_is_new`).

    Args:
        model: name of a preset, path of a folder that `save` or `save_pretrained` wrote, hub name, or path of a .pth file.
        image_size: side of the images [pixels]; where it differs from a checkpoint's own, position embeddings are interpolated.
            None: the checkpoint's own, or 224.
        seed: of random weights.

    Raises:
        FractureMaeError: the model is not to be had, is no ViTMAE, or cannot take this image size.
    """
    if model in PRESETS:
        config = _preset_config(model, image_size or 224)
        check_image_size(model, config.image_size, config.patch_size)
        return Mae(random_start(config, seed), Normalisation(), f"preset {model}, random weights")
    model = os.path.expanduser(model)
    network, has_decoder = _read(model)
    if not has_decoder:
        network.decoder.load_state_dict(random_start(network.config, seed).decoder.state_dict())
    check_position_embeddings(network, model)
    for positions in position_embeddings_of(network):
        positions.requires_grad_(False)  # as in a network that was not loaded; transformers forgets it
    normalisation = _normalisation_of(model, network.config.num_channels)
    network = _at_image_size(network, image_size, model)
    return Mae(
        network, normalisation, model, start=WEIGHTS, decoder_is_new=not has_decoder, preprocess=_preprocess_of(model)
    )


def _read(model: str) -> tuple[ViTMAEForPreTraining, bool]:
    """The network, and whether its decoder is the checkpoint's."""
    if not authors.is_file(model):
        network, has_decoder = hub.load_with_or_without("decoder", ViTMAEForPreTraining, model, PRESETS)
        check_image_size(model, network.config.image_size, network.config.patch_size)
        return network, has_decoder
    config, state = authors.read(model)
    network = ViTMAEForPreTraining(config)
    return network, not network.load_state_dict(state, strict=False).missing_keys


def _normalisation_of(model: str, num_channels: int) -> Normalisation:
    return IMAGENET if authors.is_file(model) else load_normalisation(model, num_channels)


def _preprocess_of(model: str) -> str | None:
    return None if authors.is_file(model) else load_preprocess(model)


def save(mae: Mae, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json, as transformers reads them; no decoder that is not trained."""
    (mae.network.vit if mae.decoder_is_new else mae.network).save_pretrained(folder)
    size = {"height": mae.image_size, "width": mae.image_size}
    mean, std = list(mae.normalisation.mean), list(mae.normalisation.std)
    ViTImageProcessorPil(size=size, image_mean=mean, image_std=std).save_pretrained(folder)
    described = json.loads((folder / PREPROCESSOR).read_text(encoding="utf-8"))
    described[_PREPROCESS] = mae.preprocess
    (folder / PREPROCESSOR).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_normalisation(model: str, num_channels: int) -> Normalisation:
    """The mean and standard deviation in a checkpoint's preprocessor_config.json, or ImageNet's where it has none."""
    if hub.fetch_file(model, PREPROCESSOR, PRESETS) is None:
        return IMAGENET if num_channels == 3 else Normalisation()
    processor = hub.fetch(partial(ViTImageProcessorPil.from_pretrained, model), model, PRESETS)
    return Normalisation(tuple(processor.image_mean), tuple(processor.image_std))


def load_preprocess(model: str) -> str | None:
    """The preprocessing of X-rays that `save` noted in a checkpoint's preprocessor_config.json; None where it notes none.

    Raises:
        FractureMaeError: this version knows no such preprocessing.
    """
    file = hub.fetch_file(model, PREPROCESSOR, PRESETS)
    return (
        None if file is None else known_preprocess(json.loads(file.read_text(encoding="utf-8")).get(_PREPROCESS), model)
    )


def known_preprocess(name: object, model: object) -> str | None:
    """The preprocessing that a model states, or None where it states none; an error if this version does not know it."""
    if name is None or name in PREPROCESSINGS:
        return name
    raise FractureMaeError(
        f"{model} was made with X-rays preprocessed by {name!r}, but known are {', '.join(PREPROCESSINGS)}. Use the version of this "
        "project that made it, or take another model."
    )


def random_start(config: ViTMAEConfig, seed: int) -> ViTMAEForPreTraining:
    """A ViTMAE with random weights that can learn.

    transformers leaves the decoder's positions and mask token of a model built from a config at zero, and freezes the positions;
    such a model never learns more than an image's mean. All that MAE's own initialisation sets is set here, as in He et al.'s
    code: sine-cosine positions (width in the first half), CLS and mask token N(0, 0.02), patch projection and linear layers
    Xavier-uniform.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ViTMAEForPreTraining(config)
        projection = network.vit.embeddings.patch_embeddings.projection
        nn.init.xavier_uniform_(projection.weight.data.view(projection.out_channels, -1))
        nn.init.normal_(network.vit.embeddings.cls_token.data, std=0.02)
        nn.init.normal_(network.decoder.mask_token.data, std=0.02)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight.data)
                nn.init.zeros_(layer.bias.data)
        # Unlike He et al.: the first predictions are near the mean, not noise that the first hundred steps must unlearn.
        nn.init.normal_(network.decoder.decoder_pred.weight.data, std=0.02)
    for positions in position_embeddings_of(network):
        side = int((positions.shape[1] - 1) ** 0.5)
        positions.data.copy_(sincos_positions(side, positions.shape[2]))
    return network


def _preset_config(name: str, image_size: int) -> ViTMAEConfig:
    preset = PRESETS[name]
    (width, depth, heads), (decoder_width, decoder_depth, decoder_heads) = preset["encoder"], preset["decoder"]
    return ViTMAEConfig(
        image_size=image_size,
        patch_size=preset["patch"],
        num_channels=1,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        decoder_hidden_size=decoder_width,
        decoder_num_hidden_layers=decoder_depth,
        decoder_num_attention_heads=decoder_heads,
        decoder_intermediate_size=4 * decoder_width,
    )


def check_image_size(name: str, image_size: object, patch_size: object) -> None:
    """Refuse images that do not fall into a model's patches.

    Args:
        image_size, patch_size: sides [pixels]; of a config that somebody else wrote, perhaps pairs.
    """
    if not (isinstance(image_size, int) and isinstance(patch_size, int)):
        raise FractureMaeError(
            f"{name} takes images of {image_size} in patches of {patch_size}; only squares are known."
        )
    if image_size % patch_size:
        below = image_size // patch_size * patch_size
        multiple = below if below >= _SMALLEST_IMAGE else -(-_SMALLEST_IMAGE // patch_size) * patch_size
        raise FractureMaeError(
            f"images of {image_size} pixels do not fall into the patches of {patch_size} pixels that {name} takes: leave --image-size "
            f"at auto, or choose a multiple, such as {multiple}."
        )


def _at_image_size(network: ViTMAEForPreTraining, image_size: int | None, name: str) -> ViTMAEForPreTraining:
    """The same network for another image size, its position embeddings interpolated (bicubic)."""
    config = network.config
    if image_size in (None, config.image_size):
        return network
    check_image_size(name, image_size, config.patch_size)
    state = network.state_dict()
    for name in ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"):
        state[name] = interpolate_positions(state[name], image_size // config.patch_size)
    config.image_size = image_size
    resized = ViTMAEForPreTraining(config)
    resized.load_state_dict(state)
    return resized
