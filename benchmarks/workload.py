"""What is measured: a model, X-rays, and how much of both."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from benchmarks.flops import Sizes
from benchmarks.results import Bar
from benchmarks.timing import Sample, interleaved
from fracture_mae.config import Benchmark, FinetuneMae
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.models.autoencoder import Mae

QUICK = "a quick run"
_VALIDATION_SHARE = 1 / 6


@dataclass(frozen=True)
class Workload:
    """What all parts measure.

    Attributes:
        config: how much to measure.
        mae: parts work on copies of it.
        xrays: at most `config.n_images` files, both labels taking turns.
        dataset: the same, some of them for validation.
        accelerator: device and precision.
        folder: for whatever parts write; removed afterwards.
    """

    config: Benchmark
    mae: Mae
    xrays: XRays
    dataset: Dataset
    accelerator: Accelerator
    folder: Path

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def precision(self) -> str:
        """bf16 or fp32."""
        return "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32"

    @property
    def sizes(self) -> Sizes:
        return Sizes.of(self.mae)

    @property
    def training(self) -> FinetuneMae:
        """The settings of `finetune_mae`, for an epoch, but compiled as where an epoch is one of many."""
        compiled = self._is_compiled if self.config.compile == "auto" else self.config.compile
        training = FinetuneMae(**self.config.shared(), model=self.config.model, epochs=1, compile=compiled)
        return training.settled(self.mae.start, norm_pix_loss=self.mae.norm_pix_loss)

    @property
    def _is_compiled(self) -> bool:
        """On a GPU, and in bf16 on a processor, where compiling takes half a minute: not in a quick run."""
        in_bf16 = self.device.type == "cpu" and self.precision == "bf16"
        return self.device.type == "cuda" or (in_bf16 and not self.config.quick)

    @property
    def at_least(self) -> float:
        """Seconds that a measurement of something short goes on."""
        return 0.05 if self.config.quick else 0.5

    def measure(self, measures: dict, **options: object) -> dict[str, Sample]:
        """`timing.interleaved` with as many rounds as the config wants; options are its own."""
        return interleaved(measures, self.config.repeats, **options)

    def bar(self, value: float, *, waived: str = "", at_most: bool = False) -> Bar:
        """A bar, which in a quick run never applies."""
        return Bar(value, at_most, QUICK if self.config.quick else waived)

    def bar_by_device(self, cpu: float, gpu: float) -> Bar:
        """A bar that is another one on a GPU."""
        known = {"cpu": cpu, "cuda": gpu}
        kind = self.device.type
        return self.bar(known.get(kind, cpu), waived="" if kind in known else f"no bar for {kind}")

    def temporary(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def choose(dataset: Dataset, n: int) -> XRays:
    """At most `n` files of all splits, chosen at random but always the same, the two labels taking turns while both last."""
    sides = (dataset.train, dataset.validation, dataset.test)
    table = pd.concat([side.table for side in sides], ignore_index=True)
    everything = XRays("all", table, dataset.train.pixels, np.concatenate([side.rows for side in sides]))
    order = np.random.default_rng(0).permutation(np.flatnonzero(~table.duplicated("sha256")))
    label = everything.label[order]
    turn = pd.Series(label).groupby(label).cumcount().to_numpy()
    return everything.subset(order[np.lexsort((label, turn))][:n])


def parted(dataset: Dataset, xrays: XRays) -> Dataset:
    """`xrays` as a dataset: a sixth of them for validation, and the same for test, which no part looks at."""
    n_validation = max(4, round(len(xrays) * _VALIDATION_SHARE))
    positions = np.arange(len(xrays))
    train, validation = xrays.subset(positions[:-n_validation]), xrays.subset(positions[-n_validation:])
    parts = {"train": train, "validation": validation, "test": validation}
    return replace(dataset, **{name: replace(part, name=name) for name, part in parts.items()})


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Let the project keep what it remembers in `folder` meanwhile, so that it remembers nothing at first."""
    before = os.environ.get("FRACTURE_MAE_CACHE")
    os.environ["FRACTURE_MAE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FRACTURE_MAE_CACHE"]
        else:
            os.environ["FRACTURE_MAE_CACHE"] = before
