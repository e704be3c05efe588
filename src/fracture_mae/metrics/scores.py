"""Arrays in, numbers out: how good the probabilities, the decisions and the reconstructions are.

A metric that its input does not define (such as AUROC with one class) is NaN, never an error or a warning.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_groups, check_label, check_scores, check_vector
from fracture_mae.metrics.thresholds import Counts, candidates, decide

MAX_SWEEP_ROWS = 201


def classification_report(
    label: ArrayLike,
    probability: ArrayLike,
    threshold: ArrayLike,
    label_names: Sequence[str],
    weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Return scikit-learn's classification report as a table.

    label_names: names of label 0 and label 1, in this order; weight: [n], then support is a sum of weights.
    Rows: the two names, accuracy, macro avg, weighted avg. Columns: precision, recall, f1-score, support; as in the
    printed report, the row accuracy has neither precision nor recall (NaN), and a ratio without denominator is 0.
    """
    label, probability, _ = check_scores(label, probability, weight)
    report = sklearn.metrics.classification_report(
        label,
        decide(probability, threshold),
        labels=[0, 1],
        target_names=["0", "1"],  # a class may have the name of another row
        output_dict=True,
        zero_division=0,
        sample_weight=weight,
    )
    report["accuracy"] = {"f1-score": report["accuracy"], "support": report["macro avg"]["support"]}
    table = pd.DataFrame(report).T[["precision", "recall", "f1-score", "support"]]
    table.index = [*label_names, *table.index[2:]]
    return table if weight is not None else table.astype({"support": int})


def confusion(
    label: ArrayLike, probability: ArrayLike, threshold: ArrayLike, weight: ArrayLike | None = None
) -> np.ndarray:
    """Return [2, 2] counts: rows are the true, columns the decided class; first negative, then positive.

    They are int64, or float64 sums of weight [n] where it is given.
    """
    label, probability, _ = check_scores(label, probability, weight)
    return sklearn.metrics.confusion_matrix(label, decide(probability, threshold), labels=[0, 1], sample_weight=weight)


def summary(
    label: ArrayLike, probability: ArrayLike, threshold: float, weight: ArrayLike | None = None
) -> dict[str, float]:
    """Return every metric of label 0/1 [n] against probability [n] at `threshold`, files weighted by weight [n]."""
    label, probability, weight = check_scores(label, probability, weight)
    return {name: float(value) for name, value in summaries(label, probability, threshold, weight).items()}


def summaries(
    label: np.ndarray, probability: np.ndarray, threshold: float, weight: np.ndarray
) -> dict[str, np.ndarray]:
    """Return every metric, shape [...], under each of the weightings in weight [..., n]; arrays already checked.

    The metrics of a bootstrap draw are those of its weights, so estimate and interval share this one definition.
    """
    return {
        "auroc": aurocs(label, probability, weight),
        **resampled_metrics(label, probability, weight),
        **decision_metrics(Counts.of(label, decide(probability, threshold), weight)),
    }


def summarised(
    metric: str, label: np.ndarray, probability: np.ndarray, threshold: float, weight: np.ndarray
) -> np.ndarray:
    """Return one metric of `summaries`, without computing all the others for a thousand draws."""
    if metric == "auroc":
        return aurocs(label, probability, weight)
    decided = decision_metrics(Counts.of(label, decide(probability, threshold), weight))
    return decided[metric] if metric in decided else resampled_metrics(label, probability, weight)[metric]


