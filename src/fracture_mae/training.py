"""One training loop for both stages, on Hugging Face Accelerate."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm import tqdm

from fracture_mae.checkpoints import Checkpoints
from fracture_mae.data import XRays
from fracture_mae.data.transforms import to_unit
from fracture_mae.errors import FractureMaeError
from fracture_mae.schedule import Progress, Schedule


@dataclass(frozen=True)
class Batch:
    """X-rays on the device.

    Attributes:
        pixels: grey, float32 [B, 1, H, W] in [0, 1].
        label: float32 [B], 1 is positive.
        weight: float32 [B], of each X-ray in the loss, or one for all.
    """

    pixels: torch.Tensor
    label: torch.Tensor
    weight: torch.Tensor | float = 1.0


StepLoss = Callable[[nn.Module, Batch, torch.Generator], torch.Tensor]


def make_accelerator(precision: str, device: str) -> Accelerator:
    """The device and arithmetic of a run.

    Args:
        precision: "bf16", "fp32", or "auto": bf16 where the processor computes in it.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        FractureMaeError: PyTorch does not find the device.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not found.get(device, True):
        raise FractureMaeError(f"--device {device}: PyTorch finds no such device here. Use auto or cpu.")
    if precision == "auto":
        on_cuda = found["cuda"] and device in ("auto", "cuda")
        on_mps = found["mps"] and device in ("auto", "mps")
        precision = "bf16" if _computes_in_bf16(on_cuda, on_mps) else "fp32"
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")


def _computes_in_bf16(on_cuda: bool, on_mps: bool) -> bool:
    if on_cuda:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not on_mps and torch.cpu._is_avx512_bf16_supported()


