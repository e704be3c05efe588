"""Whether a challenger is better than the champion, and good enough at all.

The rule: both answer for the test X-rays that neither was shown, whatever was added to the data since the champion was made, and
the challenger wins if the metric, per X-ray, is better by more than a margin, and is so in at least the wanted share of bootstrap draws
over their patients, the same draws for both. Each decides at its own threshold, with its own calibration. A classifier that was shown
test X-rays never wins. Nor does one, be it the first, whose AUROC may be chance, or what files tell without their bones: the lower end
of its interval must be above both.

Of many equal challengers one would win by luck. So each further one on the same test X-rays must be better in a larger share of draws:
the k-th may be wrong with 6 / (π² k²) of the chance that is allowed for all together, which sums up to just that (spending alpha, after
K. Lan and D. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 1983; by Bonferroni, for any number of looks).
"""

import math
from typing import Any

import pandas as pd

from fracture_mae.config import PROMOTION_METRICS, Evaluate
from fracture_mae.evaluation import references
from fracture_mae.evaluation.judging import drawn, levels, slug
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.ends import FEWEST_GROUPS
from fracture_mae.metrics.intervals import paired_difference
from fracture_mae.metrics.scores import summary
from fracture_mae.metrics.thresholds import TIE
from fracture_mae.tracking.report import Report

LOWER_IS_BETTER = PROMOTION_METRICS[-2:]
_NO_INTERVAL = f", without an interval, as a class has fewer than {FEWEST_GROUPS} patients or X-rays"
_OTHER = {"sensitivity": "specificity", "specificity": "sensitivity"}


def below_floor(report: Report, split: str) -> str:
    """Why a classifier may be no better than chance, or than what files tell without their bones; empty where it is."""
    auroc, low = (report.metrics.get(f"{split}/xray/auroc{end}", math.nan) for end in ("", "_low"))
    reference = report.metrics.get(f"{split}/xray/auroc/all/{slug(references.FILE_PROPERTIES)}", math.nan)
    found = f"AUROC per X-ray on {split} {auroc:.3f}, of which the lower end, {low:.3f}, must be above"
    if math.isnan(low):
        return (
            f"its AUROC per X-ray on {split} is undefined, or has no interval; expected are {FEWEST_GROUPS} patients or more with an "
            "X-ray of each class (where nothing is known of patients, as many X-rays)"
        )
    if not low > 0.5:
        return f"{found} 0.5: it may be chance"
    if math.isnan(reference):
        return f"what {references.FILE_PROPERTIES} alone reach was not tested, and it must be better than that"
    if not low > reference:
        return f"{found} the {reference:.3f} that {references.FILE_PROPERTIES} alone reach"
    return ""


def beaten_by(report: Report, split: str) -> str:
    """What is to be said where gradient histograms do better than the network, and what that may be due to; empty where they do not."""
    name = f"xray/auroc/all/{slug(references.GRADIENT_HISTOGRAMS)}"
    reference = report.metrics.get(f"{split}/{name}", math.nan)
    if not reference > report.metrics[f"{split}/xray/auroc"]:
        return ""
    said = f"; {references.GRADIENT_HISTOGRAMS} with a straight line reach {reference:.3f}, more than the network"
    learnt, by_histograms = (report.metrics.get(f"train/{each}", math.nan) for each in ("xray/auroc", name))
    if math.isnan(learnt) or math.isnan(by_histograms):
        return said
    if learnt < by_histograms:
        return f"{said}, which has not learnt even its training X-rays as well ({learnt:.3f}, they {by_histograms:.3f})"
    return f"{said}, which has learnt its training X-rays ({learnt:.3f}), but less that holds for others"


def wanted_confidence(confidence: float, look: int) -> float:
    """The share of draws that the challenger of the `look`-th comparison on one test set needs; 0 stays 0, which asks for none."""
    return 1 - (1 - confidence) * 6 / (math.pi * look) ** 2 if confidence else 0.0


