"""Operating points: what a classifier would do at thresholds that answer to different aims, for a given share of fractures.

Every threshold is chosen on the validation X-rays and then applied to all splits as it is. One that was chosen on the X-rays it is
judged on would look better than it is, so the table says of each where it was chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.config import OperatingOptions
from fracture_mae.evaluation.judging import Certainty, drawn, levels, title_of, weight_of
from fracture_mae.metrics import bagged_thresholds, scores, thresholds
from fracture_mae.metrics.arrays import check_scores
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.rates import BothRates
from fracture_mae.metrics.thresholds import Counts, decide
from fracture_mae.tracking.report import Report

SENSITIVITIES = (0.90, 0.95, 0.99)
CHOSEN_ON = "validation"
_RATES = ("sensitivity", "specificity", "precision", "negative_predictive_value", "flagged_per_1000", "cost_per_1000")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with an aim.

    Attributes:
        name: of the aim.
        threshold: positive from this probability on.
        chosen_on: "validation", "the model" (its own threshold) or "given".
    """

    name: str
    threshold: float
    chosen_on: str


@dataclass(frozen=True)
class Costs:
    """Prices in one unit of one's own: of a missed fracture and of a false alarm."""

    false_negative: float
    false_positive: float


def choose(
    rows: pd.DataFrame | None, decision: Decision, prevalence: float | None, costs: Costs, draws: Certainty
) -> list[OperatingPoint]:
    """The thresholds for every aim on one level of validation, every X-ray weighing the same, as a classifier's own is chosen.

    F1 and cost depend on how common fractures are, so the classes are weighted to `prevalence` first.

    Args:
        rows: columns group, label, logit and patient, where it is known; files or X-rays; None: not at hand, so only what needs no
            choosing is returned.
        prevalence: share of fractured X-rays; None: that of `rows`.
        draws: that each threshold is the mean of; of none: chosen on `rows` as they are.
    """
    fixed = [OperatingPoint("own", decision.threshold, "the model"), OperatingPoint("default", 0.5, "given")]
    if rows is None:
        return fixed
    label, probability = rows["label"].to_numpy(), decision.probability(rows["logit"])
    weight = scores.equal_group_weight(rows["group"])
    if prevalence is not None:
        weight = weighted_to(prevalence, label, weight)

    def best(objective: thresholds.Objective, **options: float) -> float:
        return bagged_thresholds.choose(
            label, probability, objective, drawn(rows), weight=weight, n_draws=draws.n_draws, seed=draws.seed, **options
        )

    prices = {"cost_false_negative": costs.false_negative, "cost_false_positive": costs.false_positive}
    chosen = {"weighted Youden": best("weighted_youden"), "Youden": best("balanced_accuracy")}
    chosen |= {"best F1": best("f1"), "minimum cost": best("cost", **prices)}
    chosen |= {
        f"sensitivity {least:.2f}": best("specificity_at_sensitivity", min_sensitivity=least) for least in SENSITIVITIES
    }
    return fixed + [OperatingPoint(name, value, CHOSEN_ON) for name, value in chosen.items()]


