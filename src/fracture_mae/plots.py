"""Tables and arrays in, matplotlib figures out.

Figures are built without pyplot, which keeps every figure alive and is not safe in threads and servers.
Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

import textwrap
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

from fracture_mae.calibration import expected_calibration_error

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
GREY, INK = "#7A7A7A", "#222222"
REFERENCE = {"color": GREY, "linestyle": ":", "linewidth": 1.2}  # chance, or the ideal
MARK = {"color": INK, "linestyle": "--", "linewidth": 1.2}  # what was chosen
DPI = 120

Scores = Mapping[
    str, tuple[ArrayLike, ...]
]  # name → (label 0/1 [n], probability [n]) and, where files differ, weight [n]
Intervals = Mapping[str, tuple[float, float]]  # name → (low, high)


def heading(what: str, split: str = "", n_files: int | None = None, n_groups: int | None = None) -> str:
    """Return a title such as "ROC · test · 1,204 files of 310 X-rays"; what is not given is left out."""
    files = "" if n_files is None else f"{n_files:,} files"
    xrays = "" if n_groups is None else f"{n_groups:,} X-rays"
    return " · ".join(filter(None, [what, split, " of ".join(filter(None, [files, xrays]))]))


def reconstructions(
    panels: Mapping[str, np.ndarray],
    titles: Sequence[str],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> Figure:
    """Draw one row per X-ray and one column per panel, in the order of `panels`.

    panels: name → [n, h, w] grey in [0, 1]; titles: n labels of the rows, may hold line breaks;
    captions: name of a panel → n texts that stand below its pictures.
    """
    n_rows, height, width = next(iter(panels.values())).shape
    figure, grid = _picture_grid(n_rows, len(panels), height / width, 0.26 if captions else 0.06, title)
    for column, (name, pictures) in enumerate(panels.items()):
        grid[0, column].set_title(name, fontsize=10, color=INK)
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(pictures[row], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if captions and name in captions:
                axes.set_xlabel(captions[name][row], fontsize=9, color=INK, labelpad=3)
    for axes, row_title in zip(grid[:, 0], titles, strict=True):
        lines = [part for line in row_title.splitlines() for part in textwrap.wrap(line, 26)]
        axes.set_ylabel("\n".join(lines), rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=6)
    return figure


def _picture_grid(n_rows: int, n_columns: int, aspect: float, gap: float, title: str) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [n_rows, n_columns] of 2.1 inches width, with room for labels at the left.

    The places are set by hand: an automatic layout lets long labels shrink the pictures.
    """
    cell, left, top = 2.1, 2.0, 0.7 if title else 0.35
    width = left + n_columns * (cell + 0.06)
    height = top + n_rows * (cell * aspect + gap)
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.suptitle(title, fontsize=11, color=INK, y=1 - 0.1 / height, va="top")
    place = {"left": left / width, "right": 1 - 0.06 / width, "top": 1 - top / height, "bottom": gap / height}
    space = {"wspace": 0.06 / cell, "hspace": gap / (cell * aspect)}
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw={**place, **space})


def confusion_matrix(matrix: np.ndarray, label_names: Sequence[str], title: str = "") -> Figure:
    """Draw `metrics.confusion`: counts, and what share of the true class they are; label_names: negative, positive."""
    figure, axes = _figure(4.6, 4.4, title)
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
    figure, axes = _figure(5.4, 5.9 + 0.2 * len(curves), title)
    for name, label, probability, weight, colour in _with_both_classes(axes, curves):
        false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
        area = sklearn.metrics.roc_auc_score(label, probability, sample_weight=weight)
        axes.plot(false_positive_rate, sensitivity, color=colour, label=_with_interval(name, area, intervals))
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Chance 0.500")
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(figure, "AUROC", loc="outside lower center")
    return figure


