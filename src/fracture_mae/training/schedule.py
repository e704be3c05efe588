"""How long to train, how fast, which epoch to keep, and how far a training is."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """How long to train, how fast, and which epoch to keep.

    Attributes:
        epochs: passes over the training X-rays.
        batch_size: X-rays per step.
        monitor: validation metric that decides which epoch is best.
        maximise: whether more of it is better.
        warmup_epochs: epochs over which the learning rate rises linearly from 0, at most a quarter of all.
        cosine: whether it then falls to 0 on half a cosine (Loshchilov & Hutter, "SGDR", ICLR 2017) or stays.
        keep_best: keep the best epoch's weights, rather than the last one's.
        patience: epochs without improvement after which training stops; 0: never.
        seed: of order, augmentation, masks and stochastic depth.
    """

    epochs: int
    batch_size: int
    monitor: str
    maximise: bool
    warmup_epochs: float = 0.0
    cosine: bool = True
    keep_best: bool = True
    patience: int = 0
    seed: int = 0

    def learning_rate_factor(self, epoch: float) -> float:
        """Share of the peak learning rate after `epoch` epochs, a fraction while one is under way."""
        warmup = min(self.warmup_epochs, self.epochs / 4)
        if epoch < warmup:
            return epoch / warmup
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (self.epochs - warmup))) if self.cosine else 1.0

    def is_over(self, progress: "Progress") -> bool:
        stalled = progress.epochs_done - progress.kept_epoch
        return progress.epochs_done >= self.epochs or (0 < self.patience <= stalled)


@dataclass
class Progress:
    """What is known after each epoch.

    Attributes:
        history: a row of metrics for each epoch done.
        kept_epoch: the epoch, counted from 1, whose weights are kept so far; 0 before the first.
        run_ids: the runs that trained it, the first one first.
        computed_by: how its steps are computed by now: attention, compile, cuda_graphs, precision, processes.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    kept_epoch: int = 0
    run_ids: list[str] = field(default_factory=list)
    computed_by: dict[str, str] = field(default_factory=dict)

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    @property
    def kept(self) -> dict[str, float]:
        """Metrics of the kept epoch."""
        return self.history[self.kept_epoch - 1]

    def record(self, row: dict[str, float], schedule: Schedule) -> bool:
        """Add an epoch's metrics; whether its weights are now the ones to keep. NaN never beats a number."""
        value = row[schedule.monitor]
        previous = self.kept[schedule.monitor] if self.history else math.nan
        better = value > previous if schedule.maximise else value < previous
        self.history.append(row)
        if not schedule.keep_best or better or math.isnan(previous):
            self.kept_epoch = self.epochs_done
        return self.kept_epoch == self.epochs_done
