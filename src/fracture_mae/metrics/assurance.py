"""A threshold that keeps a sensitivity: the true one is as high as wanted with a wanted confidence, however scores are distributed.

Below the m-th lowest of n independent scores of fractures lies a share of all fractures that has a Beta(m, n - m + 1) distribution,
whatever that of the scores (Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics 12,
1941). So a threshold that misses m of n fractures keeps a sensitivity s with the confidence P(Binomial(n, 1 - s) > m): it is as high as
the assurance where the one-sided exact (Clopper-Pearson) lower end of the sensitivity is s. The threshold may be chosen so on the very
X-rays that are counted: it is the highest that is confident enough, which is the risk control of Angelopoulos, Bates, Candès, Jordan &
Lei, "Learn then test", 2021, for one risk that only rises.

Independent are patients, not files: one score of each counts, the lowest of those with a fracture. The higher ones are then found too,
so the promise holds for a file, for an X-ray (the mean of its files is no lower) and for a patient.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_scores, number_groups
from fracture_mae.metrics.thresholds import Counts, candidates, undominated


def confidence(n: int, n_missed: int, min_sensitivity: float) -> float:
    """Return how confident one is that a threshold which misses n_missed of n fractures has a true sensitivity of min_sensitivity."""
    return float(binom.sf(n_missed, n, 1 - min_sensitivity))


def most_missed(n: int, min_sensitivity: float, assurance: float) -> int | None:
    """Return how many of n fractures a threshold may miss at most; None where to miss none would not do."""
    allowed = np.flatnonzero(binom.sf(np.arange(n), n, 1 - min_sensitivity) >= assurance)
    return int(allowed[-1]) if allowed.size and allowed[0] == 0 else None


def needed(min_sensitivity: float, assurance: float) -> int:
    """Return how many fractures it takes, none of them missed: 29, 59 and 299 for 0.90, 0.95 and 0.99 at an assurance of 0.95."""
    if not 0 < min_sensitivity < 1:
        raise FractureMaeError(
            f"min_sensitivity is {min_sensitivity}; expected above 0 and below 1: no number of X-rays assures that none is missed."
        )
    n = max(1, math.ceil(math.log1p(-assurance) / math.log(min_sensitivity)) - 1)
    while most_missed(n, min_sensitivity, assurance) is None:  # once or twice: logarithms are rounded
        n += 1
    return n


def highest_assured(n: int, assurance: float) -> float:
    """Return the highest sensitivity that n fractures, none of them missed, assure, rounded down to thousandths."""
    return math.floor(1000 * (1 - assurance) ** (1 / n)) / 1000 if n else 0.0


def lowest_scores(label: ArrayLike, probability: ArrayLike, drawn: ArrayLike) -> np.ndarray:
    """Return the lowest probability of the fractured files of each patient who has some, ascending, float64 [patients].

    label: 0/1 [n]; probability: [n] in [0, 1]; drawn: [n], equal for the files of a patient, or of an X-ray where nothing is known of
    patients.
    """
    label, probability, _ = check_scores(label, probability)
    member_of = number_groups(label, drawn)[label == 1]
    lowest = np.full(member_of.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, member_of, probability[label == 1])
    return np.sort(lowest[np.isfinite(lowest)])


def choose(
    label: ArrayLike, probability: ArrayLike, drawn: ArrayLike, *, min_sensitivity: float, assurance: float
) -> float | None:
    """Return the highest threshold whose true sensitivity is min_sensitivity or more with confidence `assurance`.

    It lies midway between two neighbouring probabilities, as all `thresholds.candidates` do. None where the fractures are too few, see
    `needed`. Arrays as in `lowest_scores`; raises FractureMaeError for unusable ones.
    """
    lowest = lowest_scores(label, probability, drawn)
    most = most_missed(lowest.size, min_sensitivity, assurance)
    if most is None:
        return None
    label, probability, weight = check_scores(label, probability)
    among = candidates(probability)
    highest = np.searchsorted(among, lowest[most], side="right") - 1
    return float(among[undominated(Counts.at(label, probability, among, weight), highest)])


def shortfall(n: int, min_sensitivity: float, assurance: float, unit: str, where: str) -> str:
    """Return the sentence that says how many fractures an assurance needs and how many there are, n; "" where they are enough.

    unit: what is counted, such as `patients with a fracture`; where: such as `on validation`.
    """
    if most_missed(n, min_sensitivity, assurance) is not None:
        return ""
    return (
        f"a true sensitivity of {min_sensitivity:g} at an assurance of {assurance:g} needs {needed(min_sensitivity, assurance):,} "
        f"{unit}, none of them missed; found {n:,} {where}"
    )
