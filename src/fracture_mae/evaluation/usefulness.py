"""Whether a classifier is of use: net benefit against flagging every X-ray, and against flagging none (Vickers & Elkin 2006).

Who would have an X-ray read again at a probability of fracture of p says that a missed fracture weighs as much as (1 - p) / p false
alarms: at 1/6, five. At that threshold probability the net benefit is the share of X-rays that are found fractures less the share that
are false alarms times p / (1 - p) (Vickers & Elkin, "Decision curve analysis", Medical Decision Making 26, 2006); a classifier is of
use where it has more than both flagging all and flagging none, which has 0. The two prices of an error name one such probability,
cost_false_positive / (cost_false_positive + cost_false_negative).

The probability that is compared with p is the classifier's own. Where the share of fractures is given, it is first moved from that of
the X-rays that the classifier was calibrated on to the given one, see `calibration.at_prevalence`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.config import OperatingOptions
from fracture_mae.evaluation.at_prevalence import Costs
from fracture_mae.evaluation.judging import drawn, levels, title_of
from fracture_mae.metrics import calibration
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.rates import BothRates
from fracture_mae.metrics.thresholds import Counts, decide
from fracture_mae.tracking.report import Report

_GRID = np.arange(1, 100) / 100  # threshold probabilities


def net_benefit(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float, at: np.ndarray) -> np.ndarray:
    """Net benefit [..., k] of rates [..., k] at threshold probabilities `at` [k], in found fractures per X-ray."""
    return prevalence * sensitivity - (1 - prevalence) * (1 - specificity) * at / (1 - at)


def flag_all(prevalence: float, at: np.ndarray) -> np.ndarray:
    """Net benefit of flagging every X-ray, in the shape of `at`."""
    return net_benefit(np.ones_like(at), np.zeros_like(at), prevalence, at)


def at_costs(costs: Costs) -> float:
    """The threshold probability that two prices come to."""
    return costs.false_positive / (costs.false_positive + costs.false_negative)


def decision_curve(rows: pd.DataFrame, probability: np.ndarray, prevalence: float, at: np.ndarray) -> pd.DataFrame:
    """A row for each threshold probability.

    Args:
        rows: columns label, group and patient, where it is known; X-rays of both classes.
        probability: [n], of each.
        prevalence: share of fractured X-rays where the classifier is to be used.
        at: threshold probabilities [k], above 0 and below 1.

    Returns:
        Columns threshold_probability, net_benefit, low, high, flag_all, gain (over the better of flagging all and none), gain_low and
        gain_high, flagged_per_1000 and read_per_fracture. The ends follow from those of both rates, see `metrics.rates`; NaN where a
        class has too few patients.
    """
    label = rows["label"].to_numpy()
    default = np.maximum(flag_all(prevalence, at), 0)

    here = Counts.at(label, probability, at, np.ones(len(rows)))
    benefit = net_benefit(here.sensitivity, here.specificity, prevalence, at)
    low, high = _band(rows, probability, prevalence, at)
    found, alarms = prevalence * here.sensitivity, (1 - prevalence) * (1 - here.specificity)
    with np.errstate(invalid="ignore", divide="ignore"):
        read = np.where(found > 0, (found + alarms) / found, np.nan)
    return pd.DataFrame(
        {
            "threshold_probability": at,
            "net_benefit": benefit,
            "low": low,
            "high": high,
            "flag_all": flag_all(prevalence, at),
            "gain": benefit - default,
            "gain_low": low - default,
            "gain_high": high - default,
            "flagged_per_1000": 1000 * (found + alarms),
            "read_per_fracture": read,
        }
    )


def _band(
    rows: pd.DataFrame, probability: np.ndarray, prevalence: float, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends [k] of the net benefit's interval at each threshold probability, which follow from those of both rates."""
    label, of, weight = rows["label"].to_numpy(), drawn(rows), np.ones(len(rows))

    def ends(threshold: float) -> Interval:
        both = BothRates.of(label, decide(probability, threshold), of, weight)
        return both.ends(lambda *rates: {"net_benefit": net_benefit(*rates, prevalence, threshold)})["net_benefit"]

    found = [ends(threshold) for threshold in at]
    return np.array([each.low for each in found]), np.array([each.high for each in found])


