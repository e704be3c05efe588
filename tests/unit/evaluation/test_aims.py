import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from fracture_mae.config import Evaluate
from fracture_mae.evaluation import operating_points
from fracture_mae.evaluation.aims import aims
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.metrics.decision import Decision

DECISION = Decision(("healthy", "broken"), threshold=0.5)


def xrays(n, copies=1):
    """As many broken as healthy ones, told apart but for the lowest broken one; copies of one are alike."""
    probability = np.append(np.linspace(0.4, 0.9, n), np.linspace(0.1, 0.45, n))
    group = np.repeat([f"x{i}" for i in range(2 * n)], copies)
    label, z = np.repeat([1, 0], n * copies), np.repeat(logit(probability), copies)
    return pd.DataFrame({"group": group, "patient": group, "label": label, "logit": z})


def judged(n=34, rows=None, chosen_on=None, **options):
    rows = xrays(n) if rows is None else rows
    chosen_on = ChosenOn(rows) if chosen_on is None else chosen_on
    return operating_points.judge({"test": rows}, DECISION, Evaluate(**options), "", Certainty(100, 0), chosen_on)


def names(report, level="xray"):
    return [name for name in report.tables[f"test/{level}/operating_points.csv"]["name"] if name.startswith("sens")]


def test_what_is_not_to_be_assured_is_said_and_not_printed():
    report = judged(34, assurance=0.95)
    assert names(report) == names(report, "image") == ["sensitivity 0.90"]
    text = operating_points.digest(report, "test")
    assert (
        "sensitivity 0.90: assured, the true one reaches it with confidence 0.972 (0 of 34 patients with a fracture missed"
        in text
    )
    for least, n in (("0.95", 59), ("0.99", 299)):
        needed = f"{n} patients with a fracture, none missed, are needed, found 34 on validation"
        assert f"sensitivity {least}: no threshold is assured at 0.95, {needed}; the ordinary choice, 0." in text
    assert names(judged(59, assurance=0.95)) == ["sensitivity 0.90", "sensitivity 0.95"]
    assert names(judged(58, assurance=0.95)) == ["sensitivity 0.90"]


def test_without_assurance_all_are_there_and_how_sure_they_are():
    report = judged(34)
    assert names(report) == ["sensitivity 0.90", "sensitivity 0.95", "sensitivity 0.99"]
    document = report.documents["test/xray/operating_points.json"]
    json.dumps(document, allow_nan=False)
    for aim, row in zip(
        document["aims"], report.tables["test/xray/operating_points.csv"].tail(3).itertuples(), strict=True
    ):
        missed, least = aim["ordinary"]["n_missed"], aim["min_sensitivity"]
        assert missed == round(34 * (1 - row.sensitivity)) <= 34 * (1 - least)
        assert row.confidence == aim["ordinary"]["confidence"]
    # One of 34 missed: 1 - 0.95^34 - 34 · 0.05 · 0.95^33 = 0.51.
    assert (
        "(0 of 34 patients with a fracture missed on validation; 0.95 takes 299, none missed)"
        in document["aims"][2]["said"]
    )
    assert document["aims"][2]["ordinary"]["confidence"] == pytest.approx(1 - 0.99**34)


def test_by_hand():
    rows = xrays(34).assign(probability=lambda table: DECISION.probability(table["logit"]))
    (aim,) = aims(rows, lambda least: 0.41, None, "validation", [0.95])  # above the lowest one alone
    assert (aim.n_fractured, aim.n_missed) == (34, 1)
    assert aim.confidence == pytest.approx(1 - 0.95**34 - 34 * 0.05 * 0.95**33)
    (aim,) = aims(rows.drop(columns="patient"), lambda least: 0.41, 0.5, "out of fold", [0.95])
    assert (aim.assured, aim.n_missed_assured) == (aim.threshold, 1)
    assert str(aim).startswith(
        "sensitivity 0.95: assured, the true one reaches it with confidence 0.512 (1 of 34 fractured X-rays missed out"
    )


def test_files_of_an_xray_assure_no_more_than_one():
    for report in (judged(rows=xrays(34, copies=4), assurance=0.95), judged(34, assurance=0.95)):
        assert names(report, "image") == names(report) == ["sensitivity 0.90"]


def test_where_predictions_out_of_fold_are_they_are_chosen_on():
    pooled = xrays(300).assign(probability=lambda table: DECISION.probability(table["logit"]), logit=0.0, fold=1)
    report = judged(34, chosen_on=ChosenOn.out_of_fold(pooled), assurance=0.95)
    assert names(report) == ["sensitivity 0.90", "sensitivity 0.95", "sensitivity 0.99"]
    points = report.tables["test/xray/operating_points.csv"]
    assert points["chosen_on"].tolist() == ["the model", "given", *["out of fold"] * 7]
    assert points["threshold"].iloc[-1] == pytest.approx(
        (0.4 + 0.45) / 2 - 0.025, abs=0.03
    )  # below all that are broken
    assert "; chosen out of fold:" in operating_points.digest(report, "test")


def test_where_files_and_xrays_differ_both_rates_are_told_and_that_a_server_sees_files():
    # Two files of each X-ray, on either side of 0.5 where the mean is: by files one of two is found, by X-rays both are.
    z = np.array([2.0, -1.0, 2.0, -1.0, -1.0, -1.0, -1.0, 0.5])
    rows = pd.DataFrame({"group": list("aabbccdd"), "label": [1, 1, 1, 1, 0, 0, 0, 0], "logit": z})
    report = operating_points.judge({"test": rows}, DECISION, Evaluate(), "", Certainty(100, 0), None)
    for level in ("image", "xray"):
        own = report.tables[f"test/{level}/operating_points.csv"].iloc[0]
        assert own[["sensitivity_per_file", "specificity_per_file"]].tolist() == [0.5, 0.75]
        assert own[["sensitivity_per_xray", "specificity_per_xray"]].tolist() == [1, 1]
    assert own["sensitivity"] == 1
    titles = [report.figures[f"test/{level}/operating_points.png"].get_suptitle() for level in ("image", "xray")]
    assert "as a server answers, file by file" in titles[0]
    assert "a server answers file by file" in titles[1]
    text = operating_points.digest(report, "test")
    assert (
        "sensitivity 0.500 per file and 1.000 per X-ray, specificity 0.750 per file and 1.000 per X-ray on test" in text
    )
    assert "sensitivity of files" in text
    healthy = operating_points.judge(
        {"test": rows[rows["label"] == 0]}, DECISION, Evaluate(), "", Certainty(100, 0), None
    )
    assert "own threshold specificity 0.750 per file and 1.000 per X-ray on test" in operating_points.served(
        healthy, "test"
    )
    single = judged(5)
    assert operating_points.served(single, "test") == ""
    assert (
        "server"
        not in operating_points.digest(single, "test") + single.figures["test/xray/operating_points.png"].get_suptitle()
    )
