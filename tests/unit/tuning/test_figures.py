"""Figures of small studies in memory."""

import matplotlib
import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from fracture_mae.tuning import figures
from fracture_mae.tuning.objectives import Objective

RED, ORANGE = "#d62728", "#E69F00"


def study_of(objective, rows, **options):
    """A study with a trial for each (x, y, sensitivity, specificity); x and y are its parameters."""
    study = optuna.create_study(study_name="wrist", directions=objective.directions)
    for x, y, *rates in rows:
        study.add_trial(
            create_trial(
                values=rates if objective.name == "pareto" else [sum(rates) / 2],
                params={"x": x, "y": y},
                distributions={"x": FloatDistribution(0.1, 10, log=True), "y": FloatDistribution(0, 1)},
                user_attrs={"verdict": {"metrics": dict(zip(("sensitivity", "specificity"), rates, strict=True))}},
                **options,
            )
        )
    return study


def drawn(study, objective):
    return {
        "history": figures.history(study, objective, "Trials · wrist"),
        "slices": figures.slices(study, objective, "Parameters · wrist"),
        "importances": figures.importances(study, objective, "Importances · wrist"),
        "pareto_front": figures.pareto_front(study, study.trials[0], "Rates · wrist"),
        "learning_curves": figures.learning_curves(study, "auroc", "Epochs · wrist"),
    }


def spread(n=30):
    """Trials whose rates rise with x and know nothing of y."""
    rng = np.random.default_rng(0)
    return [(x, rng.uniform(), 0.5 + x / 25, 0.4 + x / 25) for x in rng.uniform(0.1, 10, n)]


@pytest.mark.parametrize("name", ["balanced_accuracy", "pareto", "cost", "specificity_at_sensitivity"])
@pytest.mark.parametrize("rows", [spread(1), spread(1) * 4, spread(12)], ids=["one", "equal", "twelve"])
def test_any_study_is_drawn_and_pyplot_left_as_it_was(name, rows, tmp_path):
    settings = dict(matplotlib.rcParams)
    broken = {"constraints": {"min_sensitivity": 0.1}} if name == "specificity_at_sensitivity" else {}
    study = study_of(Objective(name), rows, intermediate_values={1: 0.5, 2: 0.7}, **broken)
    found = drawn(study, Objective(name))
    for path, figure in found.items():
        if figure is not None:
            assert figure.get_suptitle().endswith(" · wrist")
            assert not any(axes.get_title() or axes.get_title("left") for axes in figure.axes)
            figure.savefig(tmp_path / f"{path}.png")
    assert (found["importances"] is None) == (len(rows) < 12)
    assert pyplot.get_fignums() == []
    changed = {key for key, value in settings.items() if matplotlib.rcParams[key] != value}
    assert changed <= {"backend", "backend_fallback"}


def test_history_shows_the_best_so_far():
    objective = Objective("cost")
    study = study_of(objective, [(1, 0, 0.6, 0.6), (1, 0, 0.8, 0.8), (1, 0, 0.4, 0.4)])
    axes = figures.history(study, objective, "Trials").axes[0]
    assert axes.get_ylabel() == "Cost"
    assert axes.lines[0].get_ydata() == pytest.approx([0.6, 0.6, 0.4])


@pytest.mark.parametrize("name", ["balanced_accuracy", "pareto"])
def test_importances_are_of_what_makes_trials_good(name):
    draws = np.random.default_rng(0).uniform([0.1, 0], [10, 1], (200, 2))
    rates = [
        0.5 + 0.3 * (x > 9) - 0.3 * (y < 0.1) + 0.001 * x for x, y in draws
    ]  # x makes the good ones, y the bad ones
    study = study_of(Objective(name), [(x, y, rate, rate) for (x, y), rate in zip(draws, rates, strict=True)])
    axes = figures.importances(study, Objective(name), "Importances").axes[0]
    shares = {
        label.get_text(): bar.get_width() for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)
    }
    assert shares["x"] > 0.7


def test_the_front_is_that_of_both_rates_whatever_the_objective():
    rows = [(1, 0, 0.9, 0.5), (1, 0, 0.7, 0.7), (1, 0, 0.6, 0.6), (1, 0, 0.5, 0.9), (1, 0, 0.5, 0.8)]
    study = study_of(Objective("f1"), rows)
    axes = figures.pareto_front(study, study.trials[1], "Rates").axes[0]
    dots = {to_hex(each.get_facecolor()[0]): each.get_offsets().tolist() for each in axes.collections}
    assert sorted(dots[RED]) == [[0.5, 0.9], [0.7, 0.7], [0.9, 0.5]]
    assert dots[ORANGE.lower()] == [[0.7, 0.7]]
    assert "Registered: trial 1" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_trials_that_break_the_constraint_are_not_on_the_front():
    objective = Objective("specificity_at_sensitivity")
    study = study_of(objective, [(1, 0, 0.5, 0.9)], constraints={"min_sensitivity": 0.4})
    study.add_trials(study_of(objective, [(1, 0, 0.95, 0.3)]).trials)
    axes = figures.pareto_front(study, study.trials[1], "Rates").axes[0]
    dots = {to_hex(each.get_facecolor()[0]): each.get_offsets().tolist() for each in axes.collections}
    assert dots[RED] == [[0.3, 0.95]]


def test_learning_curves_rise_where_the_objective_is_a_cost():
    study = study_of(Objective("cost"), [(1, 0, 0.9, 0.5)], intermediate_values={1: -0.5, 2: -0.75})
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: -0.25}))
    axes = figures.learning_curves(study, "auroc", "Epochs").axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.75], [0.25]]
    low, high = axes.get_ylim()
    assert 0 < low < 0.25
    assert 0.75 < high < 1
