import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from fracture_mae.config import Evaluate
from fracture_mae.evaluation import operating_points
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.operating_points import Costs, OperatingPoint, choose, rates_at, table, weighted_to
from fracture_mae.metrics import bagged_thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.metrics.rates import wilson
from fracture_mae.metrics.thresholds import Counts

DECISION = Decision(("healthy", "broken"), threshold=0.6)
CERTAINTY = Certainty(n_draws=200, seed=0)
AS_THEY_ARE = Certainty(n_draws=0, seed=0)
EVEN = Costs(1, 1)


def files(label, probability, group=None):
    group = [f"x{i}" for i in range(len(label))] if group is None else group
    return pd.DataFrame({"group": group, "label": label, "logit": logit(np.float64(probability))})


# Ten X-rays, five broken. From above: B B H B B H H B H H.
TEN = files([1, 1, 0, 1, 1, 0, 0, 1, 0, 0], [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def with_probability(rows):
    return rows.assign(probability=DECISION.probability(rows["logit"]))


# Each four times: twenty of each class.
OFTEN = pd.concat([TEN.assign(group=TEN["group"] + f"-{number}") for number in range(4)], ignore_index=True)


def thresholds(rows=TEN, prevalence=None, costs=EVEN, draws=AS_THEY_ARE):
    points = choose(with_probability(rows), DECISION, prevalence, costs, draws).points
    return {point.name: point.threshold for point in points}


def test_thresholds_by_hand():
    found = thresholds()
    assert (found["own"], found["default"]) == (0.6, 0.5)
    # Between 0.5 and 0.6: sensitivity 4/5 and specificity 4/5, the largest sum.
    assert found["Youden"] == pytest.approx(0.55)
    assert found["best F1"] == pytest.approx(0.55)  # 8/10; flagging down to 0.3 gives 10/13
    # All five are flagged only from between 0.2 and 0.3 down.
    assert [found[f"sensitivity {least}"] for least in ("0.90", "0.95", "0.99")] == pytest.approx([0.25] * 3)


def test_the_dearer_a_missed_fracture_the_lower_the_threshold():
    # At 0.55 one is missed and one false alarm is raised; at 0.25 none is missed, three false alarms are.
    assert thresholds(costs=Costs(1.9, 1))["minimum cost"] == pytest.approx(0.55)
    assert thresholds(costs=Costs(2.1, 1))["minimum cost"] == pytest.approx(0.25)
    # At 0.85 three are missed but there is no false alarm: 3 · 1 against 1 · 1 + 1 · 2.1.
    assert thresholds(costs=Costs(1, 2.1))["minimum cost"] == pytest.approx(0.85)


def test_cost_and_f1_are_weighed_at_the_prevalence_and_youden_is_not():
    rare, common = thresholds(prevalence=0.05), thresholds(prevalence=0.95)
    assert rare["minimum cost"] > common["minimum cost"]
    assert rare["best F1"] > common["best F1"]
    for name in ("Youden", "sensitivity 0.90"):
        assert rare[name] == common[name] == thresholds()[name]


def test_with_draws_a_threshold_is_chosen_as_a_classifiers_own_is():
    rows = files(np.tile([0, 1], 20), np.random.default_rng(0).random(40)).assign(patient=np.arange(40) // 2)
    found = thresholds(rows, draws=Certainty(n_draws=100, seed=7))
    probability = DECISION.probability(rows["logit"])
    for name, objective in (("weighted Youden", "weighted_youden"), ("Youden", "balanced_accuracy")):
        expected = bagged_thresholds.choose(rows["label"], probability, objective, rows["patient"], n_draws=100, seed=7)
        assert found[name] == pytest.approx(expected)


def test_every_xray_weighs_the_same_in_the_choice():
    # By files the best threshold is 0.35 (nine broken files found); by X-rays it is 0.55.
    rows = files([1] + [1] * 8 + [0] * 3, [0.6] + [0.4] * 8 + [0.5, 0.45, 0.2], ["a"] + ["b"] * 8 + ["c", "d", "e"])
    assert thresholds(rows)["Youden"] == pytest.approx(0.55)


def test_weights_to_a_prevalence():
    weight = weighted_to(0.25, np.array([1, 1, 0, 0]), np.array([1.0, 3.0, 2.0, 2.0]))
    np.testing.assert_allclose(weight, [0.5, 1.5, 3, 3])


def test_rates_by_bayes_formula():
    # Sensitivity 0.9, specificity 0.8. Of 1,000 X-rays 10 are broken: 9 found, 1 missed; 198 of 990 falsely flagged.
    rates = rates_at(np.array(0.9), np.array(0.8), 0.01, Costs(5, 1))
    assert rates["sensitivity"] == pytest.approx(0.9)
    assert rates["specificity"] == pytest.approx(0.8)
    assert rates["precision"] == pytest.approx(9 / 207)
    assert rates["negative_predictive_value"] == pytest.approx(792 / 793)
    assert rates["flagged_per_1000"] == pytest.approx(207)
    assert rates["cost_per_1000"] == pytest.approx(5 * 1 + 198)
    assert rates["read_per_fracture"] == pytest.approx(207 / 9)  # 23 X-rays for each fracture among them
    assert np.isnan(rates_at(np.array(0.0), np.array(1.0), 0.01, EVEN)["read_per_fracture"])  # none is found


def test_at_their_own_prevalence_the_rates_are_those_of_the_counts():
    counts = Counts(np.array(4.0), np.array(1.0), np.array(3.0), np.array(12.0))
    rates = rates_at(counts.sensitivity, counts.specificity, 5 / 20, EVEN)
    assert rates["precision"] == pytest.approx(counts.precision)
    assert rates["negative_predictive_value"] == pytest.approx(counts.negative_predictive_value)
    assert rates["flagged_per_1000"] == pytest.approx(1000 * 7 / 20)


def test_table_by_hand_with_intervals_around():
    points = [OperatingPoint("a", 0.55, "validation"), OperatingPoint("b", 1.0, "given")]
    found = table(TEN, DECISION, points, 0.5, EVEN, CERTAINTY).set_index("name")
    assert found.loc["a", ["sensitivity", "specificity", "precision"]].tolist() == pytest.approx([0.8, 0.8, 0.8])
    assert found.loc["a", ["threshold", "chosen_on", "prevalence"]].tolist() == [0.55, "validation", 0.5]
    assert np.isnan(found.loc["a", "sensitivity_low"])  # five of a class
    often = table(OFTEN, DECISION, points, 0.5, EVEN, CERTAINTY).set_index("name")
    assert often.loc["a", "sensitivity"] == pytest.approx(0.8)
    assert often.loc["a", "sensitivity_low"] < 0.8 < often.loc["a", "sensitivity_high"]
    assert found.loc["b", ["sensitivity", "specificity", "flagged_per_1000"]].tolist() == [0, 1, 0]
    assert np.isnan(found.loc["b", "precision"])  # nothing is flagged


def test_that_none_was_missed_does_not_prove_that_none_ever_is():
    # All twenty broken ones are found, eight of twenty healthy ones spared. Wilson's interval of 20 of 20: from 20 / (20 + 1.96²) on.
    found = table(OFTEN, DECISION, [OperatingPoint("a", 0.25, "validation")], 0.5, EVEN, CERTAINTY).iloc[0]
    assert found[["sensitivity", "sensitivity_low", "sensitivity_high"]].tolist() == [
        1,
        pytest.approx(0.83887, abs=1e-5),
        1,
    ]
    assert found["negative_predictive_value"] == 1
    # Where both are worse than they look, lower than where the sensitivity alone is.
    assert 0.6 < found["negative_predictive_value_low"] < 0.4 / (0.4 + 1 - 0.83887)
    assert found["negative_predictive_value_high"] == 1
    # The ends of a sum: 600 + 1,000 times the distance of both ends from 1 and 0.4, in squares, each at half.
    spared = wilson(0.4, 20)
    reach = 500 * np.hypot(1 - 0.83887, 0.4 - spared.low)
    assert found["cost_per_1000_high"] == pytest.approx(1000 * 0.5 * 0.6 + reach, abs=0.1)


def test_intervals_are_those_of_the_evaluation():
    rows = files(
        np.tile([0, 1], 40), np.linspace(0.05, 0.95, 80), np.repeat(np.arange(40), 2) * 2 + np.tile([0, 1], 40)
    )
    point = [OperatingPoint("own", 0.6, "the model")]
    found = table(rows, DECISION, point, 0.5, EVEN, CERTAINTY).iloc[0]
    probability = DECISION.probability(rows["logit"])
    expected = metric_intervals(rows["label"], probability, rows["group"], 0.6, n_draws=200, seed=0)
    for rate in ("sensitivity", "specificity", "precision", "negative_predictive_value"):
        ends = found[[rate, f"{rate}_low", f"{rate}_high"]].tolist()
        assert ends == pytest.approx(expected.loc[rate, ["estimate", "low", "high"]].tolist()), rate


def test_xrays_of_a_patient_are_drawn_as_one():
    label, probability = np.tile([0, 1], 40), np.random.default_rng(0).random(80)
    one = files(label, probability, np.arange(80))
    twice = pd.concat([one, one.assign(group=one["group"] + 80)], ignore_index=True)
    options = DECISION, [OperatingPoint("own", 0.6, "the model")], 0.5, EVEN, CERTAINTY
    expected = table(one, *options)
    pd.testing.assert_frame_equal(table(twice.assign(patient=twice["group"] % 80), *options), expected)
    apart, joined = (
        each["sensitivity_high"][0] - each["sensitivity_low"][0] for each in (table(twice, *options), expected)
    )
    assert apart < 0.85 * joined


def judged(test, **options):
    config = Evaluate(**options)
    splits, chosen_on = {"validation": TEN, "test": test}, ChosenOn(TEN)
    return operating_points.judge(splits, DECISION, config, "LEAKY", CERTAINTY, chosen_on)


def test_nothing_is_chosen_on_test():
    turned = TEN.assign(label=1 - TEN["label"])
    ours, poisoned = (judged(test).tables["test/xray/operating_points.csv"] for test in (TEN, turned))
    assert ours["threshold"].tolist() == poisoned["threshold"].tolist()
    assert ours["sensitivity"].tolist() != poisoned["sensitivity"].tolist()


def test_prevalence_is_that_of_the_splits_xrays_or_given():
    # Three files of one broken X-ray, one healthy one, and two more.
    test = files([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.2, 0.1, 0.3], list("aaabcd"))
    for level in ("image", "xray"):
        assert set(judged(test).tables[f"test/{level}/operating_points.csv"]["prevalence"]) == {1 / 4}
        given = judged(test, prevalence=0.02).documents[f"test/{level}/operating_points.json"]
        assert (given["prevalence"], given["prevalence_from"]) == (0.02, "given")


def test_every_level_and_split_has_table_document_and_figure():
    found = judged(TEN)
    places = {f"{split}/{level}/operating_points" for split in ("validation", "test") for level in ("image", "xray")}
    assert set(found.tables) == {f"{place}.csv" for place in places}
    assert set(found.figures) == {f"{place}.png" for place in places}
    document = found.documents["test/xray/operating_points.json"]
    assert [point["name"] for point in document["points"]] == found.tables["test/xray/operating_points.csv"][
        "name"
    ].tolist()
    json.dumps(document, allow_nan=False)


def test_digest_says_prevalence_and_thresholds():
    text = operating_points.digest(judged(TEN, prevalence=0.02), "test")
    assert "at a prevalence of 2.0%; chosen on validation" in text
    (default,) = [line for line in text.splitlines() if line.strip().startswith("default")]
    assert "0.500 0.800 [" in default


@pytest.mark.filterwarnings("error")
def test_a_split_of_one_class_has_no_rates_but_a_table():
    healthy = files([0, 0, 0], [0.1, 0.7, 0.2])
    found = judged(healthy).tables["test/xray/operating_points.csv"].set_index("name")
    assert found.loc["default", "specificity"] == pytest.approx(2 / 3)
    assert np.isnan(found.loc["default", "sensitivity"])
    # Nothing is known of fractures, and none is to be expected: one of three is flagged, wrongly.
    assert found.loc["default", "flagged_per_1000"] == pytest.approx(1000 / 3)
    assert (found.loc["default", "precision"], found.loc["default", "negative_predictive_value"]) == (0, 1)


def test_without_validation_only_what_needs_no_choosing_is_judged():
    report = operating_points.judge({"external": TEN}, DECISION, Evaluate(), "", CERTAINTY, None)
    assert report.tables["external/xray/operating_points.csv"]["name"].tolist() == ["own", "default"]