def compare(
    mine: pd.DataFrame, my_decision: Decision, theirs: pd.DataFrame, their_decision: Decision, config: Evaluate
) -> dict[str, Any]:
    """How much better the challenger is per X-ray, from predictions for the same files in the same order.

    Returns:
        metric, rule, the metric of `challenger` and `champion`, the challenger's `other` rate where the metric is one of the two, and
        `difference` (above 0: the challenger is better) with its 95 % interval and the share of draws in which it is above the margin;
        None for what is undefined.
    """
    ours, others = levels(mine)["xray"], levels(theirs)["xray"]
    sides = [
        {"probability": decision.probability(rows["logit"]), "threshold": decision.threshold}
        for rows, decision in ((ours, my_decision), (others, their_decision))
    ]
    scores = [summary(ours["label"], **side) for side in sides]
    values = [each[config.promote_metric] for each in scores]
    first, second = reversed(sides) if config.promote_metric in LOWER_IS_BETTER else sides
    found = paired_difference(
        ours["label"],
        first["probability"],
        second["probability"],
        drawn(ours),
        config.promote_metric,
        threshold_a=first["threshold"],
        threshold_b=second["threshold"],
        margin=config.promote_margin,
        n_draws=config.n_draws,
        seed=config.seed,
    )
    numbers = {
        "other": scores[0][_OTHER[config.promote_metric]] if config.promote_metric in _OTHER else math.nan,
        "challenger": values[0],
        "champion": values[1],
        "difference": found["estimate"],
        "difference_low": found["low"],
        "difference_high": found["high"],
        "share_above_margin": found["share_above"],
    }
    return {
        "metric": config.promote_metric,
        "margin": config.promote_margin,
        "confidence": config.promote_confidence,
        "n_xrays": len(ours),
        "n_draws": config.n_draws,
        **{name: None if pd.isna(value) else float(value) for name, value in numbers.items()},
    }


def is_better(comparison: dict[str, Any], margin: float, confidence: float, floor: float = 0.0) -> bool:
    """The rule itself; what is undefined is no victory."""
    difference, share = comparison["difference"], comparison["share_above_margin"]
    if comparison["metric"] in _OTHER and (comparison["other"] is None or comparison["other"] < floor - TIE):
        return False  # who flags everything misses nothing
    if difference is None or difference <= margin + TIE:
        return False
    return confidence == 0 or (share is not None and share >= confidence)


def in_words(comparison: dict[str, Any], champion: str, config: Evaluate) -> str:
    """What `compare` found, for the reason of a promotion."""
    value, other = comparison["challenger"], comparison["champion"]
    name = {"auroc": "AUROC", "mcc": "MCC", "f1": "F1"}.get(
        comparison["metric"], comparison["metric"].replace("_", " ")
    )
    if comparison["difference"] is None:
        return f"{name} per X-ray on {comparison['split']} is undefined for it or for the champion, version {champion}"
    interval = ""
    if comparison["difference_low"] is not None:
        interval = f" [{comparison['difference_low']:+.3f}, {comparison['difference_high']:+.3f}]"
    share = comparison["share_above_margin"]
    draws = (
        f", above the margin of {comparison['margin']:g} in {share:.1%} of draws" if share is not None else _NO_INTERVAL
    )
    return (
        f"{name} per X-ray on {comparison['split']} {value:.3f} against {other:.3f} of the champion, version {champion}: better by "
        f"{comparison['difference']:+.3f}{interval}{draws}; wanted: {comparison['confidence']:.2%}"
        f"{_looks(comparison)}{_floor(comparison, config)}"
    )


def _looks(comparison: dict[str, Any]) -> str:
    look = comparison["look"]
    return f", as challenger number {look} on these X-rays" if look > 1 else ""


def _floor(comparison: dict[str, Any], config: Evaluate) -> str:
    """What is said of the other rate, where the metric is sensitivity or specificity."""
    other = _OTHER.get(comparison["metric"])
    if other is None:
        return ""
    found = "undefined" if comparison["other"] is None else f"{comparison['other']:.3f}"
    return f"; its {other} is {found}, at least {config.promote_floor:g} is wanted"