def weighted_to(prevalence: float, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights [n] whose fractured share is `prevalence`, their ratios within a class and their sum as they were."""
    positive = weight[label == 1].sum() / weight.sum()
    return weight * np.where(label == 1, prevalence / positive, (1 - prevalence) / (1 - positive))


def rates_at(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float, costs: Costs
) -> dict[str, np.ndarray]:
    """What sensitivity and specificity come to where a share `prevalence` of X-rays is fractured, by Bayes' formula.

    Both are of any shape [...], and so is each rate; NaN where its denominator is 0. Flagged X-rays and cost per 1,000.
    """
    true_positive, false_negative = _share(prevalence, sensitivity), _share(prevalence, 1 - sensitivity)
    true_negative, false_positive = _share(1 - prevalence, specificity), _share(1 - prevalence, 1 - specificity)
    there = Counts(true_positive, false_negative, false_positive, true_negative)
    cost = costs.false_negative * false_negative + costs.false_positive * false_positive
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": there.precision,
        "negative_predictive_value": there.negative_predictive_value,
        "flagged_per_1000": 1000 * there.flagged,
        "cost_per_1000": 1000 * cost,
    }


def _share(of_all: float, rate: np.ndarray) -> np.ndarray:
    """Of none the share is none, though its rate be undefined."""
    return of_all * rate if of_all else np.zeros_like(rate)


def table(
    rows: pd.DataFrame,
    decision: Decision,
    points: Sequence[OperatingPoint],
    prevalence: float,
    costs: Costs,
    certainty: Certainty,
) -> pd.DataFrame:
    """A row for each point: name, threshold, chosen_on, prevalence, and every rate with RATE_low and RATE_high.

    The intervals are of the rates at thresholds and a prevalence that are held fixed, see `metrics.rates`.

    Args:
        rows: columns group, label, logit, patient, where it is known, and weight, where files differ in it; files or X-rays.
        prevalence: share of fractured X-rays where the classifier is to be used.
    """
    label, probability, weight = check_scores(rows["label"], decision.probability(rows["logit"]), weight_of(rows))

    def measured(point: OperatingPoint) -> dict[str, Interval]:
        both = BothRates.of(label, decide(probability, point.threshold), drawn(rows), weight)
        return both.ends(lambda *rates: rates_at(*rates, prevalence, costs))

    return pd.DataFrame([asdict(point) | {"prevalence": prevalence} | _row(measured(point)) for point in points])


def _row(found: Mapping[str, Interval]) -> dict[str, float]:
    return {
        f"{rate}{end}": value for rate in _RATES for end, value in zip(("", "_low", "_high"), found[rate], strict=True)
    }


def judge(
    predictions: Mapping[str, pd.DataFrame],
    decision: Decision,
    options: OperatingOptions,
    remark: str,
    certainty: Certainty,
    chosen_on: pd.DataFrame | None,
) -> Report:
    """Operating points of every split, per file and per X-ray, all chosen on validation.

    Args:
        predictions: name of the split → a row per file: group, label, logit and patient.
        remark: stands in every title; may be empty.
        chosen_on: the same for validation; None where that is not at hand: then only the thresholds are judged that are not chosen.
    """
    found = Report()
    costs = Costs(options.cost_false_negative, options.cost_false_positive)
    given = None if options.prevalence == "auto" else options.prevalence
    validation = {} if chosen_on is None else levels(chosen_on)
    for level in ("image", "xray"):
        points = choose(
            validation.get(level), decision, given, costs, Certainty(bagged_thresholds.N_DRAWS, certainty.seed)
        )
        for split, files in predictions.items():
            rows, place = levels(files)[level], f"{split}/{level}/operating_points"
            prevalence = _prevalence_of(files) if given is None else given
            result = table(rows, decision, points, prevalence, costs, certainty)
            found.tables[f"{place}.csv"] = result
            found.documents[f"{place}.json"] = _as_document(result, given is None, costs)
            title = f"Operating points · {title_of(split, level, rows if level == 'image' else files, remark)}"
            found.figures[f"{place}.png"] = plots.operating_points(result, title, chosen_here=split == CHOSEN_ON)
    return found


def _prevalence_of(files: pd.DataFrame) -> float:
    """Share of fractured among the X-rays, each counted once."""
    return float(files.groupby("group")["label"].first().mean())


def _as_document(result: pd.DataFrame, of_the_split: bool, costs: Costs) -> dict[str, object]:
    return {
        "prevalence": float(result["prevalence"].iloc[0]),
        "prevalence_from": "the X-rays of this split" if of_the_split else "given",
        "cost_false_negative": costs.false_negative,
        "cost_false_positive": costs.false_positive,
        "points": list(_without_nan(result.drop(columns="prevalence"))),
    }


def _without_nan(result: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Rows for JSON, which knows no NaN."""
    for row in result.to_dict("records"):
        yield {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}


def digest(findings: Report, split: str) -> str:
    """The operating points of a split per X-ray, as lines to print."""
    result = findings.tables[f"{split}/xray/operating_points.csv"]
    shown = pd.DataFrame({"operating point": result["name"], "threshold": result["threshold"].map("{:.3f}".format)})
    for rate in ("sensitivity", "specificity"):
        shown[rate] = [f"{v:.3f} [{lo:.3f}, {hi:.3f}]" for v, lo, hi in _with_ends(result, rate)]
    shown["PPV"] = result["precision"].map("{:.3f}".format)
    shown["NPV"] = result["negative_predictive_value"].map("{:.3f}".format)
    shown["flagged per 1,000"] = result["flagged_per_1000"].map("{:.0f}".format)
    prevalence = result["prevalence"].iloc[0]
    heading = (
        f"Operating points on {split}, each X-ray once, at a prevalence of {prevalence:.1%}; chosen on validation:"
    )
    return f"{heading}\n{shown.to_string(index=False)}"


def _with_ends(result: pd.DataFrame, rate: str) -> Iterator[tuple[float, float, float]]:
    return result[[rate, f"{rate}_low", f"{rate}_high"]].itertuples(index=False, name=None)