def precision_recall_curves(
    curves: Scores, intervals: Intervals | None = None, title: str = "Precision-recall"
) -> Figure:
    """Draw a precision-recall curve per name, dotted its share of fractured (chance); intervals are of the AP."""
    figure, axes = _figure(5.4, 5.9 + 0.2 * len(curves), title)
    for name, label, probability, weight, colour in _with_both_classes(axes, curves):
        precision, recall, _ = sklearn.metrics.precision_recall_curve(label, probability, sample_weight=weight)
        area = sklearn.metrics.average_precision_score(label, probability, sample_weight=weight)
        legend = _with_interval(name, area, intervals)
        axes.plot(recall, precision, color=colour, drawstyle="steps-post", label=legend)
        axes.axhline(np.average(label, weights=weight), color=colour, linestyle=":", linewidth=1.2)
    axes.set(xlabel="Sensitivity (recall)", ylabel="Precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(figure, "Average precision (dotted: chance)", loc="outside lower center")
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

    before: the probabilities before calibration, to be drawn beside; weight: [n], of each file;
    intervals: of the expected calibration error (ECE) under "before" and "after".
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
        ends = (intervals or {}).get(key, (np.nan, np.nan))
        axes.plot(
            mean, share, marker="o", markersize=5, color=colour, label=f"{name}: ECE {_interval_text(error, *ends)}"
        )
        histogram.hist(values, bins=np.linspace(0, 1, n_bins + 1), weights=weight, color=colour, alpha=0.55)
    axes.set(ylabel="Share fractured", ylim=(-0.02, 1.02))
    histogram.set(xlabel="Probability of fractured", ylabel="Files", xlim=(-0.01, 1.01))
    histogram.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for each in (axes, histogram):
        _style(each)
    _legend(axes, loc="best")
    return figure


def threshold_sweep(table: pd.DataFrame, chosen: float, title: str = "Threshold sweep") -> Figure:
    """Draw `metrics.threshold_sweep`: every rate against the threshold; `chosen` is marked."""
    figure, axes = _figure(7.2, 4.6, title)
    rates = [column for column in table.columns if column != "threshold"]
    for rate, colour in zip(rates, COLOURS, strict=False):
        axes.plot(table["threshold"], table[rate], color=colour, label=rate.replace("_", " ").capitalize())
    axes.axvline(chosen, **MARK, label=f"Chosen {chosen:.3f}")
    axes.set(xlabel="Threshold", ylabel="Rate", xlim=(0, 1), ylim=(-0.02, 1.02))
    _legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1))
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
        _legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _rates(panels[2], table, "flagged_per_1000", rows, SKY)
    panels[2].set(xlim=(-20, 1020), xlabel="X-rays of 1,000")
    _legend(panels[2], loc="lower center", bbox_to_anchor=(0.5, 1.0))
    names = [f"{name}\nat {threshold:.3f}" for name, threshold in zip(table["name"], table["threshold"], strict=True)]
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    for axes in panels:
        _style(axes)
    return figure


