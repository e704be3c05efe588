from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from fracture_mae.config import Tune
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import assurance, bagged_thresholds, thresholds
from fracture_mae.tuning.objectives import Objective, Rows, judge

# Of three fractured X-rays two are found; of six others two are flagged: TP 2, FN 1, FP 2, TN 4.
LABEL = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0])
DECISION = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0])
# By rank: P N P N N N N N P, so precision 1/1, 2/3 and 3/9 where the fractured ones are found.
PROBABILITY = np.array([0.9, 0.7, 0.1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2])
ONES = np.ones(9)
BY_HAND = {
    "weighted_youden": ((1.5 * 2 / 3 + 4 / 6) / 2.5,),
    "balanced_accuracy": (2 / 3,),
    "f1": (2 * 2 / (2 * 2 + 1 + 2),),
    "f2": (5 * 2 / (5 * 2 + 4 * 1 + 2),),
    "mcc": ((2 * 4 - 2 * 1) / np.sqrt(3 * 6 * 4 * 5),),
    "average_precision": ((1 + 2 / 3 + 3 / 9) / 3,),
    "cost": ((5 * 1 + 1 * 2) / 9,),
    "specificity_at_sensitivity": (4 / 6,),
    "pareto": (2 / 3, 4 / 6),
}
NAMES = list(BY_HAND)


@pytest.mark.parametrize("name", NAMES)
def test_values_by_hand(name):
    assert Objective(name).values(LABEL, PROBABILITY, DECISION, ONES) == pytest.approx(BY_HAND[name])


def test_every_objective_of_the_config_is_tried_here():
    assert set(get_args(Tune.model_fields["objective"].annotation)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_xray_of_many_files_counts_once(name):
    again = np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])  # three files of the first X-ray
    weight = np.array([1 / 3] * 3 + [1.0] * 8)
    values = Objective(name).values(LABEL[again], PROBABILITY[again], DECISION[again], weight)
    assert values == pytest.approx(BY_HAND[name])


def test_cost_is_what_the_user_says():
    expected = (2.5 * 1 + 10 * 2) / 9
    objective = Objective("cost", cost_false_negative=2.5, cost_false_positive=10)
    assert objective.values(LABEL, PROBABILITY, DECISION, ONES) == pytest.approx((expected,))
    assert objective.directions == ("minimize",)
    assert str(objective) == "cost (cost_false_negative 2.5, cost_false_positive 10)"
    assert str(Objective("f1")) == "f1"
    assert str(Objective("weighted_youden")) == "weighted_youden (sensitivity_counts 1.5)"


@pytest.mark.parametrize(("least", "feasible"), [(0.66, True), (2 / 3, True), (0.67, False)])
def test_the_constraint_is_the_sensitivity_that_is_missing(least, feasible):
    objective = Objective("specificity_at_sensitivity", min_sensitivity=least)
    constraint = objective.constraints(LABEL, DECISION, ONES)["min_sensitivity"]
    assert constraint == pytest.approx(least - 2 / 3, abs=1e-9)
    assert (constraint <= 0) == feasible  # at the limit too, where sums of floats may say otherwise
    assert Objective("f1").constraints(LABEL, DECISION, ONES) == {}


@pytest.mark.parametrize("name", NAMES)
def test_without_draws_the_threshold_is_that_of_an_exhaustive_search(name, monkeypatch):
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 60)
    probability = np.round(0.3 * label + 0.7 * rng.random(60), 2).clip(0, 1)
    weight = rng.integers(1, 4, 60) / 3
    objective, params = Objective(name, min_sensitivity=0.8), {"aimed_sensitivity": 0.8}
    rows = Rows(label, probability, np.arange(60), weight)
    monkeypatch.setattr(bagged_thresholds, "N_DRAWS", 0)
    found = objective.choose_threshold(rows, params)
    scored = {"average_precision": "balanced_accuracy", "pareto": "specificity_at_sensitivity"}.get(name, name)
    judge_by = Objective(scored, min_sensitivity=0.8)
    sign = -1 if scored == "cost" else 1

    def worth(at):
        decision = (probability >= at).astype(int)
        if any(value > 0 for value in judge_by.constraints(label, decision, weight).values()):
            return -np.inf
        return sign * judge_by.values(label, probability, decision, weight)[0]

    assert worth(found) == pytest.approx(max(worth(at) for at in np.linspace(0, 1, 1001)))


