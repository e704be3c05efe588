"""What a study found: its table, its best trial, and what class weight and threshold each add."""

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from fracture_mae.config import TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import calibration, thresholds
from fracture_mae.metrics.rates import BothRates
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.tuning import trials
from fracture_mae.tuning.depths import Depth
from fracture_mae.tuning.objectives import DEFAULT_THRESHOLD, Objective, Rows, decide_across_folds

AT_HALF, CHOSEN = "0.5", "chosen"  # thresholds


def best_trial(study: Study, objective: Objective) -> FrozenTrial:
    """The best complete trial; of a Pareto front, the one with the best balanced accuracy.

    Where no trial keeps to the constraint, the one that comes nearest to it is the best.

    Raises:
        FractureMaeError: no trial completed; says why.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise FractureMaeError(f"no trial of the study {study.study_name!r} completed{_reasons(study)}.")

    def worth(trial: FrozenTrial) -> tuple[float, float, int]:
        violation = sum(max(0.0, value) for value in trial.constraints.values())
        return -violation, objective.total(trial.values), -trial.number

    return max(complete, key=worth)


def _reasons(study: Study) -> str:
    ended = [trials.outcome(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    counted = Counter(f"{state} ({reason})" for state, reason in ended)
    return "".join(f"; {count} {what}" for what, count in counted.most_common(3)) or ": it has none"


def table(study: Study, objective: Objective) -> pd.DataFrame:
    """A row per trial: number, state, values, feasible, threshold, slope, intercept, parameters, metrics, seconds, reason."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        state, reason = trials.outcome(trial) if trial.state.is_finished() else (trial.state.name.lower(), "")
        verdict = trials.verdict_of(trial)
        row: dict[str, Any] = {"number": trial.number, "state": state}
        if state == trials.COMPLETE:
            row |= {f"objective/{name}": value for name, value in zip(objective.value_names, trial.values, strict=True)}
            row |= {"feasible": trials.is_feasible(trial)}
            row |= {name: verdict[name] for name in ("threshold", "slope", "intercept")}
        row |= {f"param/{name}": value for name, value in trial.params.items()}
        row |= verdict.get("metrics", {})
        row |= {"seconds": trial.duration.total_seconds() if trial.duration else np.nan, "reason": reason}
        rows.append(row)
    found = pd.DataFrame(rows, columns=None if rows else ["number", "state", "reason"])
    return found[[*(name for name in found if name != "reason"), "reason"]]


def contributions(
    depth: Depth, objective: Objective, params: Mapping[str, Any], predictions: pd.DataFrame
) -> pd.DataFrame:
    """What the best trial's settings come to with other class weights, at the threshold 0.5 and at the chosen one.

    The rows with class weight 1 show what the threshold adds alone, those at 0.5 what the class weight adds alone.

    Args:
        predictions: of the best trial, as `depth.predict(params)` gives them.

    Returns:
        Columns class_weight, threshold ("0.5" or "chosen"), score (of the objective; balanced accuracy where that has no
        threshold), feasible, and sensitivity and specificity with _low and _high.
    """
    shown = scored_as(objective)
    rows = []
    for weight in tqdm(list(depth.class_weights(params["class_weight"])), desc="Class weights", unit="weight"):
        is_best = weight == params["class_weight"]
        predicted = predictions if is_best else depth.predict({**params, "class_weight": weight})
        for kind, decision in _decisions(predicted, shown, params).items():
            rows.append({"class_weight": weight, "threshold": kind, **_rated(predicted, decision, shown)})
    return pd.DataFrame(rows)


def scored_as(objective: Objective) -> Objective:
    """What decisions are scored by: the objective itself, or balanced accuracy where that scores none, or two values."""
    return Objective("balanced_accuracy") if objective.name in ("average_precision", "pareto") else objective


def _decisions(table: pd.DataFrame, objective: Objective, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    label, weight = table["label"].to_numpy(), equal_group_weight(table["group"])
    # As trials are judged: where thresholds lie between probabilities hangs on the calibration.
    sigmoid = calibration.fit_sigmoid(table["logit"], label, weight)
    probability = calibration.apply(table["logit"], sigmoid.slope, sigmoid.intercept)
    rows = Rows(label, probability, drawn(table).to_numpy(), weight)
    return {
        AT_HALF: thresholds.decide(calibration.apply(table["logit"]), DEFAULT_THRESHOLD),
        CHOSEN: decide_across_folds(table["fold"].to_numpy(), rows, objective, params),
    }


def _rated(table: pd.DataFrame, decision: np.ndarray, objective: Objective) -> dict[str, Any]:
    label, weight = table["label"].to_numpy(), equal_group_weight(table["group"])
    as_probability = decision.astype(float)
    both = BothRates.of(label, decision, drawn(table), weight)
    (score,) = objective.values(label, as_probability, decision, weight)
    found = {"score": score, "feasible": all(v <= 0 for v in objective.constraints(label, decision, weight).values())}
    for name, rate in (("sensitivity", both.sensitivity), ("specificity", both.specificity)):
        found |= {name: rate.estimate, f"{name}_low": rate.low, f"{name}_high": rate.high}
    return found


def corners(contributed: pd.DataFrame, best: float) -> pd.DataFrame:
    """Class weight none or as found, each at threshold 0.5 and as chosen: the rows of `contributions` that tell them apart."""
    weights = list(dict.fromkeys([1.0, best]))
    rows = contributed[contributed["class_weight"].isin(weights)]
    named = rows.assign(
        class_weight=rows["class_weight"].map(lambda weight: "none" if weight == 1 else f"{weight:.3g}")
    )
    return named.set_index(["class_weight", "threshold"])


def command(training: TrainClassifier, threshold: float) -> str:
    """The line that trains what `training` says, with the threshold that was found."""
    default = TrainClassifier()
    changed = {name: value for name, value in training.model_dump().items() if value != getattr(default, name)}
    words = [f"-P {shlex.quote(f'{name}={value}')}" for name, value in (changed | {"threshold": threshold}).items()]
    return " ".join(["mlflow run . -e train_classifier", *words])
