"""One trial: its parameters, its verdict, and how it ended."""

from collections.abc import Callable
from typing import Any

import optuna
from optuna import Trial
from optuna.trial import FrozenTrial, TrialState

from fracture_mae.errors import NonFiniteError
from fracture_mae.tuning import kept
from fracture_mae.tuning.depths import Depth
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.kept import Files, Kept
from fracture_mae.tuning.objectives import Objective, judge
from fracture_mae.tuning.space import Space, suggest

COMPLETE, PRUNED, NON_FINITE, FAILED, INTERRUPTED = "complete", "pruned", "non-finite", "failed", "interrupted"
LOST = "lost"  # its worker died
_OUTCOME, _VERDICT, _KEPT = "outcome", "verdict", "predictions"
_LONGEST_REASON = 500


def evaluator(
    depth: Depth, objective: Objective, space: Space, interruption: Interruption
) -> Callable[[Trial], tuple[float, ...]]:
    """What makes a trial: from its parameters to its values; how it ended, and its verdict, stay with the trial."""

    def evaluate(trial: Trial) -> tuple[float, ...]:
        try:
            params = suggest(trial, space)
            with interruption.within_trial():
                predictions = depth.predict(params, _reporter(trial, objective))
            verdict = judge(predictions, objective, params)
        except BaseException as error:
            trial.set_user_attr(_OUTCOME, {"state": _state_after(error), "reason": _reason(error)})
            raise
        for name, value in verdict.constraints.items():
            trial.set_constraint(name, value)
        trial.set_user_attr(_VERDICT, verdict.described())
        trial.set_user_attr(_KEPT, kept.written(predictions, verdict.decision))
        return verdict.values

    return evaluate


def outcome(trial: FrozenTrial) -> tuple[str, str]:
    """How an ended trial ended, and why if it did not complete."""
    if trial.state == TrialState.COMPLETE:
        return COMPLETE, ""
    known = trial.user_attrs.get(_OUTCOME)
    return (known["state"], known["reason"]) if known else (LOST, "its worker died")


def verdict_of(trial: FrozenTrial) -> dict[str, Any]:
    """The verdict on a complete trial: values, constraints, threshold, slope, intercept and metrics; empty for any other."""
    return trial.user_attrs.get(_VERDICT, {})


def predictions_of(trial: FrozenTrial, files: Files) -> Kept | None:
    """The predictions that a complete trial was judged by, in the order of `files`; None where none, or others, are kept."""
    stored = trial.user_attrs.get(_KEPT)
    return kept.read(stored, files) if stored else None


def is_feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def _reporter(trial: Trial, objective: Objective) -> Callable[[int, float], None] | None:
    """What tells Optuna's pruner how a trial is doing, epoch by epoch; there is no pruning towards two values at once."""
    if len(objective.directions) > 1:
        return None
    sign = -1 if objective.directions == ("minimize",) else 1  # the metric rises, costs are to fall

    def report(epoch: int, metric: float) -> None:
        trial.report(sign * metric, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"worse than the median of earlier trials after epoch {epoch}")

    return report


def _state_after(error: BaseException) -> str:
    match error:
        case optuna.TrialPruned():
            return PRUNED
        case NonFiniteError():
            return NON_FINITE
        case Exception():
            return FAILED
    return INTERRUPTED


def _reason(error: BaseException) -> str:
    text = str(error) if isinstance(error, optuna.TrialPruned | NonFiniteError) else f"{type(error).__name__}: {error}"
    return text[:_LONGEST_REASON]
