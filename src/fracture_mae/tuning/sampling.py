"""A sampler whose chance depends on the seed and the trial's number alone."""

from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState


class NumberedSampler(BaseSampler):
    """Optuna's TPE, seeded anew for each trial by (seed, number of the trial).

    A sampler with one seed for all starts with the same draws in every process: a study that goes on would repeat its first
    trials, and workers would do each other's. Here no two trials share their draws, and a study that was stopped and went on is
    the one that never stopped.

    Args:
        seed: of the study.
        n_startup_trials: trials drawn at random before TPE has a say.
    """

    def __init__(self, seed: int, n_startup_trials: int = 10):
        self._seed = seed
        self._n_startup_trials = n_startup_trials
        self._number = -1
        self._sampler = TPESampler()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: list[float] | None) -> None:
        self._of(trial).after_trial(study, trial, state, values)

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            self._sampler = TPESampler(seed=seed, n_startup_trials=self._n_startup_trials)
            self._number = trial.number
        return self._sampler
