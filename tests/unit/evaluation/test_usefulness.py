import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from fracture_mae.config import Evaluate
from fracture_mae.evaluation import usefulness
from fracture_mae.evaluation.at_prevalence import Costs
from fracture_mae.evaluation.usefulness import decision_curve
from fracture_mae.metrics.decision import Decision

DECISION = Decision(("healthy", "broken"), threshold=0.6, prevalence=0.5)


def files(label, probability):
    return pd.DataFrame({"group": np.arange(len(label)), "label": label, "logit": logit(np.float64(probability))})


# From above: B B H B B H H B H H.
TEN = files([1, 1, 0, 1, 1, 0, 0, 1, 0, 0], [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


# Each four times: an interval needs ten X-rays of each class.
OFTEN = pd.concat([TEN] * 4, ignore_index=True).assign(group=np.arange(40))


def curve(at, prevalence=0.5, rows=TEN):
    return decision_curve(rows, DECISION.probability(rows["logit"]), prevalence, np.array(at))


def test_net_benefit_by_hand():
    # From 0.25 on, five broken ones of ten are found and three others are false alarms, each worth a third of a found fracture.
    found = curve([0.25]).iloc[0]
    assert found["net_benefit"] == pytest.approx(5 / 10 - 3 / 10 / 3)
    assert found["flag_all"] == pytest.approx(5 / 10 - 5 / 10 / 3)
    assert found["gain"] == pytest.approx(2 / 10 / 3)
    assert (found["flagged_per_1000"], found["read_per_fracture"]) == (800, pytest.approx(8 / 5))
    # From 0.75 on flagging all does harm, flagging none does not: two are found, one false alarm counts three times.
    found = curve([0.75]).iloc[0]
    assert found["net_benefit"] == pytest.approx(2 / 10 - 3 * 1 / 10)
    assert (found["flag_all"], found["gain"]) == (pytest.approx(-1), found["net_benefit"])


def test_at_the_users_prevalence_fewer_are_found_and_more_are_read_for_each():
    # Sensitivity 1, specificity 2/5: of 1,000 X-rays 50 are broken and 570 of the 950 others are flagged.
    found = curve([0.25], prevalence=0.05).iloc[0]
    assert found["flagged_per_1000"] == pytest.approx(620)
    assert found["read_per_fracture"] == pytest.approx(620 / 50)
    assert found["net_benefit"] == pytest.approx(0.05 - 0.57 / 3)


def test_flagging_all_and_none_are_the_ends_of_every_curve():
    at = np.array([0.01, 0.97])
    found = curve(at)
    assert found["net_benefit"].tolist() == pytest.approx([found["flag_all"][0], 0])
    assert np.isnan(found["read_per_fracture"][1])
    np.testing.assert_allclose(
        usefulness.flag_all(0.3, np.array([0.3])), [0], atol=1e-12
    )  # neither is better at the prevalence


def test_that_none_was_missed_does_not_make_it_better_than_flagging_all():
    """At 0.25 nothing is missed and eight of twenty are spared: Wilson's end of 20 of 20 is 0.839, of 8 of 20 0.219 and 0.613."""
    found = curve([0.25], rows=OFTEN).iloc[0]
    missed, spared = (1 - 0.839) * 0.5, (np.array([0.219, 0.4, 0.613]) - 0.4) * 0.5 / 3  # what each end takes or adds
    assert found["low"] == pytest.approx(0.4 - np.hypot(missed, spared[0]), abs=2e-3)
    assert found["high"] == pytest.approx(0.4 + spared[2], abs=2e-3)
    assert found["gain_low"] < 0


def test_the_band_holds_the_truth_and_narrows():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 800):
        label = rng.integers(0, 2, n)
        rows = files(label, 1 / (1 + np.exp(-rng.normal(2 * label - 1, 1))))
        found = curve([0.3], rows=rows).iloc[0]
        assert found["low"] < found["net_benefit"] < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < 0.4 * widths[0]


def test_copies_of_an_xray_make_no_band_narrower():
    rows = pd.concat([OFTEN, OFTEN], ignore_index=True)
    once, twice = (curve([0.25, 0.5], rows=each) for each in (OFTEN, rows.assign(patient=rows["group"])))
    np.testing.assert_allclose(twice[["low", "high"]], once[["low", "high"]])


def test_of_fewer_than_ten_patients_with_a_fracture_there_is_no_band():
    few = OFTEN.assign(patient=np.where(OFTEN["label"] == 1, OFTEN["group"] % 9, OFTEN["group"] + 9))
    for rows in (TEN, few):
        assert curve([0.25], rows=rows)[["low", "high", "gain_low"]].isna().all(axis=None)


def test_prices_name_the_threshold_probability():
    assert usefulness.at_costs(Costs(5, 1)) == pytest.approx(1 / 6)
    assert usefulness.at_costs(Costs(1, 1)) == 0.5


def judged(test=TEN, **options):
    return usefulness.judge({"test": test}, DECISION, Evaluate(**options), "LEAKY")


def test_everything_is_reported_and_printed():
    found = judged(cost_false_negative=3)
    table = found.tables["test/xray/decision_curve.csv"]
    (own,) = table[table["at_costs"]].to_dict("records")
    assert own["threshold_probability"] == pytest.approx(0.25)
    assert found.metrics["test/xray/net_benefit"] == own["net_benefit"] == pytest.approx(0.4)
    assert found.metrics["test/xray/read_per_fracture"] == pytest.approx(1.6)
    assert set(found.figures) == {"test/xray/decision_curve.png"}
    json.dumps(found.documents, allow_nan=False)
    text = usefulness.digest(found, "test")
    assert (
        "at a prevalence of 50.0% where a missed fracture weighs 3 false alarms (flagged from a probability of 0.250 on): 0.400 ["
        in text
    )
    assert "flagging all 0.333, none 0; 800 of 1,000 X-rays are flagged, 1.6 are read for each fracture found." in text
    assert "Clearly better than flagging all and none at threshold probabilities" in text


def test_a_given_prevalence_moves_the_probabilities_from_that_of_the_calibration():
    # At a share of 1/10 a probability of 0.75 becomes 0.25, so from there on those above 0.75 are flagged: two broken ones, one other.
    found = judged(prevalence=0.1, cost_false_negative=3)
    own = found.tables["test/xray/decision_curve.csv"].iloc[0]
    assert own["flagged_per_1000"] == pytest.approx(1000 * (0.1 * 2 / 5 + 0.9 * 1 / 5))
    assert own["net_benefit"] == pytest.approx(0.1 * 2 / 5 - 0.9 * 1 / 5 / 3)


def test_the_files_of_an_xray_count_as_one():
    twice = pd.concat([TEN, TEN.iloc[[0]]], ignore_index=True)
    pd.testing.assert_frame_equal(
        judged(twice).tables["test/xray/decision_curve.csv"].drop(columns=["low", "high", "gain_low", "gain_high"]),
        judged().tables["test/xray/decision_curve.csv"].drop(columns=["low", "high", "gain_low", "gain_high"]),
    )


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_decision_curve(label):
    found = judged(TEN.assign(label=label))
    assert not found.tables
    assert usefulness.digest(found, "test") == ""
