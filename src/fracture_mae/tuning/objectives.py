"""What a trial is judged by: from out-of-fold logits to the values that a study optimises."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fracture_mae.config import Tune
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.judging import drawn
from fracture_mae.evaluation.own_threshold import Wish
from fracture_mae.metrics import assurance as assured
from fracture_mae.metrics import bagged_thresholds, calibration, scores, thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.thresholds import SENSITIVITY_COUNTS, Counts

_SHOWN = ("sensitivity", "specificity", "balanced_accuracy", "precision", "f1", "mcc", "average_precision", "auroc")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Verdict:
    """What a trial is worth.

    Attributes:
        values: one for each direction of the objective.
        constraints: by name; above 0 means violated, as in Optuna.
        threshold: on the calibrated probability, chosen from all out-of-fold probabilities.
        slope, intercept: of the calibration, fitted to their logits.
        metrics: of decisions each made at a threshold that its own X-ray had no say in.
        decision: these, 0/1 [n].
    """

    values: tuple[float, ...]
    constraints: dict[str, float]
    threshold: float
    slope: float
    intercept: float
    metrics: dict[str, float]
    decision: np.ndarray = field(compare=False, repr=False)

    def described(self) -> dict[str, Any]:
        """All but the decisions, as JSON can hold it."""
        return {name: value for name, value in asdict(self).items() if name != "decision"}


@dataclass(frozen=True)
class Rows:
    """Files with answers: label 0/1 [n], probability [n] in [0, 1], whom a bootstrap draws as one [n], and weight [n]."""

    label: np.ndarray
    probability: np.ndarray
    drawn: np.ndarray
    weight: np.ndarray

    def where(self, chosen: np.ndarray) -> "Rows":
        """Those that are chosen, bool [n]."""
        return Rows(self.label[chosen], self.probability[chosen], self.drawn[chosen], self.weight[chosen])


@dataclass(frozen=True)
class Objective:
    """What is best, every X-ray counting once however many files it has.

    Attributes:
        name: as in `config.Tune`.
        min_sensitivity: share of fractures that must be found ("specificity_at_sensitivity" alone).
        assurance: confidence with which the true share is to be as high ("specificity_at_sensitivity" alone); None: it is out of fold.
        cost_false_negative, cost_false_positive: price of a missed fracture and of a false alarm ("cost" alone).
    """

    name: str
    min_sensitivity: float = 0.95
    cost_false_negative: float = 5.0
    cost_false_positive: float = 1.0
    assurance: float | None = None

    @classmethod
    def of(cls, config: Tune) -> "Objective":
        costs = config.cost_false_negative, config.cost_false_positive
        return cls(
            config.objective, config.min_sensitivity, *costs, None if config.assurance == "none" else config.assurance
        )

    @property
    def directions(self) -> tuple[str, ...]:
        """Of each value, as Optuna names them."""
        return {"cost": ("minimize",), "pareto": ("maximize", "maximize")}.get(self.name, ("maximize",))

    @property
    def value_names(self) -> tuple[str, ...]:
        names = {"pareto": ("sensitivity", "specificity"), "specificity_at_sensitivity": ("specificity",)}
        return names.get(self.name, (self.name,))

    def described(self) -> dict[str, object]:
        """The name, and of the options those that have a say."""
        options = {
            "cost": ("cost_false_negative", "cost_false_positive"),
            "specificity_at_sensitivity": ("min_sensitivity",),
        }
        counts = {"sensitivity_counts": SENSITIVITY_COUNTS} if self.name == "weighted_youden" else {}
        assurance = {} if self.assurance is None else {"assurance": self.assurance}  # older studies were not asked
        chosen = {name: getattr(self, name) for name in options.get(self.name, ())}
        return {"objective": self.name} | counts | chosen | assurance

    def __str__(self) -> str:
        """Such as `cost (cost_false_negative 5, cost_false_positive 1)`."""
        options = ", ".join(f"{name} {value:g}" for name, value in self.described().items() if name != "objective")
        return f"{self.name} ({options})" if options else self.name

    def choose_threshold(self, rows: Rows, params: Mapping[str, object]) -> float:
        """The best threshold, as `bagged_thresholds` chooses it.

        Where a sensitivity is to be assured, it is the highest one that is, see `metrics.assurance`.
        Average precision knows no threshold: that of the best balanced accuracy is taken. A trial of a Pareto study has the
        sensitivity to aim at among its parameters.
        """
        if self.assurance is not None:
            return _assured(rows, self.min_sensitivity, self.assurance)
        options = self._options()
        if self.name == "pareto":
            options["min_sensitivity"] = params["aimed_sensitivity"]
        name = {"average_precision": "balanced_accuracy", "pareto": "specificity_at_sensitivity"}.get(
            self.name, self.name
        )
        options |= {"weight": rows.weight, "n_draws": bagged_thresholds.N_DRAWS}
        return bagged_thresholds.choose(rows.label, rows.probability, name, rows.drawn, **options)

    @property
    def wish(self) -> Wish:
        """What the threshold of a classifier is to be best for."""
        return Wish.of(self.name, self.min_sensitivity, "none" if self.assurance is None else self.assurance)

    def told(self, predictions: pd.DataFrame, decision: Decision, place: str) -> str:
        """How and on what the threshold of `decision` was chosen, see `Wish.told`."""
        return self.wish.told(predictions, decision.probability(predictions["logit"]), decision.threshold, place)

    def check(self, table: pd.DataFrame, fold: np.ndarray) -> None:
        """Refuse an assurance that the X-rays without any one of the folds cannot give, by which the others' decisions are made.

        Args:
            table: columns group, label and patient of the files that trials are judged on; fold: [n], of each.

        Raises:
            FractureMaeError: how many fractures are needed and were found.
        """
        for number in np.unique(fold):
            self.wish.check(
                table[fold != number], "in the other folds, by which the X-rays of one are decided", "Take more X-rays"
            )

    def values(
        self, label: np.ndarray, probability: np.ndarray, decision: np.ndarray, weight: np.ndarray
    ) -> tuple[float, ...]:
        """What is optimised, of labels, probabilities and 0/1 decisions [n]; the cost is the mean of an X-ray."""
        return tuple(float(value) for value in self.values_under(label, probability, decision, weight))

    def values_under(
        self, label: np.ndarray, score: np.ndarray, decision: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The same, each of shape [...], under each of the weightings in weight [..., n]; score: [n], of any scale."""
        counts = Counts.of(label, decision, weight)
        match self.name:
            case "average_precision":
                return (scores.average_precisions(label, score, weight),)
            case "pareto":
                return counts.sensitivity, counts.specificity
            case "specificity_at_sensitivity":
                return (counts.specificity,)
            case "cost":
                dearer = max(self.cost_false_negative, self.cost_false_positive)
                return (-thresholds.score(counts, "cost", **self._options()) * dearer,)
        return (thresholds.score(counts, self.name),)

    def total(self, values: Sequence[ArrayLike]) -> ArrayLike:
        """What one trial is told from another by: the sum of its values, more is better."""
        signs = [1 if direction == "maximize" else -1 for direction in self.directions]
        return sum(sign * value for sign, value in zip(signs, values, strict=True))

    def constraints(self, label: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> dict[str, float]:
        """By name; above 0 means violated."""
        if self.name != "specificity_at_sensitivity":
            return {}
        return {"min_sensitivity": float(self._missing(label, decision, weight))}

    def violation(self, label: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """By how much the constraints are violated, [...] under each of the weightings in weight [..., n]; 0 where they are kept."""
        if self.name != "specificity_at_sensitivity":
            return np.zeros(weight.shape[:-1])
        return np.maximum(self._missing(label, decision, weight), 0.0)

    def _missing(self, label: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """How much sensitivity is missing, [...]; 0 at the limit too, where sums of floats may say otherwise."""
        missing = self.min_sensitivity - Counts.of(label, decision, weight).sensitivity
        return np.where(missing > thresholds.TIE, missing, np.minimum(missing, 0.0))

    def _options(self) -> dict[str, float]:
        costs = {"cost_false_negative": self.cost_false_negative, "cost_false_positive": self.cost_false_positive}
        return {"min_sensitivity": self.min_sensitivity, **costs}


def judge(table: pd.DataFrame, objective: Objective, params: Mapping[str, object]) -> Verdict:
    """Judge out-of-fold predictions.

    A threshold that is judged on the X-rays it was chosen on looks better than it is. So the decision for an X-ray is made at the
    threshold that all other folds choose; the threshold that the model gets is chosen on all of them.

    Args:
        table: a row per file: label, group, patient, where it is known, logit (of a model that was not trained on the file) and fold.
    """
    label, weight = table["label"].to_numpy(), scores.equal_group_weight(table["group"])
    sigmoid = calibration.fit_sigmoid(table["logit"], label, weight)
    probability = calibration.apply(table["logit"], sigmoid.slope, sigmoid.intercept)
    rows = Rows(label, probability, drawn(table).to_numpy(), weight)
    decision = decide_across_folds(table["fold"].to_numpy(), rows, objective, params)
    counts = Counts.of(label, decision, weight)
    free = scores.summary(label, probability, DEFAULT_THRESHOLD, weight)
    decided = {name: float(value) for name, value in rates(counts).items()}
    shown = {name: decided.get(name, free.get(name)) for name in _SHOWN}
    return Verdict(
        values=objective.values(label, probability, decision, weight),
        constraints=objective.constraints(label, decision, weight),
        threshold=objective.choose_threshold(rows, params),
        slope=sigmoid.slope,
        intercept=sigmoid.intercept,
        metrics={name: value for name, value in shown.items() if np.isfinite(value)},
        decision=decision,
    )


def _assured(rows: Rows, min_sensitivity: float, assurance: float) -> float:
    options = {"min_sensitivity": min_sensitivity, "assurance": assurance}
    found = assured.choose(rows.label, rows.probability, rows.drawn, **options)
    if found is None:  # `Objective.check` has looked before
        n = np.unique(rows.drawn[rows.label == 1]).size
        raise FractureMaeError(
            f"{assured.shortfall(n, *options.values(), 'patients with a fracture', 'to choose on')}."
        )
    return found


def rates(counts: Counts) -> dict[str, np.ndarray]:
    """The rates of decisions by name."""
    names = ("sensitivity", "specificity", "balanced_accuracy", "precision", "mcc")
    return {name: getattr(counts, name) for name in names} | {"f1": counts.f_beta(1)}


def decide_across_folds(fold: np.ndarray, rows: Rows, objective: Objective, params: Mapping[str, object]) -> np.ndarray:
    """Decisions int64 [n], those of each fold at the threshold that all other folds choose."""
    decision = np.zeros(len(fold), dtype=np.int64)
    for number in np.unique(fold):
        here = fold == number
        chosen = objective.choose_threshold(rows.where(~here), params)
        decision[here] = thresholds.decide(rows.probability[here], chosen)
    return decision
