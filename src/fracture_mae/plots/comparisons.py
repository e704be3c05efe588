"""Epochs, folds, sources and encoders beside each other."""

import textwrap
from collections.abc import Mapping, Sequence
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
    INK,
    MARK,
    RED,
    REFERENCE,
    SKY,
    figure_of,
    interval_text,
    legend,
    style,
)


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
        style(axes)
        legend(axes)
    return figure


def sources(table: pd.DataFrame, title: str = "AUROC by source") -> Figure:
    """Draw a forest plot: the AUROC of each row with its interval, in the order of the table.

    table: index = names; columns estimate, low, high, and where known n_files and n_groups (shown right of the rows).
    Rows without an estimate (one class alone) are listed without a mark.
    """
    figure, axes = figure_of(8.4, 1.4 + 0.36 * len(table), title)
    rows = np.arange(len(table))
    reach = np.abs(table[["low", "high"]].to_numpy().T - table["estimate"].to_numpy())
    axes.errorbar(table["estimate"], rows, xerr=reach, fmt="s", color=BLUE, markersize=5, capsize=3, linewidth=1.4)
    axes.axvline(0.5, **REFERENCE)
    axes.set(xlabel="AUROC (dotted: chance)", xlim=(-0.02, 1.02), ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(rows, table.index)
    style(axes)
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(rows, [_forest_text(row) for _, row in table.iterrows()], fontsize=9)
    right.tick_params(length=0, pad=10, labelcolor=INK)
    right.spines[:].set_visible(False)
    return figure


def fold_roc_curves(
    pooled: tuple[ArrayLike, ...],
    folds: Mapping[int | str, tuple[ArrayLike, ...]],
    auroc: pd.Series,
    title: str = "",
    part: str = "fold",
) -> Figure:
    """Draw the ROC curve of all out-of-fold predictions over those of the single folds.

    pooled, and of each fold: label 0/1 [n], probability [n], weight [n] or None; auroc: estimate, low, high of the pooled one;
    part: what a fold is called, such as "source".
    """
    figure, axes = figure_of(5.4, 6.2, title)
    for number, (label, probability, weight) in folds.items():
        if np.unique(label).size == 2:
            false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
            name = f"Single {part}s" if number == min(folds) else None
            axes.plot(false_positive_rate, sensitivity, color=SKY, linewidth=1, alpha=0.75, label=name)
    label, probability, weight = pooled
    false_positive_rate, sensitivity, _ = sklearn.metrics.roc_curve(label, probability, sample_weight=weight)
    text = interval_text(*auroc[["estimate", "low", "high"]])
    axes.plot(false_positive_rate, sensitivity, color=BLUE, linewidth=2.2, label=f"All {part}s, pooled: {text}")
    axes.plot([0, 1], [0, 1], **REFERENCE, label="Chance 0.500")
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    legend(figure, "AUROC", loc="outside lower center")
    return figure


def fold_spread(
    folds: pd.DataFrame,
    means: pd.DataFrame,
    pooled: pd.DataFrame,
    title: str = "",
    part: str = "fold",
    beside: str = "",
) -> Figure:
    """Draw a row per metric: a dot for each fold, the mean over folds with its interval, and the pooled value with its.

    folds: index fold, columns metrics; means: index metric, columns mean, mean_low, mean_high; pooled: index metric, columns
    estimate, low, high; part: what a fold is called, such as "source"; beside: what `pooled` is where it is something else.
    """
    figure, axes = figure_of(8.4, 1.9 + 0.72 * len(means), title)
    rows = np.arange(len(means))
    for row, name in enumerate(means.index):
        values = folds[name].dropna()
        axes.plot(values, np.full(len(values), row - 0.24), "o", color=SKY, markersize=6, alpha=0.8)
    series = {
        f"Mean of {len(folds)} {part}s": (means[["mean", "mean_low", "mean_high"]], RED, "D", 0.0),
        beside or f"All {part}s, pooled": (pooled[["estimate", "low", "high"]], BLUE, "s", 0.24),
    }
    axes.plot([], [], "o", color=SKY, label=f"A {part}")
    for name, (table, colour, mark, shift) in series.items():
        estimate, low, high = table.to_numpy(float).T
        reach = [estimate - low, high - estimate]
        marks = {"fmt": mark, "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
        axes.errorbar(estimate, rows + shift, xerr=reach, label=name, **marks)
    axes.set(xlabel="Value, 95 % interval", xlim=(-0.02, 1.02), ylim=(len(means) - 0.5, -0.5))
    axes.set_yticks(rows, [_metric_name(name) for name in means.index])
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        rows, [interval_text(*row) for row in means[["mean", "mean_low", "mean_high"]].to_numpy(float)], fontsize=9
    )
    right.tick_params(length=0, pad=10, labelcolor=RED)
    right.spines[:].set_visible(False)
    figure.legend(fontsize=9, ncols=3, loc="outside lower center", frameon=False)
    return figure


def drift(properties: pd.DataFrame, told_by: pd.DataFrame, title: str = "Drift") -> Figure:
    """Draw how far two collections differ: left the distance of each property, right how well X-rays are told apart.

    properties: columns property and distance; told_by: index = by what, columns estimate, low, high.
    """
    figure = Figure(figsize=(9.4, 1.6 + 0.27 * len(properties)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    left.barh(properties["property"], properties["distance"], color=SKY)
    left.set(xlim=(0, 1), xlabel="Distance of the distributions (Kolmogorov-Smirnov)")
    left.invert_yaxis()
    rows = np.arange(len(told_by))
    reach = np.abs(told_by[["low", "high"]].to_numpy().T - told_by["estimate"].to_numpy())
    right.errorbar(told_by["estimate"], rows, xerr=reach, fmt="s", color=BLUE, markersize=5, capsize=3, linewidth=1.4)
    right.axvline(0.5, **REFERENCE)
    names = [f"{name}\n{interval_text(*row)}" for name, row in told_by[["estimate", "low", "high"]].iterrows()]
    right.set_yticks(rows, names)
    right.set(xlim=(0.28, 1.02), ylim=(len(told_by) - 0.5, -0.5), xlabel="Told apart, AUROC (dotted: alike)")
    for axes in (left, right):
        style(axes)
        axes.grid(False, axis="y")
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
        style(axes)
    names = ["\n".join(textwrap.wrap(str(name), 34, break_on_hyphens=False)) for name in table.index]
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def subgroups(table: pd.DataFrame, metrics: Sequence[str], title: str = "Subgroups") -> Figure:
    """Draw a forest plot with a panel per metric, dotted its value of all X-rays, the first row.

    table: index = names; columns METRIC, METRIC_low and METRIC_high (NaN: no interval, so no mark), n_fractured and n_other.
    """
    figure = Figure(figsize=(4.2 + 2.7 * len(metrics), 1.7 + 0.36 * len(table)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    panels = figure.subplots(1, len(metrics), sharey=True)
    rows = np.arange(len(table))
    for axes, column in zip(panels, metrics, strict=True):
        judged = table[[column]].where(table[[f"{column}_low"]].notna().to_numpy())
        _forest(axes, table.assign(**judged), column, rows)
        axes.axvline(table[column].iloc[0], **REFERENCE)
        axes.set(xlabel=_metric_name(column), xlim=(-0.03, 1.03))
        style(axes)
        axes.grid(False, axis="y")
    names = ["\n".join(textwrap.wrap(str(name), 34, break_on_hyphens=False)) for name in table.index]
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    right = panels[-1].secondary_yaxis("right")
    sizes = [
        f"{fractured:,} + {other:,}" for fractured, other in zip(table["n_fractured"], table["n_other"], strict=True)
    ]
    right.set_yticks(rows, sizes, fontsize=9)
    right.set_ylabel("Fractured + other X-rays", fontsize=9, color=INK)
    right.tick_params(length=0, pad=6, labelcolor=INK)
    right.spines[:].set_visible(False)
    return figure


def _forest(axes: Axes, table: pd.DataFrame, column: str, rows: np.ndarray) -> None:
    """A square with its interval for each row that has a value; the first row stands out."""
    reach = np.abs(table[[f"{column}_low", f"{column}_high"]].to_numpy().T - table[column].to_numpy())
    for part, colour in ((rows == 0, RED), (rows > 0, BLUE)):
        marks = {"fmt": "s", "color": colour, "markersize": 5, "capsize": 3, "linewidth": 1.4}
        axes.errorbar(table[column][part], rows[part], xerr=reach[:, part], **marks)


def _forest_text(row: pd.Series) -> str:
    units = {"n_files": "files", "n_groups": "X-rays"}
    sizes = [f"{int(row[column]):,} {unit}" for column, unit in units.items() if column in row]
    return "   ".join([interval_text(row["estimate"], row["low"], row["high"]), " of ".join(sizes)])


def _metric_name(name: str) -> str:
    return "AUROC" if name == "auroc" else name.replace("_", " ").capitalize().replace("Auroc", "AUROC")