def _rates(axes: Axes, table: pd.DataFrame, rate: str, heights: np.ndarray, colour: str) -> None:
    """A mark with its interval for each row that has the rate."""
    names = {"precision": "Precision (PPV)", "negative_predictive_value": "Negative predictive value"}
    label = names.get(rate, rate.replace("_per_1000", "").capitalize())
    reach = np.abs(table[[f"{rate}_low", f"{rate}_high"]].to_numpy().T - table[rate].to_numpy())
    marks = {"fmt": "o", "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
    axes.errorbar(table[rate], heights, xerr=reach, label=label, **marks)


def learning_curves(history: pd.DataFrame, best_epoch: int | None = None, title: str = "Learning curves") -> Figure:
    """Draw one panel per metric, one line per split.

    history: one row per epoch, columns epoch and SPLIT/METRIC such as train/loss, validation/loss, validation/auroc.
    best_epoch: the epoch whose weights are kept; it is marked.
    """
    columns = [column for column in history.columns if "/" in column]
    metrics = list(dict.fromkeys(column.split("/", 1)[1] for column in columns))
    splits = list(dict.fromkeys(column.split("/", 1)[0] for column in columns))
    n_columns = min(len(metrics), 3)
    n_rows = -(-len(metrics) // n_columns)
    figure = Figure(figsize=(1.0 + 4.2 * n_columns, 0.4 + 3.4 * n_rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        for split, colour in zip(splits, cycle(COLOURS)):
            if (column := f"{split}/{metric}") in history:
                known = history.dropna(subset=column)
                axes.plot(known["epoch"], known[column], ".-", color=colour, label=split.capitalize())
        if best_epoch is not None:
            axes.axvline(best_epoch, **MARK, label=f"Kept: epoch {best_epoch}")
        axes.set(xlabel="Epoch", ylabel=metric.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _style(axes)
        _legend(axes)
    return figure


def sources(table: pd.DataFrame, title: str = "AUROC by source") -> Figure:
    """Draw a forest plot: the AUROC of each row with its interval, in the order of the table.

    table: index = names; columns estimate, low, high, and where known n_files and n_groups (shown right of the rows).
    Rows without an estimate (one class alone) are listed without a mark.
    """
    figure, axes = _figure(8.4, 1.4 + 0.36 * len(table), title)
    rows = np.arange(len(table))
    reach = np.abs(table[["low", "high"]].to_numpy().T - table["estimate"].to_numpy())
    axes.errorbar(table["estimate"], rows, xerr=reach, fmt="s", color=BLUE, markersize=5, capsize=3, linewidth=1.4)
    axes.axvline(0.5, **REFERENCE)
    axes.set(xlabel="AUROC (dotted: chance)", xlim=(-0.02, 1.02), ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(rows, table.index)
    _style(axes)
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(rows, [_forest_text(row) for _, row in table.iterrows()], fontsize=9)
    right.tick_params(length=0, pad=10, labelcolor=INK)
    right.spines[:].set_visible(False)
    return figure


def encoders(table: pd.DataFrame, metrics: Sequence[str], difference: str, title: str = "Encoders") -> Figure:
    """Draw a forest plot with a panel per metric, and one for the difference to the first row.

    table: index = names; columns METRIC, METRIC_low and METRIC_high, and the same for `difference` (NaN in the first row).
    """
    columns = [*metrics, difference]
    figure = Figure(figsize=(2.4 + 2.5 * len(columns), 1.7 + 0.42 * len(table)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    panels = figure.subplots(1, len(columns), sharey=True)
    rows = np.arange(len(table))
    for axes, column in zip(panels, columns, strict=True):
        _forest(axes, table, column, rows)
        axes.axvline(0 if column == difference else table[column].iloc[0], **REFERENCE)
        name = column.replace("_", " ").replace("auroc", "AUROC")
        name = f"{name} to the first" if column == difference else name
        axes.set_xlabel(name if name.startswith("AUROC") else name.capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        _style(axes)
    names = ["\n".join(textwrap.wrap(str(name), 34, break_on_hyphens=False)) for name in table.index]
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def _forest(axes: Axes, table: pd.DataFrame, column: str, rows: np.ndarray) -> None:
    """A square with its interval for each row that has a value; the first row stands out."""
    reach = np.abs(table[[f"{column}_low", f"{column}_high"]].to_numpy().T - table[column].to_numpy())
    for part, colour in ((rows == 0, RED), (rows > 0, BLUE)):
        marks = {"fmt": "s", "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
        axes.errorbar(table[column][part], rows[part], xerr=reach[:, part], **marks)


def fold_roc_curves(
    pooled: tuple[ArrayLike, ...], folds: Mapping[int, tuple[ArrayLike, ...]], auroc: pd.Series, title: str = ""
) -> Figure:
    """Draw the ROC curve of all out-of-fold predictions over those of the single folds.

    pooled, and of each fold: label 0/1 [n], probability [n], weight [n] or None; auroc: estimate, low, high of the pooled one.
    """
    figure, axes = _figure(5.4, 6.2, title)
    for number, (label, probability, weight) in folds.items():
        if np.unique(label).size == 2:
            false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
            name = "Single folds" if number == min(folds) else None
            axes.plot(false_positive_rate, sensitivity, color=SKY, linewidth=1, alpha=0.75, label=name)
    label, probability, weight = pooled
    false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
    text = _interval_text(*auroc[["estimate", "low", "high"]])
    axes.plot(false_positive_rate, sensitivity, color=BLUE, linewidth=2.2, label=f"All folds, pooled: {text}")
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Chance 0.500")
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(figure, "AUROC", loc="outside lower center")
    return figure


def fold_spread(folds: pd.DataFrame, means: pd.DataFrame, pooled: pd.DataFrame, title: str = "") -> Figure:
    """Draw a row per metric: a dot for each fold, the mean over folds with its interval, and the pooled value with its.

    folds: index fold, columns metrics; means: index metric, columns mean, mean_low, mean_high; pooled: index metric, columns
    estimate, low, high.
    """
    figure, axes = _figure(8.4, 1.9 + 0.72 * len(means), title)
    rows = np.arange(len(means))
    for row, name in enumerate(means.index):
        values = folds[name].dropna()
        axes.plot(values, np.full(len(values), row - 0.24), "o", color=SKY, markersize=6, alpha=0.8)
    series = {
        f"Mean of {len(folds)} folds": (means[["mean", "mean_low", "mean_high"]], RED, "D", 0.0),
        "All folds, pooled": (pooled[["estimate", "low", "high"]], BLUE, "s", 0.24),
    }
    axes.plot([], [], "o", color=SKY, label="A fold")
    for name, (table, colour, mark, shift) in series.items():
        estimate, low, high = table.to_numpy(float).T
        reach = [estimate - low, high - estimate]
        style = {"fmt": mark, "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
        axes.errorbar(estimate, rows + shift, xerr=reach, label=name, **style)
    axes.set(xlabel="Value, 95 % interval", xlim=(-0.02, 1.02), ylim=(len(means) - 0.5, -0.5))
    axes.set_yticks(rows, [_metric_name(name) for name in means.index])
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        rows, [_interval_text(*row) for row in means[["mean", "mean_low", "mean_high"]].to_numpy(float)], fontsize=9
    )
    right.tick_params(length=0, pad=10, labelcolor=RED)
    right.spines[:].set_visible(False)
    figure.legend(fontsize=9, ncols=3, loc="outside lower center", frameon=False)
    return figure


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure of width x height inches with one styled axes."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, color=INK)
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(True, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=GREY, labelcolor=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=10, color=INK)


def _legend(owner: Axes | Figure, title: str = "", **place) -> None:
    owner.legend(title=title, fontsize=9, title_fontsize=9, alignment="left", framealpha=0.9, edgecolor="none", **place)


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
    return f"{name} {_interval_text(value, *intervals[name])}"


def _forest_text(row: pd.Series) -> str:
    units = {"n_files": "files", "n_groups": "X-rays"}
    sizes = [f"{int(row[column]):,} {unit}" for column, unit in units.items() if column in row]
    return "   ".join([_interval_text(row["estimate"], row["low"], row["high"]), " of ".join(sizes)])


def _metric_name(name: str) -> str:
    return "AUROC" if name == "auroc" else name.replace("_", " ").capitalize()


def _interval_text(estimate: float, low: float, high: float) -> str:
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