def judge(
    predictions: Mapping[str, pd.DataFrame],
    decision: Decision,
    options: OperatingOptions,
    remark: str,
) -> Report:
    """The decision curve of every split that has both classes, per X-ray.

    Args:
        predictions: name of the split → a row per file: group, label, logit and patient.
        remark: stands in every title; may be empty.
    """
    found = Report()
    costs = Costs(options.cost_false_negative, options.cost_false_positive)
    for split, files in predictions.items():
        rows = levels(files)["xray"]
        share = float(rows["label"].mean())
        if share in (0, 1):
            continue
        probability, prevalence = decision.probability(rows["logit"]), share
        if options.prevalence != "auto":
            prevalence = options.prevalence
            probability = calibration.at_prevalence(probability, prevalence, decision.prevalence or share)
        whole = decision_curve(rows, probability, prevalence, np.append(at_costs(costs), _GRID))
        own, curve = whole.iloc[0], whole.iloc[1:]
        place, title = f"{split}/xray", f"Decision curve · {title_of(split, 'xray', files, remark)}"
        found.tables[f"{place}/decision_curve.csv"] = whole.assign(at_costs=whole.index == 0)
        found.figures[f"{place}/decision_curve.png"] = plots.decision_curve(curve, own, prevalence, title)
        found.documents[f"{place}/usefulness.json"] = _summary(own, curve, prevalence, costs)
        found.metrics |= {
            f"{place}/{name}": float(own[column]) for name, column in _LOGGED.items() if np.isfinite(own[column])
        }
    return found


_LOGGED = {
    "net_benefit": "net_benefit",
    "net_benefit_low": "low",
    "net_benefit_high": "high",
    "net_benefit_gain": "gain",
    "net_benefit_gain_low": "gain_low",
    "net_benefit_gain_high": "gain_high",
    "read_per_fracture": "read_per_fracture",
}


def _summary(own: pd.Series, curve: pd.DataFrame, prevalence: float, costs: Costs) -> dict[str, object]:
    useful = curve.loc[curve["gain_low"] > 0, "threshold_probability"]
    return {
        "prevalence": prevalence,
        "cost_false_negative": costs.false_negative,
        "cost_false_positive": costs.false_positive,
        "at_costs": {name: None if np.isnan(value) else float(value) for name, value in own.items()},
        "useful": [float(useful.min()), float(useful.max())] if len(useful) else None,
    }


def digest(findings: Report, split: str) -> str:
    """Whether it is of use, in two lines to print; empty where one class is alone."""
    found = findings.documents.get(f"{split}/xray/usefulness.json")
    if found is None:
        return ""
    own, useful = found["at_costs"], found["useful"]
    missed = found["cost_false_negative"] / found["cost_false_positive"]
    read = (
        "none is found"
        if own["read_per_fracture"] is None
        else f"{own['read_per_fracture']:.1f} are read for each fracture found"
    )
    where = f"{useful[0]:.2f} to {useful[1]:.2f}" if useful else "none"
    benefit = plots.interval_text(
        *(np.nan if own[name] is None else own[name] for name in ("net_benefit", "low", "high"))
    )
    return (
        f"Net benefit on {split}, each X-ray once, at a prevalence of {found['prevalence']:.1%} where a missed fracture weighs "
        f"{missed:g} false alarms (flagged from a probability of {own['threshold_probability']:.3f} on): {benefit}, flagging all "
        f"{own['flag_all']:.3f}, none 0; "
        f"{own['flagged_per_1000']:.0f} of 1,000 X-rays are flagged, {read}.\n"
        f"Clearly better than flagging all and none at threshold probabilities: {where}."
    )
