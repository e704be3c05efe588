"""What a trial is judged by: from out-of-fold logits to the values that a study optimises."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        temperature: fitted to them.
        metrics: of decisions each made at a threshold that its own X-ray had no say in.
    """

    values: tuple[float, ...]
    constraints: dict[str, float]
    threshold: float
    temperature: float
    metrics: dict[str, float]


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
        counts = Counts.of(label, decision, weight)
        match self.name:
            case "average_precision":
                return (scores.summary(label, probability, DEFAULT_THRESHOLD, weight)["average_precision"],)
            case "pareto":
                return float(counts.sensitivity), float(counts.specificity)
            case "specificity_at_sensitivity":
                return (float(counts.specificity),)
            case "cost":
                dearer = max(self.cost_false_negative, self.cost_false_positive)
                return (-float(thresholds.score(counts, "cost", **self._options())) * dearer,)
        return (float(thresholds.score(counts, self.name)),)

    def constraints(self, label: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> dict[str, float]:
        """By name; above 0 means violated."""
        if self.name != "specificity_at_sensitivity":
            return {}
        missing = self.min_sensitivity - float(Counts.of(label, decision, weight).sensitivity)
        return {"min_sensitivity": missing if missing > thresholds.TIE else min(missing, 0.0)}

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
    temperature = calibration.fit_temperature(table["logit"], label, weight)
    probability = calibration.apply(table["logit"], temperature)
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
        temperature=temperature,
        metrics={name: value for name, value in shown.items() if np.isfinite(value)},
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
