"""How well a masked autoencoder rebuilds X-rays: metrics for each image, and the panels of a figure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from fracture_mae.data.types import XRays
from fracture_mae.metrics import scores
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models.autoencoder import Mae
from fracture_mae.processes import collectives
from fracture_mae.training.batches import in_batches, to_device

# The masked error in units of each patch's own deviation, which the loss of an MAE with norm_pix_loss is in: an MAE that knows nothing
# but each patch's mean comes to 1, patches of one grey aside.
PER_PATCH = "masked_mse_per_patch"


@dataclass(frozen=True)
class Masks:
    """The masks under which a model is judged: the same ones for every model that is given the same values.

    Attributes:
        mask_ratio: share of patches hidden.
        seed: of the fixed masks.
    """

    mask_ratio: float
    seed: int


def masked_errors(
    mae: Mae, xrays: XRays, masks: Masks, *, batch_size: int, accelerator: Accelerator
) -> dict[str, float]:
    """Mean over X-ray files of the squared error on hidden patches, and what share it is of the simplest rebuilding's.

    Several processes share the files, here and in `measure`, and each gets the mean over all.

    Returns:
        masked_mse: in units of the network's normalised input; of an MAE with norm_pix_loss, whose predictions are brought to these
            units by the true patches' own mean and deviation, it is flattered.
        relative_masked_mse: sum of these errors over the sum of those that the mean of the visible pixels makes.
        masked_mse_per_patch: of an MAE with norm_pix_loss alone, in units of each patch's own deviation.
    """
    own, errors = xrays.subset(collectives.share(len(xrays))), []
    for rebuilt in _rebuild(mae, own, masks, batch_size, accelerator):
        errors.append(torch.stack(list(_masked_errors(rebuilt).values()), dim=1))  # [B, 2 or 3]
    whole = [values for part in collectives.gather([each.cpu().numpy() for each in errors]) for values in part]
    masked_mse, reference, *per_patch = np.concatenate(whole).mean(axis=0, dtype=np.float64).tolist()
    found = {"masked_mse": masked_mse, "relative_masked_mse": masked_mse / reference}
    return found | dict(zip([PER_PATCH], per_patch, strict=False))


def measure(mae: Mae, xrays: XRays, masks: Masks, *, batch_size: int, accelerator: Accelerator) -> dict[str, float]:
    """All reconstruction metrics, each the mean over X-ray files.

    Returns:
        masked_mse, relative_masked_mse, masked_mse_per_patch: as `masked_errors` gives them.
        image_mse: squared error over all patches, in units of the network's normalised input.
        psnr [dB], ssim: of the network's output for all patches, pixels in [0, 1].
        composite_psnr [dB], composite_ssim: of the output for hidden patches beside the visible ones as they are.
    """
    own, errors, pictures = xrays.subset(collectives.share(len(xrays))), [], []
    for rebuilt in _rebuild(mae, own, masks, batch_size, accelerator):
        found = _masked_errors(rebuilt)
        found["image_mse"] = mae_model.squared_error(rebuilt.prediction, rebuilt.patches, rebuilt.mask, "all")
        errors.append(pd.DataFrame({name: error.cpu() for name, error in found.items()}))
        pictures.append(_picture_metrics(mae, rebuilt.pixels, rebuilt.prediction, rebuilt.mask))
    rows = [error.join(picture) for error, picture in zip(errors, pictures, strict=True)]
    mean = pd.concat([row for part in collectives.gather(rows) for row in part]).mean().to_dict()
    mean["relative_masked_mse"] = mean["masked_mse"] / mean.pop("simplest_mse")
    return mean


def panels(
    mae: Mae, xrays: XRays, positions: np.ndarray, masks: Masks, accelerator: Accelerator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The four pictures of each chosen X-ray, and its masked MSE in units of the network's normalised input.

    Returns:
        Original, Masked, Reconstruction, Reconstruction + Visible: each [n, H, W] in [0, 1]; and masked MSE [n].
    """
    (found,) = _rebuild(mae, xrays.subset(positions), masks, len(positions), accelerator)
    pixels, hidden, rebuilt = found.pixels, mae.mask_to_pixels(found.mask), mae.to_pixels(found.prediction)
    pictures = {
        "Original": pixels,
        "Masked": pixels * (1 - hidden) + 0.5 * hidden,
        "Reconstruction": rebuilt,
        "Reconstruction + Visible": pixels * (1 - hidden) + rebuilt * hidden,
    }
    error = _masked_errors(found)["masked_mse"]
    return {name: picture.squeeze(1).cpu().numpy() for name, picture in pictures.items()}, error.cpu().numpy()


