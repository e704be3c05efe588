"""Operating points: what a classifier would do at thresholds that answer to different aims, for a given share of fractures.

Every threshold is chosen on the validation X-rays, or on predictions out of fold where the classifier keeps some, and then applied to
all splits as it is. One that was chosen on the X-rays it is judged on would look better than it is, so the table says of each where it
was chosen. A server answers file by file, while X-rays are judged by the mean of their files: where these differ, both rates are told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.config import OperatingOptions
from fracture_mae.evaluation.aims import Aim, aims
from fracture_mae.evaluation.at_prevalence import Costs, rates_at, weighted_to
from fracture_mae.evaluation.chosen_on import VALIDATION, ChosenOn
from fracture_mae.evaluation.judging import Certainty, drawn, levels, title_of, weight_of
from fracture_mae.metrics import bagged_thresholds, scores, thresholds
from fracture_mae.metrics.arrays import check_scores
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.rates import BothRates
from fracture_mae.metrics.thresholds import Counts, decide
from fracture_mae.tracking.report import Report

_RATES = (
    *("sensitivity", "specificity", "precision", "negative_predictive_value"),
    *("flagged_per_1000", "read_per_fracture", "cost_per_1000"),
)
_BOTH = {"image": "per_file", "xray": "per_xray"}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with an aim.

    Attributes:
        name: of the aim.
        threshold: positive from this probability on.
        chosen_on: "validation", "out of fold", "held-out sources", "the model" (its own threshold) or "given".
        confidence: that the true sensitivity is as high as the aim says; NaN where it says none.
    """

    name: str
    threshold: float
    chosen_on: str
    confidence: float = np.nan


class Chosen(NamedTuple):
    """The operating points of one level, and what is to be said of those for a wanted sensitivity."""

    points: list[OperatingPoint]
    aims: list[Aim]


def choose(
    rows: pd.DataFrame | None,
    decision: Decision,
    prevalence: float | None,
    costs: Costs,
    draws: Certainty,
    *,
    assurance: float | None = None,
    place: str = VALIDATION,
) -> Chosen:
    """The thresholds for every aim on one level of the X-rays to choose on, each weighing the same, as a classifier's own is chosen.

    F1 and cost depend on how common fractures are, so the classes are weighted to `prevalence` first.

    Args:
        rows: columns group, label, probability and patient, where it is known; files or X-rays; None: not at hand, so only what needs
            no choosing is returned.
        prevalence: share of fractured X-rays; None: that of `rows`.
        draws: that each threshold is the mean of; of none: chosen on `rows` as they are.
        assurance: how sure one wants to be that a wanted sensitivity is the true one; there is no point for what the X-rays cannot
            assure. None: it is reached on `rows`.
        place: which X-rays `rows` are.
    """
    fixed = [OperatingPoint("own", decision.threshold, "the model"), OperatingPoint("default", 0.5, "given")]
    if rows is None:
        return Chosen(fixed, [])
    label, probability = rows["label"].to_numpy(), rows["probability"].to_numpy()
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
    wanted = aims(
        rows, lambda least: best("specificity_at_sensitivity", min_sensitivity=least), assurance=assurance, place=place
    )
    points = [OperatingPoint(name, value, place) for name, value in chosen.items()]
    points += [
        OperatingPoint(f"sensitivity {aim.min_sensitivity:.2f}", aim.threshold, place, aim.confidence)
        for aim in wanted
        if aim.threshold is not None
    ]
    return Chosen(fixed + points, wanted)


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
    chosen_on: ChosenOn | None,
) -> Report:
    """Operating points of every split, per file and per X-ray, all chosen on the same X-rays.

    Args:
        predictions: name of the split → a row per file: group, label, logit and patient.
        remark: stands in every title; may be empty.
        chosen_on: None where such X-rays are not at hand: then only the thresholds are judged that are not chosen.
    """
    found = Report()
    costs = Costs(options.cost_false_negative, options.cost_false_positive)
    given = None if options.prevalence == "auto" else options.prevalence
    assurance = None if options.assurance == "none" else options.assurance
    to_choose_on, place = ({}, VALIDATION) if chosen_on is None else (chosen_on.levels(decision), chosen_on.place)
    draws = Certainty(bagged_thresholds.N_DRAWS, certainty.seed)
    for level in _BOTH:
        chosen = choose(to_choose_on.get(level), decision, given, costs, draws, assurance=assurance, place=place)
        for split, files in predictions.items():
            rows, where = levels(files)[level], f"{split}/{level}/operating_points"
            prevalence = _prevalence_of(files) if given is None else given
            result = table(rows, decision, chosen.points, prevalence, costs, certainty)
            found.tables[f"{where}.csv"] = result.assign(**both_rates(files, decision, chosen.points))
            document = _as_document(found.tables[f"{where}.csv"], given is None, costs)
            document |= {"chosen_on": place, "one_file_per_xray": _one_file_each(files)}
            found.documents[f"{where}.json"] = document | {"aims": [aim.described() for aim in chosen.aims]}
            title = _title(split, level, files, remark)
            found.figures[f"{where}.png"] = plots.operating_points(result, title, place, chosen_here=split == place)
    return found


