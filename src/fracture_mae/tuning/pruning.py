"""When a trial is given up."""

from optuna.pruners import BasePruner, MedianPruner, NopPruner

from fracture_mae.config import Tune

_TRIALS_BEFORE = 4  # without pruning, so that there is a median worth the name


def pruner_of(config: Tune) -> tuple[BasePruner, str]:
    """The pruner of a study, and what it is called.

    Heads are too quick to be worth stopping, and towards two values at once Optuna has no pruning.
    """
    if config.depth == "head" or config.objective == "pareto":
        return NopPruner(), "none"
    epochs_before = max(1, config.max_epochs // 4)
    name = f"MedianPruner, from epoch {epochs_before + 1} of trial {_TRIALS_BEFORE + 1} on"
    return MedianPruner(n_startup_trials=_TRIALS_BEFORE, n_warmup_steps=epochs_before), name
