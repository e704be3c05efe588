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
    curve: pd.DataFrame,
    label: ArrayLike,
    probability: ArrayLike,
    *,
    told: Sequence[str] = (),
    before: pd.DataFrame | None = None,
    title: str = "Reliability",
    weight: ArrayLike | None = None,
) -> Figure:
    """Draw the share of fractured against the probability as a smooth curve, and below which probabilities both classes have.

    curve: as of `agreement.smooth_curve`, with its band; before: that of the probabilities before calibration, to be drawn beside;
    label: 0/1 [n]; probability: [n]; told: lines that say how well they agree; weight: [n], of each file.
    """
    figure = Figure(figsize=(5.6, 7.0), dpi=DPI, layout="constrained")
    axes, histogram = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.set_title(title, fontsize=11, color=INK)
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Perfect")
    if before is not None:
        axes.plot(before["probability"], before["share"], color=ORANGE, linestyle="--", label="Before calibration")
    name = "Calibrated" if before is not None else "Probability"
    axes.plot(curve["probability"], curve["share"], color=BLUE, label=name)
    if curve["low"].notna().any():
        band = curve["probability"], curve["low"], curve["high"]
        axes.fill_between(*band, color=BLUE, alpha=0.18, linewidth=0, label="95 % of draws")
    label, probability = np.asarray(label), np.asarray(probability)
    weight = np.ones(label.size) if weight is None else np.asarray(weight)
    edges = np.linspace(0, 1, 31)
    for value, sign, colour, called in ((1, 1, RED, "Fractured"), (0, -1, SKY, "Not fractured")):
        here = label == value
        count, _ = np.histogram(probability[here], edges, weights=weight[here])
        histogram.stairs(sign * count, edges, fill=True, color=colour, label=called)
    histogram.axhline(0, color=INK, linewidth=0.8)
    axes.set(ylabel="Share fractured", ylim=(-0.02, 1.02))
    histogram.set(xlabel="Probability of fractured", ylabel="Number", xlim=(-0.01, 1.01))
    histogram.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    histogram.yaxis.set_major_formatter(lambda number, _: f"{abs(number):g}")
    for each in (axes, histogram):
        style(each)
    legend(axes, loc="upper left")
    legend(histogram, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    if told:
        figure.supxlabel("\n".join(told), fontsize=9, color=INK)
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


def operating_points(
    table: pd.DataFrame, title: str = "Operating points", chosen_on: str = "validation", chosen_here: bool = False
) -> Figure:
    """Draw what each operating point comes to: a row per point, rates with their intervals, flagged X-rays of 1,000.

    table: as of `operating_points.table`; chosen_on: where thresholds were chosen; chosen_here: on these very X-rays.
    """
    figure = Figure(figsize=(11.0, 1.9 + 0.5 * len(table)), dpi=DPI, layout="constrained")
    where = "chosen on these X-rays: they look better than they are" if chosen_here else f"chosen {_on(chosen_on)}"
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


def decision_curve(curve: pd.DataFrame, at: pd.Series, prevalence: float, title: str = "Decision curve") -> Figure:
    """Draw the net benefit against the threshold probability with its band, beside flagging all and none.

    curve, at: rows of `usefulness.decision_curve`; the second where the user's prices put it, which is marked with its interval.
    """
    figure, axes = figure_of(7.2, 4.8, f"{title}\nprevalence {prevalence:.1%} · band: 95 %, by patient")
    x = curve["threshold_probability"]
    axes.plot(x, curve["flag_all"], color=ORANGE, label="Flag all")
    axes.axhline(0, **REFERENCE, label="Flag none")
    axes.plot(x, curve["net_benefit"], color=BLUE, label="Classifier")
    axes.fill_between(x, curve["low"], curve["high"], color=BLUE, alpha=0.18, linewidth=0)
    reach = [[at["net_benefit"] - at["low"]], [at["high"] - at["net_benefit"]]]
    marks = {"fmt": "o", "color": INK, "markersize": 5, "capsize": 4, "linewidth": 1.4}
    text = (
        f"At your prices, {at['threshold_probability']:.3f}: {interval_text(at['net_benefit'], at['low'], at['high'])}"
    )
    axes.errorbar([at["threshold_probability"]], [at["net_benefit"]], yerr=np.maximum(reach, 0), label=text, **marks)
    top = max(prevalence, float(curve["high"].max()))
    matters = min(1.0, max(4 * prevalence, 2 * at["threshold_probability"], 0.2))  # beyond it nobody would flag
    axes.set(xlabel="Threshold probability", ylabel="Net benefit", xlim=(0, matters), ylim=(-0.35 * top, 1.08 * top))
    legend(figure, loc="outside lower center", ncols=2)
    return figure


def _on(place: str) -> str:
    return f"on {place}" if place == "validation" else place


def _rates(axes: Axes, table: pd.DataFrame, rate: str, heights: np.ndarray, colour: str) -> None:
    """A mark with its interval for each row that has the rate."""
    names = {"precision": "Precision (PPV)", "negative_predictive_value": "Negative predictive value"}
    label = names.get(rate, rate.replace("_per_1000", "").capitalize())
    reach = np.abs(table[[f"{rate}_low", f"{rate}_high"]].to_numpy().T - table[rate].to_numpy())
    marks = {"fmt": "o", "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
    axes.errorbar(table[rate], heights, xerr=reach, label=label, **marks)


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
