"""What rates come to where another share of X-rays is fractured than among those that were judged."""

from dataclasses import dataclass

import numpy as np

from fracture_mae.metrics.thresholds import Counts


@dataclass(frozen=True)
class Costs:
    """Prices in one unit of one's own: of a missed fracture and of a false alarm."""

    false_negative: float
    false_positive: float


def weighted_to(prevalence: float, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights [n] whose fractured share is `prevalence`, their ratios within a class and their sum as they were."""
    positive = weight[label == 1].sum() / weight.sum()
    return weight * np.where(label == 1, prevalence / positive, (1 - prevalence) / (1 - positive))


def rates_at(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float, costs: Costs
) -> dict[str, np.ndarray]:
    """What sensitivity and specificity come to where a share `prevalence` of X-rays is fractured, by Bayes' formula.

    Both are of any shape [...], and so is each rate; NaN where its denominator is 0. Flagged X-rays and cost per 1,000, and how many
    flagged X-rays have to be read for each fracture among them.
    """
    true_positive, false_negative = _share(prevalence, sensitivity), _share(prevalence, 1 - sensitivity)
    true_negative, false_positive = _share(1 - prevalence, specificity), _share(1 - prevalence, 1 - specificity)
    there = Counts(true_positive, false_negative, false_positive, true_negative)
    cost = costs.false_negative * false_negative + costs.false_positive * false_positive
    with np.errstate(invalid="ignore", divide="ignore"):
        read = np.where(there.precision > 0, 1 / np.asarray(there.precision), np.nan)[()]
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": there.precision,
        "negative_predictive_value": there.negative_predictive_value,
        "flagged_per_1000": 1000 * there.flagged,
        "read_per_fracture": read,
        "cost_per_1000": 1000 * cost,
    }


def _share(of_all: float, rate: np.ndarray) -> np.ndarray:
    """Of none the share is none, though its rate be undefined."""
    return of_all * rate if of_all else np.zeros_like(rate)