def choose_examples(xrays: XRays, n: int, seed: int) -> np.ndarray:
    """Positions of `n` different X-rays, half of each class where there are enough, the same for the same seed."""
    first_files = pd.Series(np.arange(len(xrays))).groupby(xrays.group).first().to_numpy()
    shuffled = np.random.default_rng(seed).permutation(first_files)
    label = xrays.table["label"].to_numpy()[shuffled]
    by_class = [shuffled[label == each] for each in np.unique(label)[::-1]]
    interleaved = pd.concat([pd.Series(positions) for positions in by_class]).sort_index(kind="stable")
    return interleaved.to_numpy(dtype=np.int64)[:n]


@dataclass(frozen=True)
class _Rebuilt:
    """A batch of X-rays, rebuilt.

    Attributes:
        pixels: [B, 1, H, W].
        prediction, patches: [B, L, patch² · C], in units of the network's normalised input.
        mask: [B, L], 1 is hidden.
        own: prediction and target in the units of each patch, where the network predicts these; else None.
    """

    pixels: torch.Tensor
    prediction: torch.Tensor
    patches: torch.Tensor
    mask: torch.Tensor
    own: tuple[torch.Tensor, torch.Tensor] | None


def _masked_errors(rebuilt: _Rebuilt) -> dict[str, torch.Tensor]:
    """Mean squared errors over hidden patches, [B] each: the network's, the simplest rebuilding's, the former in units of patches."""
    simplest = mae_model.mean_of_visible(rebuilt.patches, rebuilt.mask)
    compared = {"masked_mse": (rebuilt.prediction, rebuilt.patches), "simplest_mse": (simplest, rebuilt.patches)}
    compared |= {PER_PATCH: rebuilt.own} if rebuilt.own else {}
    return {name: mae_model.squared_error(*pair, rebuilt.mask, "masked") for name, pair in compared.items()}


@torch.inference_mode()
def _rebuild(mae: Mae, xrays: XRays, masks: Masks, batch_size: int, accelerator: Accelerator) -> Iterator[_Rebuilt]:
    to_device(mae, accelerator.device).eval()
    sha256 = xrays.table["sha256"].to_numpy()
    for batch, start in zip(
        in_batches(xrays, batch_size, accelerator.device, f"Rebuilding {xrays.name}"),
        range(0, len(xrays), batch_size),
        strict=True,
    ):
        # A file's mask hangs on its content, so that it is the same whichever files stand beside it.
        contents = sha256[start : start + batch_size]
        noise = mae_model.noise_of(contents, mae.n_patches, masks.seed).to(accelerator.device)
        with accelerator.autocast():
            prediction, target, mask = mae(batch.pixels, noise, masks.mask_ratio)
        patches = mae.patches(batch.pixels)
        own = (prediction, target) if mae.norm_pix_loss else None
        yield _Rebuilt(batch.pixels, mae.in_input_units(prediction, patches), patches, mask, own)


def _picture_metrics(mae: Mae, pixels: torch.Tensor, prediction: torch.Tensor, mask: torch.Tensor) -> pd.DataFrame:
    hidden, rebuilt = mae.mask_to_pixels(mask), mae.to_pixels(prediction)
    composite = pixels * (1 - hidden) + rebuilt * hidden
    original, mask_, rebuilt_, composite_ = (x.squeeze(1).cpu().numpy() for x in (pixels, hidden, rebuilt, composite))
    whole = scores.reconstruction(original, rebuilt_, mask_)[["psnr", "ssim"]]
    together = scores.reconstruction(original, composite_, mask_)[["psnr", "ssim"]]
    return whole.join(together.add_prefix("composite_"))