def both_rates(files: pd.DataFrame, decision: Decision, points: Sequence[OperatingPoint]) -> dict[str, np.ndarray]:
    """Sensitivity and specificity at the same thresholds per file and per X-ray, each [points]: `sensitivity_per_file`, ….

    Per file is what a server does, which sees one at a time; an X-ray is judged by the mean logit of its files.
    """
    found = {}
    for level, rows in levels(files).items():
        probability, weight = decision.probability(rows["logit"]), weight_of(rows)
        counts = Counts.at(
            rows["label"].to_numpy(),
            probability,
            np.array([point.threshold for point in points]),
            np.ones(len(rows)) if weight is None else weight,
        )
        found |= {f"{rate}_{_BOTH[level]}": getattr(counts, rate) for rate in ("sensitivity", "specificity")}
    return found


def _one_file_each(files: pd.DataFrame) -> bool:
    """Whether what is true of files is true of X-rays."""
    return not files["group"].duplicated().any()


def _title(split: str, level: str, files: pd.DataFrame, remark: str) -> str:
    rows = levels(files)[level] if level == "image" else files
    title = f"Operating points · {title_of(split, level, rows, remark)}"
    if _one_file_each(files):
        return title
    told = {
        "image": "as a server answers, file by file",
        "xray": "by the mean of an X-ray's files; a server answers file by file",
    }
    return f"{title}\n{told[level]}"


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
    document = findings.documents[f"{split}/xray/operating_points.json"]
    shown = pd.DataFrame({"operating point": result["name"], "threshold": result["threshold"].map("{:.3f}".format)})
    for rate in ("sensitivity", "specificity"):
        shown[rate] = [
            plots.interval_text(*each) for each in result[[rate, f"{rate}_low", f"{rate}_high"]].to_numpy(float)
        ]
        if not document["one_file_per_xray"]:
            shown[f"{rate} of files"] = result[f"{rate}_per_file"].map("{:.3f}".format)
    shown["PPV"] = result["precision"].map("{:.3f}".format)
    shown["NPV"] = result["negative_predictive_value"].map("{:.3f}".format)
    shown["flagged per 1,000"] = result["flagged_per_1000"].map("{:.0f}".format)
    shown["read per fracture"] = result["read_per_fracture"].map("{:.1f}".format)
    shown["cost per 1,000"] = result["cost_per_1000"].map("{:.0f}".format)
    prevalence, place = result["prevalence"].iloc[0], document["chosen_on"]
    heading = f"Operating points on {split}, each X-ray once, at a prevalence of {prevalence:.1%}; chosen {_on(place)}:"
    lines = [heading, shown.to_string(index=False), served(findings, split)]
    return "\n".join(filter(None, [*lines, *(aim["said"] for aim in document["aims"])]))


def served(findings: Report, split: str) -> str:
    """A sentence that says what a server does, file by file, where X-rays have several; empty elsewhere."""
    if findings.documents[f"{split}/xray/operating_points.json"]["one_file_per_xray"]:
        return ""
    own = findings.tables[f"{split}/image/operating_points.csv"].iloc[0]
    rates = [
        f"{rate} {own[f'{rate}_per_file']:.3f} per file and {own[f'{rate}_per_xray']:.3f} per X-ray"
        for rate in ("sensitivity", "specificity")
        if np.isfinite(own[rate])  # of one class alone the other rate is undefined
    ]
    return (
        f"A server answers file by file, an X-ray is judged by the mean of its files: at the model's own threshold {', '.join(rates)} "
        f"on {split}. Thresholds to serve with are those of {split}/image/operating_points.csv."
    )


def _on(place: str) -> str:
    return f"on {place}" if place == VALIDATION else place