class Trainer:
    """A model, its optimizer and the arithmetic they share.

    Args:
        model: trained in place.
        parameters: the optimizer's parameter groups, each with its peak learning rate "lr".
        optimizer: "adamw" or "adam".
        step_loss: mean loss of a batch; takes its chance from the generator (on the CPU) that it is given.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: list[dict[str, Any]],
        *,
        optimizer: str,
        schedule: Schedule,
        step_loss: StepLoss,
        accelerator: Accelerator,
    ):
        self.model = model
        self.schedule = schedule
        self.step_loss = step_loss
        self.accelerator = accelerator
        self.peaks = [group["lr"] for group in parameters]
        make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optimizer]
        fused = accelerator.device.type in ("cpu", "cuda")
        self.prepared, self.optimizer = accelerator.prepare(model, make(parameters, fused=fused))

    def fit(
        self,
        xrays: XRays,
        order: Callable[[np.random.Generator], np.ndarray],
        validate: Callable[[nn.Module], dict[str, float]],
        checkpoints: Checkpoints,
        log: Callable[[dict[str, float], int], None],
        weight: np.ndarray | None = None,
    ) -> Progress:
        """Train, and leave the kept epoch's weights in the model, in evaluation mode.

        All chance in an epoch comes from generators seeded by the schedule's seed and the epoch, so that a run resumed from a
        checkpoint ends with the weights of one that was never interrupted.

        Args:
            order: positions of the training X-rays to visit in an epoch.
            validate: metrics of the model in evaluation mode, `schedule.monitor` among them.
            log: takes an epoch's metrics and its number; of a resumed run, the earlier epochs' first.
            weight: [n], of each training X-ray, as `step_loss` finds it in its batch; None: 1.

        Raises:
            FractureMaeError: the loss is no longer finite.
        """
        weight = np.ones(len(xrays)) if weight is None else weight
        progress = checkpoints.restore(self.accelerator)
        for epoch, row in enumerate(progress.history, start=1):
            log(row, epoch)
        while not self.schedule.is_over(progress):
            row = self._train_epoch(xrays, weight, order, progress.epochs_done)
            self.model.eval()
            row |= validate(self.model)
            keep = progress.record(row, self.schedule)
            checkpoints.write(self.accelerator, self.model, progress, keep=keep)
            log(row, progress.epochs_done)
            tqdm.write(self._line(row, progress))
        checkpoints.load_kept(self.model)
        self.model.eval()
        return progress

    def _train_epoch(
        self, xrays: XRays, weight: np.ndarray, order: Callable[[np.random.Generator], np.ndarray], epoch: int
    ) -> dict[str, float]:
        seed = int(np.random.SeedSequence([self.schedule.seed, epoch]).generate_state(1)[0])
        set_seed(seed)  # stochastic depth draws from the global generators
        generator = torch.Generator().manual_seed(seed)
        visits = order(np.random.default_rng(seed))
        steps = np.array_split(visits, math.ceil(len(visits) / self.schedule.batch_size))
        self.prepared.train()
        total = torch.zeros((), device=self.accelerator.device)
        started = time.perf_counter()
        bar = tqdm(total=len(visits), desc=f"Epoch {epoch + 1}/{self.schedule.epochs}", unit="X-ray", leave=False)
        with bar:
            for step, positions in enumerate(steps):
                self._set_learning_rate(epoch + step / len(steps))
                loss = self._step(batch_of(xrays, positions, self.accelerator.device, weight[positions]), generator)
                total += loss * len(positions)
                bar.update(len(positions))
        mean_loss = total.item() / len(visits)
        if not math.isfinite(mean_loss):
            raise FractureMaeError(
                f"the training loss became {mean_loss} in epoch {epoch + 1}. Lower --learning-rate, or use --precision fp32; the "
                "last whole checkpoint is kept."
            )
        speed = len(visits) / (time.perf_counter() - started)
        return {
            "train/loss": mean_loss,
            "train/learning_rate": self.optimizer.param_groups[-1]["lr"],
            "train/images_per_second": speed,
        }

    def _step(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        with self.accelerator.autocast():
            loss = self.step_loss(self.prepared, batch, generator)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def _set_learning_rate(self, epoch: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.schedule.learning_rate_factor(epoch)

    def _line(self, row: dict[str, float], progress: Progress) -> str:
        kept = " (kept)" if progress.kept_epoch == progress.epochs_done else ""
        return (
            f"epoch {progress.epochs_done}/{self.schedule.epochs}: train/loss {row['train/loss']:.4f}, "
            f"{self.schedule.monitor} {row[self.schedule.monitor]:.4f}, {row['train/images_per_second']:.0f} X-rays/s{kept}"
        )


def batch_of(xrays: XRays, positions: np.ndarray, device: torch.device, weight: np.ndarray | float = 1.0) -> Batch:
    """X-rays at `positions`, on the device; `weight` is theirs: [len(positions)], or one for all."""
    pixels = torch.from_numpy(xrays.images(positions)).to(device, non_blocking=True)
    numbers = np.stack([xrays.label[positions], np.broadcast_to(weight, len(positions))]).astype(np.float32)
    label, weights = torch.from_numpy(numbers).to(device)
    return Batch(to_unit(pixels), label, weights)


def in_batches(xrays: XRays, batch_size: int, device: torch.device, description: str) -> Iterator[Batch]:
    """All X-rays in order, for validation and prediction, with a progress bar."""
    with tqdm(total=len(xrays), desc=description, unit="X-ray", leave=False) as bar:
        for start in range(0, len(xrays), batch_size):
            positions = np.arange(start, min(start + batch_size, len(xrays)))
            yield batch_of(xrays, positions, device)
            bar.update(len(positions))


def visiting_order(xrays: XRays, sampler: str) -> Callable[[np.random.Generator], np.ndarray]:
    """Which training X-rays an epoch visits, as many as there are files.

    Args:
        sampler: "file": each file once, shuffled. Otherwise drawn with replacement: "class": both classes equally likely; "xray":
            every X-ray, however many copies of it there are; "xray_class": both classes, and within a class every X-ray.
    """
    if sampler == "file":
        return lambda rng: rng.permutation(len(xrays))
    chance = np.ones(len(xrays))
    if sampler.startswith("xray"):
        chance /= pd.Series(xrays.group).groupby(xrays.group).transform("size").to_numpy()
    if sampler.endswith("class"):
        chance /= np.bincount(xrays.label, weights=chance)[xrays.label]
    return lambda rng: rng.choice(len(xrays), size=len(xrays), p=chance / chance.sum())
