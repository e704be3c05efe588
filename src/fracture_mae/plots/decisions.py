"""Probabilities and decisions against the truth."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import sklearn.metrics
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve

from fracture_mae.metrics.calibration import expected_calibration_error
from fracture_mae.plots.style import (
    BLUE,
    COLOURS,
    DPI,
    GREEN,
    GREY,
    INK,
    MARK,
    ORANGE,
    PURPLE,
    RED,
    REFERENCE,
    SKY,
    figure_of,
    interval_text,
    legend,
    style,
)

Scores = Mapping[
    str, tuple[ArrayLike, ...]
]  # name → (label 0/1 [n], probability [n]) and, where files differ, weight [n]
Intervals = Mapping[str, tuple[float, float]]  # name → (low, high)


def confusion_matrix(matrix: np.ndarray, label_names: Sequence[str], title: str = "") -> Figure:
    """Draw `metrics.confusion`: counts, and what share of the true class they are; label_names: negative, positive."""
    figure, axes = figure_of(4.6, 4.4, title)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.7 else INK
        text = f"{count:,}" if matrix.dtype.kind == "i" else f"{count:,.1f}"  # sums of weights are no whole numbers
        axes.text(column, row - 0.06, text, ha="center", va="center", fontsize=18, color=colour)
        axes.text(column, row + 0.16, f"{share[row, column]:.1%}", ha="center", va="center", fontsize=11, color=colour)
    axes.set_xticks([0, 1], label_names)
    axes.set_yticks([0, 1], label_names, rotation=90, va="center")
    axes.set(xlabel="Predicted", ylabel="True")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set(visible=True, color=GREY)
    return figure


def roc_curves(curves: Scores, intervals: Intervals | None = None, title: str = "ROC") -> Figure:
    """Draw a ROC curve per name; intervals of the AUROC, where given, stand in the legend."""
    figure, axes = figure_of(5.4, 5.9 + 0.2 * len(curves), title)
    for name, label, probability, weight, colour in _with_both_classes(axes, curves):
        false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
        area = sklearn.metrics.roc_auc_score(label, probability, sample_weight=weight)
        axes.plot(false_positive_rate, sensitivity, color=colour, label=_with_interval(name, area, intervals))
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Chance 0.500")
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    legend(figure, "AUROC", loc="outside lower center")
    return figure


def precision_recall_curves(
    curves: Scores, intervals: Intervals | None = None, title: str = "Precision-recall"
) -> Figure:
    """Draw a precision-recall curve per name, dotted its share of fractured (chance); intervals are of the AP."""
    figure, axes = figure_of(5.4, 5.9 + 0.2 * len(curves), title)
    for name, label, probability, weight, colour in _with_both_classes(axes, curves):
        precision, recall, _ = sklearn.metrics.precision_recall_curve(label, probability, sample_weight=weight)
        area = sklearn.metrics.average_precision_score(label, probability, sample_weight=weight)
        text = _with_interval(name, area, intervals)
        axes.plot(recall, precision, color=colour, drawstyle="steps-post", label=text)
        axes.axhline(np.average(label, weights=weight), color=colour, linestyle=":", linewidth=1.2)
    axes.set(xlabel="Sensitivity (recall)", ylabel="Precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    legend(figure, "Average precision (dotted: chance)", loc="outside lower center")
    return figure


def reliability(
    label: ArrayLike,
    probability: ArrayLike,
    n_bins: int = 15,
    before: ArrayLike | None = None,
    intervals: Intervals | None = None,
    title: str = "Reliability",
    weight: ArrayLike | None = None,
) -> Figure:
    """Draw the share of fractured against the probability in bins of equal width, and below how many files stand there.

    before: the probabilities before calibration, to be drawn beside;
    intervals: of the expected calibration error (ECE) under "before" and "after"; weight: [n], of each file.
    """
    figure = Figure(figsize=(5.6, 6.2), dpi=DPI, layout="constrained")
    axes, histogram = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.set_title(title, fontsize=11, color=INK)
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Perfect")
    series = {"after": ("Calibrated" if before is not None else "Probability", probability, BLUE)}
    if before is not None:
        series = {"before": ("Before", before, ORANGE)} | series
    for key, (name, values, colour) in series.items():
        share, mean = _calibration_curve(label, values, n_bins, weight)
        error = expected_calibration_error(label, values, n_bins, weight)
        axes.plot(
            mean,
            share,
            marker="o",
            markersize=5,
            color=colour,
            label=_with_interval(
                f"{name}: ECE", error, {f"{name}: ECE": intervals[key]} if key in (intervals or {}) else None
            ),
        )
        histogram.hist(values, bins=np.linspace(0, 1, n_bins + 1), weights=weight, color=colour, alpha=0.55)
    axes.set(ylabel="Share fractured", ylim=(-0.02, 1.02))
    histogram.set(xlabel="Probability of fractured", ylabel="Files", xlim=(-0.01, 1.01))
    histogram.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for each in (axes, histogram):
        style(each)
    legend(axes, loc="best")
    return figure


def threshold_sweep(table: pd.DataFrame, chosen: float, title: str = "Threshold sweep") -> Figure:
    """Draw `metrics.threshold_sweep`: every rate against the threshold; `chosen` is marked."""
    figure, axes = figure_of(7.2, 4.6, title)
    rates = [column for column in table.columns if column != "threshold"]
    for rate, colour in zip(rates, COLOURS, strict=False):
        axes.plot(table["threshold"], table[rate], color=colour, label=rate.replace("_", " ").capitalize())
    axes.axvline(chosen, **MARK, label=f"Chosen {chosen:.3f}")
    axes.set(xlabel="Threshold", ylabel="Rate", xlim=(0, 1), ylim=(-0.02, 1.02))
    legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def operating_points(table: pd.DataFrame, title: str = "Operating points", chosen_here: bool = False) -> Figure:
    """Draw what each operating point comes to: a row per point, rates with their intervals, flagged X-rays of 1,000.

    table: as of `operating_points.table`; chosen_here: the thresholds were chosen on these very X-rays.
    """
    figure = Figure(figsize=(11.0, 1.9 + 0.5 * len(table)), dpi=DPI, layout="constrained")
    where = "chosen on these X-rays: they look better than they are" if chosen_here else "chosen on validation"
    prevalence = f"prevalence {table['prevalence'].iloc[0]:.1%} · thresholds {where}"
    figure.suptitle(f"{title}\n{prevalence}", fontsize=11, color=INK)
    panels = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(table))
    pairs = ({"sensitivity": BLUE, "specificity": RED}, {"precision": GREEN, "negative_predictive_value": PURPLE})
    for axes, pair in zip(panels, pairs, strict=False):
        for (rate, colour), offset in zip(pair.items(), (-0.13, 0.13), strict=True):
            _rates(axes, table, rate, rows + offset, colour)
        axes.set(xlim=(-0.02, 1.02), xlabel="Share")
        legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _rates(panels[2], table, "flagged_per_1000", rows, SKY)
    panels[2].set(xlim=(-20, 1020), xlabel="X-rays of 1,000")
    legend(panels[2], loc="lower center", bbox_to_anchor=(0.5, 1.0))
    names = [f"{name}\nat {threshold:.3f}" for name, threshold in zip(table["name"], table["threshold"], strict=True)]
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    for axes in panels:
        style(axes)
    return figure


def _rates(axes: Axes, table: pd.DataFrame, rate: str, heights: np.ndarray, colour: str) -> None:
    """A mark with its interval for each row that has the rate."""
    names = {"precision": "Precision (PPV)", "negative_predictive_value": "Negative predictive value"}
    label = names.get(rate, rate.replace("_per_1000", "").capitalize())
    reach = np.abs(table[[f"{rate}_low", f"{rate}_high"]].to_numpy().T - table[rate].to_numpy())
    marks = {"fmt": "o", "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
    axes.errorbar(table[rate], heights, xerr=reach, label=label, **marks)


def _calibration_curve(
    label: ArrayLike, probability: ArrayLike, n_bins: int, weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of fractured and the mean probability of each bin of equal width that is not empty."""
    if weight is None:
        return calibration_curve(label, probability, n_bins=n_bins)
    in_bin = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], probability)  # scikit-learn's own takes no weights
    total = np.bincount(in_bin, weight, n_bins)
    filled = total > 0
    sums = [np.bincount(in_bin, np.multiply(values, weight), n_bins) for values in (label, probability)]
    return sums[0][filled] / total[filled], sums[1][filled] / total[filled]


def _with_both_classes(axes: Axes, curves: Scores) -> Iterator[tuple[str, ArrayLike, ArrayLike, ArrayLike | None, str]]:
    """Yield name, label, probability, weight and colour of each curve; one that lacks a class is only named in the legend."""
    for (name, (label, probability, *weight)), colour in zip(curves.items(), cycle(COLOURS)):
        if np.unique(label).size == 2:
            yield name, label, probability, next(iter(weight), None), colour
        else:
            axes.plot([], [], color=colour, label=f"{name}: one class alone, undefined")


def _with_interval(name: str, value: float, intervals: Intervals | None) -> str:
    if intervals is None or name not in intervals:
        return f"{name} {value:.3f}"
    return f"{name} {interval_text(value, *intervals[name])}"
