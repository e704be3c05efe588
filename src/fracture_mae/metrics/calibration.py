"""Probabilities that mean what they say: temperature scaling, isotonic calibration, and the measure of both."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_both_classes, check_label, check_scores, check_vector, check_weight

# Wider than any useful temperature. It stops logits that separate the classes (T → 0: certain of everything) and logits
# that say nothing (T → ∞: always one half) at a finite value.
TEMPERATURE_RANGE = (0.05, 20.0)
_SURE = 1e-9  # probabilities nearer to 0 or 1 have no log odds that could be computed with
_STEPS, _SETTLED = 40, 1e-3  # of Newton's method, each of at most 1; one that is larger at the end will never settle


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


def agreement(label: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far probabilities agree with what came true, under each weighting in weight [..., n]; arrays already checked.

    observed_to_expected: number of fractured over the sum of the probabilities; 1 is right.
    calibration_in_the_large: what must be added to the log odds for both to be equal; 0 is right, below 0 they are too high.
    calibration_slope: by what the log odds must be multiplied; 1 is right, below 1 they are too sure.
    Values [...]; NaN where one class alone has weight, but for the first, and where log odds separate the classes.
    Source: Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 17, 2019.
    """
    log_odds = logit(np.clip(probability, _SURE, 1 - _SURE))
    one = np.ones_like(log_odds)
    positive, total = weight @ label, weight.sum(axis=-1)
    both = (positive > 0) & (positive < total)
    (large,) = _logistic(one[None], log_odds, label, weight)
    _, slope = _logistic(np.stack([one, log_odds]), 0 * log_odds, label, weight)
    return {
        "observed_to_expected": positive / (weight @ probability),
        "calibration_in_the_large": np.where(both, large, np.nan),
        "calibration_slope": np.where(both, slope, np.nan),
    }


def _logistic(columns: np.ndarray, offset: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the coefficients [k, ...] of label on columns [k, n], beside a fixed offset [n], for weight [..., n].

    By Newton's method; NaN where it does not converge, as where the columns separate the labels.

    All weightings at once: scikit-learn would fit a thousand draws one by one.
    """
    coefficients = np.zeros((*weight.shape[:-1], len(columns)))
    ridge = 1e-9 * np.eye(len(columns))  # where nothing varies, there is nothing to solve for
    for _ in range(_STEPS):
        fitted = expit(coefficients @ columns + offset)
        gradient = (weight * (label - fitted)) @ columns.T
        curvature = np.einsum("...n,in,jn->...ij", weight * fitted * (1 - fitted), columns, columns, optimize=True)
        step = np.linalg.solve(curvature + ridge, gradient[..., None])[..., 0]
        coefficients = coefficients + step.clip(-1, 1)
    return np.moveaxis(np.where(np.abs(step) < _SETTLED, coefficients, np.nan), -1, 0)


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
