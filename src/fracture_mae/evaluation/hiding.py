"""Whether maps show what a classifier's answers hang on: what it says once the hottest patches are hidden, or others are.

Occlusion as the check of a map: W. Samek et al., "Evaluating the visualization of what a deep neural network has learned", IEEE TNNLS
28, 2017; hidden by a blur, as by R. Fong and A. Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", ICCV
2017, since a grey patch is something to see by itself. And whether they are of this classifier: maps of one whose weights are random
must be others (J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018).
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator
from scipy.stats import spearmanr
from torch.nn import functional as F

from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.judging import drawn, with_ends
from fracture_mae.evaluation.place import Maps, film_of, maps_of
from fracture_mae.evaluation.prediction import predict_with_maps
from fracture_mae.metrics.place import within
from fracture_mae.metrics.rates import share
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.pixels import to_unit
from fracture_mae.tracking.report import Report
from fracture_mae.training.batches import to_device

_N_XRAYS = 32
_N_OTHERS = 10  # draws of other patches
_HIDDEN = 0.1  # share of the patches on the film


def judge(
    classifier: FractureClassifier, xrays: XRays, split: str, *, seed: int, batch_size: int, accelerator: Accelerator
) -> Report:
    """Of up to 32 X-rays drawn from these, one file of each: table SPLIT/hidden_patches.csv and metrics SPLIT/map/….

    Args:
        seed: by which X-rays, patches and random weights are drawn.
    """
    originals = one_of_each(xrays)
    if not len(originals):
        return Report()
    rng = np.random.default_rng(seed)
    chosen = originals.subset(np.sort(rng.permutation(len(originals))[:_N_XRAYS]))
    options = {"batch_size": batch_size, "accelerator": accelerator}
    maps = maps_of(classifier, chosen, **options)
    table = maps.predictions[["path", "group", "patient"]].assign(**_falls(classifier, maps, rng, accelerator))
    _, of_random = predict_with_maps(_with_random_weights(classifier, seed), maps.xrays, **options)
    alike = [spearmanr(one.ravel(), other.ravel())[0] for one, other in zip(maps.heat, of_random, strict=True)]
    table["alike_at_random"] = np.nan_to_num(alike)  # where a map is the same everywhere
    more = share((table["hottest"] > table["others"]).to_numpy(float), drawn(maps.predictions), np.ones(len(table)))
    ends = {"": more.estimate, "_low": more.low, "_high": more.high}
    metrics = {f"{split}/map/hottest_matter_more{end}": value for end, value in ends.items()}
    metrics |= {f"{split}/map/{name}": float(table[name].mean()) for name in ("hottest", "others", "alike_at_random")}
    return Report(tables={f"{split}/hidden_patches.csv": table.drop(columns="patient")}, metrics=metrics)


def digest(report: Report, split: str) -> str:
    """The figures of `judge` in words; empty where there are none."""
    if f"{split}/hidden_patches.csv" not in report.tables:
        return ""
    named = {name.removeprefix(f"{split}/map/"): value for name, value in report.metrics.items()}
    more = {"estimate": named["hottest_matter_more"], "low": named["hottest_matter_more_low"]}
    more["high"] = named["hottest_matter_more_high"]
    n = len(report.tables[f"{split}/hidden_patches.csv"])
    return (
        f"maps, on {n:,} X-rays of {split}: with the hottest {_HIDDEN:.0%} of the patches hidden the logit falls by "
        f"{named['hottest']:.3f}, with as many others by {named['others']:.3f}, with the hottest by more in {with_ends(more)}; rank "
        f"correlation with the maps of random weights {named['alike_at_random']:.2f}"
    )


@torch.inference_mode()
def _falls(
    classifier: FractureClassifier, maps: Maps, rng: np.random.Generator, accelerator: Accelerator
) -> dict[str, list[float]]:
    """By how much the logit of each square falls with its hottest patches hidden, and on average with as many others of the film."""
    to_device(classifier, accelerator.device).eval()
    pictures = to_unit(torch.from_numpy(maps.xrays.images(np.arange(len(maps.xrays))))).to(accelerator.device)
    on_film = within(film_of(maps.xrays).reshape(-1, 4), *maps.heat.shape[1:])
    falls: dict[str, list[float]] = {"hottest": [], "others": []}
    for picture, heat, shown in zip(pictures, maps.heat, on_film, strict=True):
        hidden = np.stack(list(_patches(heat, shown, rng)))
        seen = torch.cat([picture[None], _without(picture[None], torch.from_numpy(hidden).to(picture.device))])
        with accelerator.autocast():
            logit = classifier(seen).double().cpu().numpy()
        falls["hottest"].append(logit[0] - logit[1])
        falls["others"].append(float((logit[0] - logit[2:]).mean()))
    return falls


def _patches(heat: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Which patches to hide, bool [rows, columns]: the hottest of those shown, then as many others at random, several times."""
    candidates = np.flatnonzero(shown)
    candidates = candidates if len(candidates) else np.arange(heat.size)
    n = max(1, round(_HIDDEN * len(candidates)))
    hottest = candidates[np.argsort(-heat.ravel()[candidates], kind="stable")]
    others = hottest[n:] if len(hottest) > 2 * n else hottest
    for hidden in [hottest[:n], *(rng.choice(others, min(n, len(others)), replace=False) for _ in range(_N_OTHERS))]:
        mask = np.zeros(heat.size, dtype=bool)
        mask[hidden] = True
        yield mask.reshape(heat.shape)


def _without(picture: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """A picture [1, 1, H, W] with patches blurred over the width of two: one for each of `hidden`, bool [m, rows, columns]."""
    cell = picture.shape[-1] // hidden.shape[-1]
    blurred = F.avg_pool2d(picture, 2 * cell + 1, stride=1, padding=cell, count_include_pad=False)
    mask = F.interpolate(hidden.unsqueeze(1).float(), size=picture.shape[-2:], mode="nearest")
    return torch.where(mask > 0.5, blurred, picture)


def _with_random_weights(classifier: FractureClassifier, seed: int) -> FractureClassifier:
    """The same network, the values of each of its weights in any order."""
    other = copy.deepcopy(classifier)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
    return other
