"""Figures of a study."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution

from fracture_mae.plots.style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    INK,
    MARK,
    ORANGE,
    RED,
    REFERENCE,
    SKY,
    figure_of,
    legend,
    style,
)
from fracture_mae.tuning import trials
from fracture_mae.tuning.objectives import Objective
from fracture_mae.tuning.results import AT_HALF, CHOSEN
from fracture_mae.tuning.space import Space

_DOTS = {"s": 22, "linewidths": 0.8}
_STATES = {
    trials.PRUNED: ORANGE,
    trials.NON_FINITE: RED,
    trials.FAILED: RED,
    trials.LOST: INK,
    trials.INTERRUPTED: GREY,
}


def history(table: pd.DataFrame, objective: Objective, title: str) -> Figure:
    """Draw the values of the trials in their order, and the best so far; trials that did not complete stand at the bottom.

    table: as `results.table` makes it.
    """
    names = objective.value_names
    figure = Figure(figsize=(7.4, 0.6 + 3.4 * len(names)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for axes, name, direction in zip(
        figure.subplots(len(names), 1, squeeze=False)[:, 0], names, objective.directions, strict=True
    ):
        _draw_history(axes, table, f"objective/{name}", direction, with_best=len(names) == 1)
        axes.set(xlabel="Trial", ylabel=_words(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style(axes)
        legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def _draw_history(axes: Axes, table: pd.DataFrame, column: str, direction: str, *, with_best: bool) -> None:
    complete = table[table["state"] == trials.COMPLETE]
    _scatter(axes, complete, "number", column)
    allowed = complete[complete["feasible"].astype(bool)]
    if with_best and len(allowed):
        best = allowed[column].cummax() if direction == "maximize" else allowed[column].cummin()
        axes.step(allowed["number"], best, where="post", color=GREEN, linewidth=1.6, label="Best so far")
    for state, rows in table.groupby("state"):
        if state in _STATES:
            below = np.full(len(rows), 0.02)
            transform = axes.get_xaxis_transform()
            axes.scatter(
                rows["number"], below, marker="x", color=_STATES[state], s=22, transform=transform, label=_words(state)
            )


def slices(table: pd.DataFrame, space: Space, objective: Objective, title: str) -> Figure:
    """Draw the (first) value of the complete trials against each parameter, one panel a parameter; later trials are darker."""
    complete = table[table["state"] == trials.COMPLETE]
    n_columns = min(4, len(space))
    n_rows = -(-len(space) // n_columns)
    figure = Figure(figsize=(0.6 + 3.0 * n_columns, 0.5 + 2.8 * n_rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for number, (name, distribution) in enumerate(space.items(), start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        values = complete[f"param/{name}"]
        if isinstance(distribution, CategoricalDistribution):
            place = values.map({choice: at for at, choice in enumerate(distribution.choices)})
            values = place + np.random.default_rng(0).uniform(-0.18, 0.18, len(place))
            axes.set_xticks(range(len(distribution.choices)), distribution.choices)
            axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
        edges = np.where(complete["feasible"].astype(bool), "none", RED)
        shade = {"c": complete["number"], "cmap": "Blues", "vmin": -0.4 * len(table), "vmax": len(table)}
        axes.scatter(values, complete[f"objective/{objective.value_names[0]}"], **shade, **_DOTS, edgecolors=edges)
        axes.set_xlabel(_words(name))
        if number % n_columns == 1 or n_columns == 1:
            axes.set_ylabel(_words(objective.value_names[0]))
        style(axes)
    return figure


def importances(values: pd.Series, title: str) -> Figure:
    """Draw how much each parameter explains, the most important on top; index: parameters, values: shares."""
    figure, axes = figure_of(6.4, 1.4 + 0.36 * max(1, len(values)), title)
    if values.empty:
        axes.text(0.5, 0.5, "Too few different trials to tell", ha="center", color=INK, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return figure
    rows = np.arange(len(values))
    axes.barh(rows, values, height=0.62, color=BLUE)
    for row, value in zip(rows, values, strict=True):
        axes.text(value + 0.01, row, f"{value:.2f}", va="center", fontsize=9, color=INK)
    axes.set_yticks(rows, [_words(name) for name in values.index])
    axes.set(xlabel="Share of the objective's variance that is explained", xlim=(0, 1.08))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(False, axis="y")
    return figure


def rates(table: pd.DataFrame, best: int, title: str) -> Figure:
    """Draw the sensitivity of the complete trials against their specificity, with the Pareto front; `best` is a trial's number."""
    complete = table[table["state"] == trials.COMPLETE]
    figure, axes = figure_of(6.0, 5.6, title)
    _scatter(axes, complete, "specificity", "sensitivity")
    front = pareto_front(complete)
    axes.plot(front["specificity"], front["sensitivity"], color=GREEN, linewidth=1.6, label="Pareto front")
    chosen = complete[complete["number"] == best].iloc[0]
    axes.scatter(
        chosen["specificity"], chosen["sensitivity"], marker="*", s=170, color=ORANGE, edgecolors=INK, linewidths=0.8,
        zorder=4, label=f"Registered: trial {best}",
    )  # fmt: skip
    axes.set(xlabel="Specificity", ylabel="Sensitivity")
    axes.margins(0.06)
    legend(axes, loc="best")
    return figure


def pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of which no other row is at least as good in sensitivity and specificity, and better in one; by specificity."""
    ordered = table.sort_values(["specificity", "sensitivity"], ascending=False)
    best_before = ordered["sensitivity"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["sensitivity"] > best_before].iloc[::-1]


def contributions(table: pd.DataFrame, best: float, objective: Objective, title: str) -> Figure:
    """Draw what class weight and threshold each add: score, sensitivity and specificity at the threshold 0.5 and as chosen.

    table: as `results.contributions` makes it; best: the class weight that was found; objective: what the score is of.
    """
    figure = Figure(figsize=(12.0, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    panels = {"score": f"{_words(objective.value_names[0])} (objective)", "sensitivity": "", "specificity": ""}
    for axes, (column, name) in zip(figure.subplots(1, 3, sharex=True), panels.items(), strict=True):
        for kind, colour, label in ((AT_HALF, RED, "Threshold 0.5"), (CHOSEN, BLUE, "Threshold chosen")):
            rows = table[table["threshold"] == kind].sort_values("class_weight")
            _draw_contribution(axes, rows, column, colour, label)
        axes.axvline(1, **REFERENCE, label="Class weight none")
        if best != 1:
            axes.axvline(best, **MARK, label=f"Class weight found: {best:.3g}")
        axes.set(xscale="log", xlabel="Class weight of fractured", ylabel=name or _words(column))
        style(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, edgecolor="none")
    return figure


def _draw_contribution(axes: Axes, rows: pd.DataFrame, column: str, colour: str, label: str) -> None:
    axes.plot(rows["class_weight"], rows[column], color=colour, linewidth=1.4, label=label)
    faces = np.where(rows["feasible"], colour, "white")  # hollow where the constraint is broken
    axes.scatter(rows["class_weight"], rows[column], facecolors=faces, edgecolors=colour, s=26, zorder=3)
    if f"{column}_low" in rows:
        axes.fill_between(
            rows["class_weight"], rows[f"{column}_low"], rows[f"{column}_high"], color=colour, alpha=0.12, linewidth=0
        )


def learning(by_trial: dict[int, dict[int, float]], ends: dict[int, str], metric: str, title: str) -> Figure:
    """Draw how trials did epoch by epoch.

    by_trial: number → epoch → metric; ends: number → how the trial ended.
    """
    figure, axes = figure_of(6.8, 4.2, title)
    colours = {trials.COMPLETE: BLUE, trials.PRUNED: ORANGE}
    for number, values in by_trial.items():
        colour = colours.get(ends[number], RED)
        axes.plot(list(values), list(values.values()), ".-", color=colour, alpha=0.7, linewidth=1.1)
    for state, colour in colours.items():
        axes.plot([], [], ".-", color=colour, label=_words(state))
    axes.set(xlabel="Epoch", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, loc="lower right")
    return figure


def _scatter(axes: Axes, complete: pd.DataFrame, x: str, y: str) -> None:
    """Dots for trials, hollow ones for those that break the constraint."""
    feasible = complete["feasible"].astype(bool)
    axes.scatter(complete[x][feasible], complete[y][feasible], color=SKY, edgecolors=BLUE, **_DOTS, label="Trial")
    if not feasible.all():
        broken = complete[~feasible]
        axes.scatter(broken[x], broken[y], facecolors="white", edgecolors=GREY, **_DOTS, label="Constraint broken")


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
