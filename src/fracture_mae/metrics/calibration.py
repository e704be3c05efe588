"""Probabilities that mean what they say: temperature scaling, isotonic calibration, and the measure of both."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_both_classes, check_label, check_scores, check_vector, check_weight

# Wider than any useful temperature. It stops logits that separate the classes (T → 0: certain of everything) and logits
# that say nothing (T → ∞: always one half) at a finite value.
TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Return the T > 0 for which expit(logit / T) has the least weighted negative log likelihood.

    Fit it on the validation split. The order of the files, and with it AUROC, stays as it was.

    logit: [n], log odds of fractured; label: 0/1 [n]; weight: [n].
    Raises FractureMaeError for unusable arrays or a missing class.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    logit = check_vector(logit, "logit")
    label, weight = check_label(label, logit.size), check_weight(weight, logit.size)
    check_both_classes(label, weight, "fitting a temperature")
    weight = weight / weight.sum()

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logit / np.exp(log_temperature)
        return float(weight @ (np.logaddexp(0, scaled) - label * scaled))

    # Convex in 1/T, so with one minimum in log T.
    bounds = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def apply(logit: ArrayLike, temperature: float) -> np.ndarray:
    """Return the probability of fractured, expit(logit / temperature), as float64 in the shape of `logit`."""
    if not 0 < temperature < np.inf:
        raise FractureMaeError(f"temperature is {temperature}; expected a finite number above 0.")
    return expit(np.asarray(logit, dtype=np.float64) / temperature)


@dataclass(frozen=True)
class Isotonic:
    """A never falling, piecewise linear map from logit to probability.

    On its flat steps different logits come to one probability: those files are then tied, and AUROC may differ a little from
    that of the logits. Beyond its ends it stays at the last value.

    Attributes:
        logit: rising; probability: never falling; both of one length.
    """

    logit: tuple[float, ...]
    probability: tuple[float, ...]

    def apply(self, logit: ArrayLike) -> np.ndarray:
        """Return the probability of fractured, float64 in the shape of `logit`."""
        return np.interp(np.asarray(logit, dtype=np.float64), self.logit, self.probability)


def fit_isotonic(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> Isotonic:
    """Return the never falling map with the least weighted squared error (pool adjacent violators).

    Fit it on the validation split, and only where that holds hundreds of X-rays: it has far more freedom than a temperature.
    With X-rays that weigh 1 in total W, it answers neither below 1 / (W + 2) nor above (W + 1) / (W + 2), Laplace's rule of
    succession: W X-rays cannot show that a fracture is impossible, or certain.

    logit: [n], log odds of fractured; label: 0/1 [n]; weight: [n].
    Raises FractureMaeError for unusable arrays or a missing class.
    Source: Zadrozny & Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002.
    """
    logit = check_vector(logit, "logit")
    label, weight = check_label(label, logit.size), check_weight(weight, logit.size)
    check_both_classes(label, weight, "fitting an isotonic calibration")
    least = 1 / (weight.sum() + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(logit, label, sample_weight=weight)
    return Isotonic(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def expected_calibration_error(
    label: ArrayLike, probability: ArrayLike, n_bins: int = 15, weight: ArrayLike | None = None
) -> float:
    """Return the mean distance, in [0, 1], between the probability of fractured and the share that is fractured.

    Bins of equal width (l, u] as in Guo et al. 2017, here over the probability of the positive class.
    """
    label, probability, weight = check_scores(label, probability, weight)
    return float(calibration_errors(label, probability, weight, n_bins))


def calibration_errors(label: np.ndarray, probability: np.ndarray, weight: np.ndarray, n_bins: int = 15) -> np.ndarray:
    """Return the expected calibration error [...] of each weighting in weight [..., n]; arrays already checked."""
    inner_edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    in_bin = np.searchsorted(inner_edges, probability)[:, None] == np.arange(n_bins)  # [n, bins]
    gap = weight @ (in_bin * (probability - label)[:, None])  # [..., bins], weight times distance
    return np.abs(gap).sum(axis=-1) / weight.sum(axis=-1)
