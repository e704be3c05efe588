"""Probabilities that mean what they say: Platt scaling, isotonic calibration, and both where fractures are rarer or more common."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_both_classes, check_label, check_vector, check_weight

# Per standard deviation of the logits: so flat that all probabilities are about the share of fractured, and still in their order.
_LEAST_SLOPE = 0.01


@dataclass(frozen=True)
class Sigmoid:
    """The map from a logit to the probability expit(slope · logit + intercept).

    Attributes:
        slope: above 0, so that the order of the files, and with it AUROC, stays as it was.
        intercept: what is added to the log odds.
        rises: whether the logits it was fitted to are higher where fractured; else they tell nothing, and every probability is about
            the share of fractured.
    """

    slope: float
    intercept: float
    rises: bool = True


def fit_sigmoid(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None, *, shift: bool = True) -> Sigmoid:
    """Return the map of the greatest weighted likelihood, by logistic regression on the logit: Platt scaling.

    Fit it on the validation split. Its intercept takes out what the sampler's and the loss's class weights added to every log odds, so
    that the mean probability is the share of fractured. The targets are Platt's: of positives that weigh P in total, (P + 1) / (P + 2)
    in place of 1, of negatives that weigh N, 1 / (N + 2) in place of 0. So logits that separate the few X-rays of a validation are not
    taken for certain of everything.

    logit: [n], log odds of fractured; label: 0/1 [n]; weight: [n], under which an X-ray weighs 1; shift: False has no intercept, which
    is temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017), with the temperature 1 / slope.

    Raises FractureMaeError for unusable arrays or a missing class.
    Source: J. Platt, "Probabilistic outputs for support vector machines", in Advances in Large Margin Classifiers, 1999.
    """
    logit = check_vector(logit, "logit")
    label, weight = check_label(label, logit.size), check_weight(weight, logit.size)
    check_both_classes(label, weight, "fitting a calibration")
    centre = np.average(logit, weights=weight) if shift else 0.0
    scale = np.sqrt(np.average((logit - centre) ** 2, weights=weight)) or 1.0
    positive, negative = (weight[label == value].sum() for value in (1, 0))
    target = np.where(label == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, intercept = _regression((logit - centre) / scale, target, weight, shift)
    rises = slope > _LEAST_SLOPE
    if not rises:
        share = positive / (positive + negative)
        slope, intercept = _LEAST_SLOPE, np.log(share / (1 - share)) if shift else 0.0
    return Sigmoid(float(slope / scale), float(intercept - slope * centre / scale), bool(rises))


def _regression(values: np.ndarray, target: np.ndarray, weight: np.ndarray, intercept: bool) -> tuple[float, float]:
    """Slope and intercept of the log odds of soft targets in (0, 1) on values [n]: each file stands there once as 1, once as 0."""
    if not np.ptp(values):
        return 0.0, 0.0
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, solver="newton-cholesky", tol=1e-8, max_iter=200)
    both = np.repeat([1, 0], len(values))
    model.fit(np.tile(values, 2)[:, None], both, sample_weight=np.concatenate([weight * target, weight * (1 - target)]))
    return float(model.coef_[0, 0]), float(np.ravel(model.intercept_)[0])


def apply(logit: ArrayLike, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Return the probability of fractured, expit(slope · logit + intercept), as float64 in the shape of `logit`."""
    if not 0 < slope < np.inf or not np.isfinite(intercept):
        raise FractureMaeError(f"slope is {slope}, intercept {intercept}; expected finite numbers, the slope above 0.")
    return expit(slope * np.asarray(logit, dtype=np.float64) + intercept)


def at_prevalence(probability: ArrayLike, prevalence: float, fitted_at: float) -> np.ndarray:
    """Return what probabilities become where another share of X-rays is fractured, float64 in their shape; their order stays.

    Their odds are multiplied by the new odds of a fracture over those before, which is right where fractures and healthy bones look as
    they did, and are merely mixed in other shares. 0 and 1 stay what they are.

    prevalence, fitted_at: share of fractured X-rays there, and where the probabilities come true; within (0, 1).
    Raises FractureMaeError for a prevalence beyond.
    Source: Saerens, Latinne & Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
    Computation 14, 2002, equation 2.4.
    """
    if not 0 < prevalence < 1:
        raise FractureMaeError(f"prevalence: found {prevalence}, expected a share of fractured X-rays between 0 and 1")
    with np.errstate(divide="ignore"):
        return expit(logit(np.asarray(probability, dtype=np.float64)) + logit(prevalence) - logit(fitted_at))


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

    Fit it on the validation split, and only where that holds hundreds of X-rays: it has far more freedom than a slope and an intercept.
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