def resampled_metrics(label: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of `summaries` of which an interval needs a bootstrap, shape [...], under weight [..., n]."""
    total = weight.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "average_precision": _average_precision(*_ranked_counts(label, probability, weight)),
            "brier": weight @ (probability - label) ** 2 / total,
            "log_loss": weight @ _log_loss(label, probability) / total,
        }


def decision_metrics(counts: Counts) -> dict[str, np.ndarray]:
    """Return the metrics of `summaries` that follow from decisions alone, in the shape of `counts`."""
    return {
        "accuracy": counts.accuracy,
        "balanced_accuracy": counts.balanced_accuracy,
        "sensitivity": counts.sensitivity,
        "specificity": counts.specificity,
        "precision": counts.precision,
        "negative_predictive_value": counts.negative_predictive_value,
        "f1": counts.f_beta(1),
        "mcc": counts.mcc,
    }


def _ranked_counts(label: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted true and false positives [..., k + 1] as the k distinct probabilities are flagged one by one.

    The highest comes first, tied files together. The first column is zero: nothing is flagged.
    """
    order = np.argsort(-probability)
    last_of_tie = np.flatnonzero(np.diff(probability[order], append=-1))
    weight, positive = weight[..., order], label[order]

    def cumulated(values: np.ndarray) -> np.ndarray:
        ends = np.cumsum(values, axis=-1)[..., last_of_tie]
        return np.concatenate([np.zeros_like(ends[..., :1]), ends], axis=-1)

    return cumulated(weight * positive), cumulated(weight * (1 - positive))


def aurocs(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the AUROC of scores [n] of any scale, shape [...], under each weighting in weight [..., n]; NaN where undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _auroc(*_ranked_counts(label, np.unique(score, return_inverse=True)[1], weight))


def average_precisions(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the average precision of scores [n] of any scale, [...], under each weighting in weight [..., n]; NaN where undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _average_precision(*_ranked_counts(label, np.unique(score, return_inverse=True)[1], weight))


def _auroc(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
    area = np.trapezoid(true_positive, false_positive, axis=-1)
    return area / (true_positive[..., -1] * false_positive[..., -1])


def _average_precision(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
    """Precision at each distinct probability, weighted by the recall gained there (no interpolation)."""
    gained = np.diff(true_positive, axis=-1)
    precision = true_positive[..., 1:] / (true_positive[..., 1:] + false_positive[..., 1:])
    # Files of weight zero at the top leave precision 0/0, where no recall is gained.
    return np.where(gained > 0, gained * precision, 0).sum(axis=-1) / true_positive[..., -1]


def _log_loss(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    epsilon = np.finfo(np.float64).eps  # as scikit-learn clips: a certain error costs 36, not infinity
    probability = np.clip(probability, epsilon, 1 - epsilon)
    return -np.where(label == 1, np.log(probability), np.log1p(-probability))


def threshold_sweep(label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> pd.DataFrame:
    """Return what each threshold would give, ascending, at most 201 rows.

    The rows are all `threshold.candidates`, thinned evenly by rank if there are more.
    Columns: threshold, sensitivity, specificity, precision, f1, balanced_accuracy, flagged_share.
    """
    label, probability, weight = check_scores(label, probability, weight)
    thresholds = candidates(probability)
    n_rows = min(MAX_SWEEP_ROWS, thresholds.size)
    thresholds = thresholds[np.linspace(0, thresholds.size - 1, n_rows).round().astype(int)]
    counts = Counts.at(label, probability, thresholds, weight)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "sensitivity": counts.sensitivity,
            "specificity": counts.specificity,
            "precision": counts.precision,
            "f1": counts.f_beta(1),
            "balanced_accuracy": counts.balanced_accuracy,
            "flagged_share": counts.flagged / counts.total,
        }
    )


def equal_group_weight(group: ArrayLike) -> np.ndarray:
    """Return float64 weights [n] under which every group, however many files it has, counts 1."""
    _, member_of, size = np.unique(np.asarray(group), return_inverse=True, return_counts=True)
    return 1 / size[member_of]


def per_group(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per X-ray from one row per file: the columns group, label, logit (mean of its files), n_files.

    table: columns group, label (0/1), logit and, where it is known, patient, which is carried along.
    Take the probability with `calibration.apply`.
    Raises FractureMaeError if a group holds both labels.
    """
    logit = check_vector(table["logit"], "logit")
    check_groups(check_label(table["label"], logit.size), table["group"])
    columns = {"label": ("label", "first"), "logit": ("logit", "mean"), "n_files": ("label", "size")}
    if "patient" in table:
        columns = {"patient": ("patient", "first")} | columns
    return table.groupby("group", sort=True).agg(**columns).reset_index()


def reconstruction(original: np.ndarray, reconstructed: np.ndarray, mask: np.ndarray) -> pd.DataFrame:
    """Return how well each picture was rebuilt, one row per picture; the mean over pictures is `.mean()`.

    original, reconstructed: [n, h, w] grey in [0, 1]; mask: [n, h, w], 1 = hidden from the model, 0 = visible.
    Columns: masked_mse (hidden pixels alone, NaN if none is), and over the whole picture as passed mse, psnr
    (dB, data range 1, infinite for an exact copy) and ssim (Gaussian window, sigma 1.5, as Wang et al. 2004).
    Raises FractureMaeError for differing shapes, values outside [0, 1] and pictures smaller than SSIM's window.
    """
    original, reconstructed, mask = (_check_pictures(x) for x in (original, reconstructed, mask))
    if not original.shape == reconstructed.shape == mask.shape:
        raise FractureMaeError(
            f"original {original.shape}, reconstructed {reconstructed.shape} and mask {mask.shape} differ in shape."
        )
    squared_error = (original - reconstructed) ** 2
    mse = squared_error.mean(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        masked_mse = (squared_error * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))
        psnr = -10 * np.log10(mse)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # SciPy's filters, which take the time, let others run meanwhile
        ssim = list(pool.map(_ssim, original, reconstructed))
    return pd.DataFrame({"masked_mse": masked_mse, "mse": mse, "psnr": psnr, "ssim": ssim})


def _ssim(original: np.ndarray, reconstructed: np.ndarray) -> float:
    return structural_similarity(
        original, reconstructed, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )


def _check_pictures(pictures: np.ndarray) -> np.ndarray:
    pictures = np.asarray(pictures, dtype=np.float64)
    if pictures.ndim != 3 or min(pictures.shape) == 0 or min(pictures.shape[1:]) < 11:
        raise FractureMaeError(f"Pictures have shape {pictures.shape}; expected [n, h, w] with h and w of 11 or more.")
    if not (pictures.min() >= 0 and pictures.max() <= 1):
        raise FractureMaeError(
            f"Pictures reach from {pictures.min():g} to {pictures.max():g}; expected [0, 1]. Denormalise and clip them."
        )
    return pictures
