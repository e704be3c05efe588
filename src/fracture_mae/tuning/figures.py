"""Figures of a study: those that Optuna draws, and what class weight and threshold each add."""

import warnings
from collections.abc import Callable

import matplotlib
import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as drawing

from fracture_mae.plots.style import BLUE, DPI, INK, MARK, ORANGE, RED, REFERENCE, interval_text, legend, style
from fracture_mae.tuning import trials
from fracture_mae.tuning.objectives import Objective
from fracture_mae.tuning.optimism import CORRECTED, UNCORRECTED
from fracture_mae.tuning.results import AT_HALF, CHOSEN

_RATES = ("specificity", "sensitivity")


def history(study: Study, objective: Objective, title: str, worth: pd.Series | None = None) -> Figure:
    """Draw the (first) value of the complete trials in their order; of one value, the best so far too.

    worth: what the best is worth, see `optimism.Worth.table`; a line with its interval, where it could be corrected.
    """
    (axes,) = _drawn(drawing.plot_optimization_history, study, title, **_first_value(objective))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if worth is not None and np.isfinite(worth["corrected"]):
        label = f"The best, {CORRECTED}: {interval_text(worth['corrected'], worth['low'], worth['high'])}"
        axes.axhline(worth["corrected"], color=INK, linewidth=1.4, linestyle="--", label=label)
        axes.axhspan(worth["low"], worth["high"], color=INK, alpha=0.08, linewidth=0)
    if worth is not None:
        axes.plot([], [], " ", label=f"The best, {UNCORRECTED}: {worth['uncorrected']:.3f}")
        if axes.get_legend():
            axes.get_legend().remove()
        legend(axes.figure, loc="outside lower center")
    return axes.figure


def slices(study: Study, objective: Objective, title: str) -> Figure:
    """Draw the (first) value of the complete trials against each parameter; later trials are darker."""
    panels = _drawn(drawing.plot_slice, study, title, **_first_value(objective))
    for axes in panels:
        axes.tick_params(axis="x", which="both", labelsize=8, rotation=45)  # narrow panels, long names
    return panels[0].figure


def importances(study: Study, objective: Objective, title: str) -> Figure | None:
    """Draw how much of what the objective does each parameter explains; None where all trials are worth the same."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({tuple(trial.values) for trial in complete}) < 2:
        return None  # Optuna would give all parameters the same share
    # Optuna asks what makes a target low.
    target = (lambda trial: -sum(trial.values)) if len(objective.directions) > 1 else None
    name = " + ".join(_words(name) for name in objective.value_names)
    return _drawn(drawing.plot_param_importances, study, title, target=target, target_name=name)[0].figure


def pareto_front(study: Study, best: FrozenTrial, title: str) -> Figure:
    """Draw the sensitivity of the complete trials against their specificity; the red ones are beaten by none in both."""
    names = [_words(name) for name in _RATES]
    (axes,) = _drawn(drawing.plot_pareto_front, _rated(study), title, target_names=names)
    place = [trials.verdict_of(best)["metrics"][name] for name in _RATES]
    label = f"Registered: trial {best.number}"
    axes.scatter(*place, marker="*", s=170, color=ORANGE, edgecolors=INK, linewidths=0.8, zorder=4, label=label)
    legend(axes, loc="best")
    return axes.figure


def _rated(study: Study) -> Study:
    """A study in memory whose trials have the two rates as values: Optuna looks for the front among values alone."""
    rated = optuna.create_study(directions=["maximize"] * len(_RATES))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        metrics = trials.verdict_of(trial)["metrics"]
        values = [metrics[name] for name in _RATES]
        rated.add_trial(optuna.trial.create_trial(values=values, constraints=trial.constraints))
    return rated


def learning_curves(study: Study, metric: str, title: str) -> Figure | None:
    """Draw how complete and pruned trials did epoch by epoch; None where none said."""
    if not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        return None
    (axes,) = _drawn(drawing.plot_intermediate_values, study, title)
    for line in axes.lines:  # reported with a minus where the objective is a cost
        line.set_ydata(np.abs(line.get_ydata()))
    axes.relim()
    axes.autoscale_view()
    axes.set(xlabel="Epoch", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend():
        axes.get_legend().remove()  # a line per trial, taller than the figure
    return axes.figure


def _drawn(plot: Callable[..., Axes | np.ndarray], study: Study, title: str, **options: object) -> np.ndarray:
    """The axes of what Optuna draws. It does so by pyplot, of which neither settings nor open figures are left behind."""
    matplotlib.use("agg")
    with pyplot.rc_context({"figure.dpi": DPI}), warnings.catch_warnings(action="ignore"):  # experimental; empty ranges
        found = np.atleast_1d(plot(study, **options))
        figure = found[0].figure
        pyplot.close(figure)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for axes in found:
        axes.set_title("")
        axes.set_title("", loc="left")
        axes.set_facecolor("white")
        style(axes)
    return found


def _first_value(objective: Objective) -> dict[str, object]:
    target = (lambda trial: trial.values[0]) if len(objective.directions) > 1 else None
    return {"target": target, "target_name": _words(objective.value_names[0])}


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


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