def table(fold, label, probability, group=None):
    group = range(len(label)) if group is None else group
    return pd.DataFrame({"fold": fold, "label": label, "group": group, "logit": logit(probability)})


def test_a_decision_is_made_at_the_threshold_of_the_other_folds(monkeypatch):
    monkeypatch.setattr(bagged_thresholds, "N_DRAWS", 0)
    # Fold 0 is told apart best between 0.3 and 0.7, fold 1 between 0.7 and 0.9. At fold 1's threshold both fractured ones of
    # fold 0 are found or not by their own, and fold 0's own best would have found both.
    one = table([0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 0, 0], [0.7, 0.95, 0.3, 0.2, 0.9, 0.92, 0.7, 0.69])
    verdict = judge(one, Objective("balanced_accuracy"), {})
    assert verdict.metrics["sensitivity"] == pytest.approx(3 / 4)  # the one at 0.7 is missed at fold 1's threshold
    assert verdict.metrics["specificity"] == pytest.approx(2 / 4)  # fold 1's others are flagged at fold 0's
    assert verdict.values == pytest.approx((5 / 8,))
    # Chosen on all, and so better: between 0.3 and 0.69 or between 0.7 and 0.9, three quarters of either class and more.
    decision = thresholds.decide(expit(verdict.slope * one["logit"] + verdict.intercept), verdict.threshold)
    in_sample = Objective("balanced_accuracy").values(one["label"].to_numpy(), None, decision, np.ones(8))
    assert in_sample == pytest.approx((7 / 8,))


def test_judging_weighs_xrays_and_not_files():
    single = table([0, 0, 1, 1, 0, 1], [1, 0, 1, 0, 1, 0], [0.8, 0.3, 0.7, 0.4, 0.35, 0.6])
    copies = pd.concat([single, *[single.iloc[[0]]] * 4], ignore_index=True)
    verdicts = [judge(rows, Objective("f2"), {}) for rows in (single, copies)]
    assert verdicts[0].values == pytest.approx(verdicts[1].values)
    assert verdicts[0].threshold == pytest.approx(verdicts[1].threshold, abs=1e-3)
    assert verdicts[0].metrics == pytest.approx(verdicts[1].metrics)


ASSURED = Objective("specificity_at_sensitivity", min_sensitivity=0.9, assurance=0.95)


def test_an_assured_sensitivity_is_chosen_for_and_named():
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 40)
    rows = Rows(label, np.round(0.4 * label + 0.6 * rng.random(80), 2), np.arange(80), np.ones(80))
    found = ASSURED.choose_threshold(rows, {})
    options = {"min_sensitivity": 0.9, "assurance": 0.95}
    assert found == assurance.choose(rows.label, rows.probability, rows.drawn, **options)
    assert found < Objective("specificity_at_sensitivity", min_sensitivity=0.9).choose_threshold(rows, {})
    with pytest.raises(FractureMaeError, match="needs 29 patients with a fracture, none of them missed; found 20"):
        ASSURED.choose_threshold(rows.where(np.arange(80) < 40), {})
    assert str(ASSURED) == "specificity_at_sensitivity (min_sensitivity 0.9, assurance 0.95)"
    assert "assurance" not in Objective("specificity_at_sensitivity").described()  # older studies go on


def test_every_fold_must_leave_enough_to_assure_it():
    rows = pd.DataFrame({"label": 1, "group": range(60), "patient": range(60)})
    ASSURED.check(rows, np.arange(60) % 2)  # 30 are left of two folds
    with pytest.raises(FractureMaeError, match="found 24 in the other folds"):
        ASSURED.check(rows, np.arange(60) % 5 // 3)
    Objective("f1").check(rows, np.arange(60))


def test_the_option_reaches_the_objective():
    config = Tune(objective="specificity_at_sensitivity", min_sensitivity=0.9, assurance=0.95)
    assert Objective.of(config) == ASSURED
    assert Objective.of(Tune()).assurance is None
