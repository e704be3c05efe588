"""One training loop for both stages, on Hugging Face Accelerate."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm import tqdm

from fracture_mae.data.types import XRays
from fracture_mae.errors import NonFiniteError
from fracture_mae.processes import collectives
from fracture_mae.training.batches import (
    Ahead,
    Batch,
    ChangedPixels,
    Gathered,
    InFlight,
    MappedPixels,
    Pixels,
    gather,
    pixels_of,
)
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.cuda_graphs import AddGradient, Recorded
from fracture_mae.training.loss_weights import LossWeights
from fracture_mae.training.schedule import Progress, Schedule
from fracture_mae.training.source_augmentation.changes import SourceAugmentation
from fracture_mae.training.step_options import Chosen, StepOptions, StepTimer, choose, key_of
from fracture_mae.training.step_random import StepRandom
from fracture_mae.training.steps import Part, n_steps, parts_of

# The loss of each X-ray of a batch, float [B]; all chance comes from the StepRandom.
StepLoss = Callable[[nn.Module, Batch, StepRandom], torch.Tensor]
Order = Callable[[np.random.Generator], np.ndarray]
_BETA1 = 0.9  # of Adam


class Trainer:
    """A model, its optimizer and the arithmetic they share.

    Where a launcher has started several processes, each computes its share of every step, and losses and weights are those of one
    process that computes all, but for rounding.

    Args:
        model: trained in place.
        parameters: the optimizer's parameter groups, each with its peak learning rate "lr".
        optimizer: "adamw" or "adam".
        beta2: how slowly it forgets squared gradients.
        step_loss: loss of each X-ray of a batch, [B]; takes its chance from the StepRandom that it is given.
        step_options: how steps are to be computed; None: in one part, by sdpa, not compiled, not recorded.
        source_augmentation: changes training X-rays before they go to the device; None: they stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: list[dict[str, Any]],
        *,
        optimizer: str,
        beta2: float = 0.999,
        schedule: Schedule,
        step_loss: StepLoss,
        accelerator: Accelerator,
        step_options: StepOptions | None = None,
        source_augmentation: SourceAugmentation | None = None,
    ):
        self.model = model
        self.schedule = schedule
        self.step_loss = step_loss
        self.accelerator = accelerator
        self.step_options = step_options or StepOptions()
        self.source_augmentation = source_augmentation
        self.peaks = [group["lr"] for group in parameters]
        make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optimizer]
        fused = accelerator.device.type in ("cpu", "cuda")
        self.prepared, self.optimizer = accelerator.prepare(model, make(parameters, betas=(_BETA1, beta2), fused=fused))
        self.forward = self.prepared
        self._add_part = self._gradient_by(self.prepared)
        self.computed_by: dict[str, str] = {}  # empty until it was settled

    def fit(
        self,
        xrays: XRays,
        order: Order,
        validate: Callable[[nn.Module], dict[str, float]],
        checkpoints: Checkpoints,
        log: Callable[[dict[str, float], int], None],
        weights: LossWeights | None = None,
    ) -> Progress:
        """Train, and leave the kept epoch's weights in the model, in evaluation mode.

        All chance in an epoch comes from generators seeded by the schedule's seed, the epoch and the step, so that a run resumed
        from a checkpoint ends with the weights of one that was never interrupted, and several processes with those of one.

        Args:
            xrays: where a file became several squares, each visit shows one of them, drawn.
            order: positions of the training X-rays to visit in an epoch.
            validate: metrics of the model in evaluation mode, `schedule.monitor` among them.
            log: takes an epoch's metrics and its number; of a resumed run, the earlier epochs' first.
            weights: of the training X-rays in the loss; None: all equal.

        Raises:
            NonFiniteError: the loss is no longer finite.
        """
        weights = LossWeights.equal(len(xrays)) if weights is None else weights
        if xrays.n_squares > 1:
            order, weights = drawn_square(order, xrays.n_squares), weights.repeated(xrays.n_squares)
        n_files, xrays = len(xrays), xrays.squares()
        progress = self._restore(checkpoints)
        for number, row in enumerate(progress.history, start=1):
            log(row, number)
        if not self.schedule.is_over(progress):
            # Pixels that are changed anew for each step gain nothing by staying on the device.
            pixels = (MappedPixels if self.source_augmentation else pixels_of)(xrays, self.accelerator.device)
            if not self.computed_by:
                self.settle(xrays, pixels, n_files, self.schedule.epochs - progress.epochs_done)
            progress.computed_by = self.computed_by
        while not self.schedule.is_over(progress):
            row = self._train_epoch(xrays, pixels, weights, order, progress.epochs_done)
            self.model.eval()
            row = collectives.broadcast(row | validate(self.model))
            keep = progress.record(row, self.schedule)
            is_last = self.schedule.is_over(progress)
            checkpoints.offer(self.model, self.optimizer, progress, keep=keep, is_last=is_last)
            log(row, progress.epochs_done)
            tqdm.write(self._line(row, progress))
        checkpoints.load_kept(self.model)
        collectives.copy_weights_of_first(self.model)
        self.model.eval()
        return progress

    def settle(self, xrays: XRays, pixels: Pixels, n_visits: int, n_epochs: int) -> None:
        """Choose how steps are computed, by trying where that was left open; `computed_by` says what was chosen.

        Args:
            xrays: of the training, a row for each square.
            n_visits: of an epoch.
            n_epochs: that are to come.
        """
        self.prepared.train()
        steps = n_steps(n_visits, self.schedule.batch_size)
        visits = np.arange(math.ceil(n_visits / steps))  # as many as the largest step of an epoch has
        part = next(self._parts(visits, LossWeights.equal(len(xrays)), seed=0))
        batch = cache(lambda: self._gather(xrays, pixels, part).batch())  # only where it is needed

        def prepare(forward: nn.Module) -> Callable[[], None]:
            add_part = self._gradient_by(forward)

            def step() -> None:
                add_part(batch(), self._draws(part), part.is_last)
                self.optimizer.zero_grad()

            return step

        precision = {"no": "fp32"}.get(self.accelerator.mixed_precision, self.accelerator.mixed_precision)
        images = (len(part.positions), *xrays.pixels.shape[1:])
        key = key_of(self.model, images, precision, self.step_options, self.accelerator.device)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        probe = StepTimer(self.model, prepare, key, self.accelerator.device, dtype)
        chosen = choose(self.step_options, probe, steps * self.step_options.accumulation * n_epochs)
        self.forward = self._forward(chosen, probe)
        self._add_part = self._gradient_by(self.forward)
        if self._records:
            self._add_part(batch(), self._draws(part), part.is_last)  # only now is it known whether that is possible
            self.optimizer.zero_grad()
        self.computed_by = {
            "attention": chosen.attention,
            "compile": str(chosen.compile).lower(),
            "cuda_graphs": str(self._records and self._add_part.is_possible).lower(),
            "precision": precision,
            "processes": str(self.accelerator.num_processes),
        }

    def step(self, batch: Batch, step_random: StepRandom) -> torch.Tensor:
        """A step by itself, on a batch that is the whole of it and whose weights sum to 1; its loss."""
        self.prepared.train()
        loss = self._add_part(batch, step_random, True)
        self._update()
        return loss

    def _restore(self, checkpoints: Checkpoints) -> Progress:
        """What the first process finds, for all."""
        progress = collectives.broadcast(checkpoints.restore(self.model, self.optimizer))
        if progress.epochs_done:
            collectives.copy_weights_of_first(self.model)
            collectives.copy_optimizer_of_first(self.optimizer)
        return progress

    def _forward(self, chosen: Chosen, probe: StepTimer) -> nn.Module:
        if not chosen.compile:
            return self.prepared
        # Around what sums gradients over processes, so that it can begin before all of them are there.
        return probe.compiled if self.prepared is self.model else torch.compile(self.prepared, dynamic=False)

    def _train_epoch(
        self, xrays: XRays, pixels: Pixels, weights: LossWeights, order: Order, number: int
    ) -> dict[str, float]:
        seed = int(np.random.SeedSequence([self.schedule.seed, number]).generate_state(1)[0])
        set_seed(seed)  # of dropout, where a checkpoint has any
        visits = order(np.random.default_rng(seed))
        parts = list(self._parts(visits, weights, seed))
        ahead = Ahead(partial(self._gather, xrays, pixels), parts)
        self.prepared.train()
        total, in_flight = torch.zeros((), device=self.accelerator.device), InFlight(self.accelerator.device)
        started = time.perf_counter()
        bar = tqdm(total=len(visits), desc=f"Epoch {number + 1}/{self.schedule.epochs}", unit="X-ray", leave=False)
        with bar:
            for part, gathered in ahead:
                if part.is_first:
                    self._set_learning_rate(number + part.step / (parts[-1].step + 1))
                total += self._add_part(gathered.batch(), self._draws(part), part.is_last) * part.n
                if part.is_last:
                    self._update()
                    in_flight.wait()
                    bar.update(part.n)
        mean_loss = collectives.total(total).item() / len(visits)
        seconds = time.perf_counter() - started
        if not math.isfinite(mean_loss):
            raise NonFiniteError(
                f"the training loss became {mean_loss} in epoch {number + 1}. Lower --learning-rate, or use --precision fp32; the "
                "last whole checkpoint is kept."
            )
        return {
            "train/loss": mean_loss,
            "train/learning_rate": self.optimizer.param_groups[-1]["lr"],
            "train/images_per_second": len(visits) / seconds,
            "train/data_wait_share": ahead.waited / seconds,
        }

    def _gather(self, xrays: XRays, pixels: Pixels, part: Part) -> Gathered:
        """A part's X-rays, changed where that is asked for."""
        if self.source_augmentation:
            change = partial(self.source_augmentation, seed=part.seed, rows=part.rows)
            pixels = ChangedPixels(xrays, self.accelerator.device, change)
        return gather(xrays, pixels, part.positions, part.weight)

    def _parts(self, visits: np.ndarray, weights: LossWeights, seed: int) -> Iterator[Part]:
        sizes = {"batch_size": self.schedule.batch_size, "accumulation": self.step_options.accumulation}
        equal = self._records or self.forward is not self.prepared
        return parts_of(visits, weights, **sizes, seed=seed, equal=equal)

    def _draws(self, part: Part) -> StepRandom:
        return StepRandom(part.seed, part.n, part.rows, self.accelerator.device)

    @property
    def _records(self) -> bool:
        """Whether steps are recorded as CUDA graphs: not where their gradients are added up, or activations computed again."""
        in_one = self.step_options.accumulation == 1 and self.accelerator.num_processes == 1
        possible = self.accelerator.device.type == "cuda" and in_one and not self.step_options.checkpointing
        return possible and self.step_options.cuda_graphs

    def _gradient_by(self, forward: nn.Module) -> AddGradient | Recorded:
        """`_add_gradient` through `forward`, recorded where that is possible."""
        add_gradient = partial(self._add_gradient, forward)
        if not self._records:
            return add_gradient
        return Recorded(add_gradient, [each for group in self.optimizer.param_groups for each in group["params"]])

    def _add_gradient(self, forward: nn.Module, batch: Batch, step_random: StepRandom, is_last: bool) -> torch.Tensor:
        """Add what X-rays contribute to the gradient of the step's loss; returns what they contribute to that loss.

        Args:
            is_last: of this process's parts of the step: only then are gradients summed over processes.
        """
        with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.prepared):
            with self.accelerator.autocast():
                loss = (self.step_loss(forward, batch, step_random) * batch.weight).sum()
            self.accelerator.backward(loss * self.accelerator.num_processes)  # the sum comes divided by their number
        return loss.detach()

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _set_learning_rate(self, number: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.schedule.learning_rate_factor(number)

    def _line(self, row: dict[str, float], progress: Progress) -> str:
        kept = " (kept)" if progress.kept_epoch == progress.epochs_done else ""
        return (
            f"epoch {progress.epochs_done}/{self.schedule.epochs}: train/loss {row['train/loss']:.4f}, "
            f"{self.schedule.monitor} {row[self.schedule.monitor]:.4f}, {row['train/images_per_second']:.0f} X-rays/s{kept}"
        )


def drawn_square(order: Order, n: int) -> Order:
    """Of each X-ray that `order` visits one of its n squares, where these stand one after the other."""

    def squares(rng: np.random.Generator) -> np.ndarray:
        visits = order(rng)
        return visits * n + rng.integers(n, size=len(visits))

    return squares


def visiting_order(xrays: XRays, sampler: str) -> Callable[[np.random.Generator], np.ndarray]:
    """Which training X-rays an epoch visits, as many as there are files.

    Args:
        sampler: "file": each file once, shuffled. Otherwise drawn with replacement: "class": both classes equally likely; "xray":
            every X-ray, however many copies of it there are; "xray_class": both classes, and within a class every X-ray.
    """
    if sampler == "file":
        return lambda rng: rng.permutation(len(xrays))
    chance = visiting_chance(xrays, sampler)
    return lambda rng: rng.choice(len(xrays), size=len(xrays), p=chance / chance.sum())


def visiting_chance(xrays: XRays, sampler: str) -> np.ndarray:
    """How often each X-ray is visited beside the others, float64 [n]; samplers as in `visiting_order`."""
    chance = np.ones(len(xrays))
    if sampler.startswith("xray"):
        chance /= pd.Series(xrays.group).groupby(xrays.group).transform("size").to_numpy()
    if sampler.endswith("class"):
        chance /= np.bincount(xrays.label, weights=chance)[xrays.label]
    return chance
