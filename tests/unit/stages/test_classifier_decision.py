"""What is chosen for a classifier on validation: metrics, calibration and threshold."""

from math import log

import numpy as np
import pandas as pd
import pytest

from fracture_mae.config import TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import bagged_thresholds, calibration
from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages.classifier import (
    decide,
    validation_metrics,
)


@pytest.fixture
def as_they_are(monkeypatch):
    """Thresholds chosen on the X-rays themselves, so that the answer can be worked out by hand."""
    monkeypatch.setattr(bagged_thresholds, "N_DRAWS", 0)


def predictions(*xrays):
    """A row per file of X-rays given as (label, probabilities of its files)."""
    rows = [
        {"group": f"xray-{number}", "label": label, "logit": log(p / (1 - p))}
        for number, (label, probabilities) in enumerate(xrays)
        for p in probabilities
    ]
    return pd.DataFrame(rows)


def test_metrics_of_files_and_of_xrays_by_hand():
    # Mean logits of the X-rays: 0, log 3, -log 3.
    table = predictions((1, [0.75, 0.25]), (0, [0.75]), (0, [0.25]))
    metrics = validation_metrics(table)
    # Of the pairs of a fractured and another file, one is right, one is wrong, two are ties.
    assert metrics["validation/image/auroc"] == pytest.approx(0.5)
    assert metrics["validation/xray/auroc"] == pytest.approx(1 / 2)  # one right, one wrong
    assert metrics["validation/image/log_loss"] == pytest.approx((2 * log(4 / 3) + 2 * log(4)) / 4)
    assert metrics["validation/xray/log_loss"] == pytest.approx((log(2) + log(4) + log(4 / 3)) / 3)
    assert metrics["validation/xray/average_precision"] == pytest.approx(1 / 2)


# By files, 0.2 is best: sensitivity 1 and specificity 8/10, against 1/9 and 1 at 0.625. By X-rays it is 0.625: sensitivity 1/2 and
# specificity 1, against 1 and 1/3 at 0.2.
UNEVEN = [(1, [0.8]), (1, [0.3] * 8), (0, [0.4]), (0, [0.1] * 8), (0, [0.45])]


@pytest.mark.usefixtures("as_they_are")
def test_the_threshold_weighs_every_xray_the_same(dataset):
    config = TrainClassifier(calibrate="none", threshold="balanced_accuracy")
    decision = decide(predictions(*UNEVEN), config, dataset)
    assert decision.threshold == pytest.approx((0.45 + 0.8) / 2)
    assert not decision.calibrated
    assert decision.prevalence is None


def test_the_calibration_weighs_every_xray_the_same(dataset):
    config = TrainClassifier(calibrate="platt", threshold=0.5)
    once = predictions(*((label, files[:1]) for label, files in UNEVEN))
    expected = calibration.fit_sigmoid(once["logit"], once["label"])
    for rows in (once, predictions(*UNEVEN)):
        decision = decide(rows, config, dataset)
        assert (decision.slope, decision.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-4)
        assert decision.prevalence == pytest.approx(2 / 5)
    assert expected.slope != pytest.approx(1, abs=0.1)


def test_a_temperature_is_a_slope_alone_and_knows_no_prevalence(dataset):
    rows = predictions(*UNEVEN)
    decision = decide(rows, TrainClassifier(calibrate="temperature", threshold=0.5), dataset)
    assert decision.slope != pytest.approx(1, abs=0.1)
    assert (decision.intercept, decision.prevalence) == (0.0, None)


def test_platt_is_the_default_and_its_mean_is_the_share_of_fractured(dataset):
    """Logits all too high, as after a class weight of 10: a temperature would put every probability near one half."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [80, 20])
    rows = pd.DataFrame({"group": range(100), "label": label, "logit": 2 + label + 0.5 * rng.normal(size=100)})
    decision = decide(rows, TrainClassifier(threshold=0.5), dataset)
    probability = decision.probability(rows["logit"])
    assert probability.mean() == pytest.approx(0.2, abs=0.01)
    assert probability[label == 1].mean() > 0.5


def test_a_network_that_learnt_nothing_is_said_and_answers_with_the_share_of_fractured(dataset, caplog):
    rows = predictions((1, [0.2]), (1, [0.3]), (0, [0.7]), (0, [0.8]), (0, [0.6]))
    decision = decide(rows, TrainClassifier(threshold=0.5), dataset)
    assert "learnt nothing that holds on the 5 X-rays" in caplog.text
    assert "the share of fractured there, 0.400" in caplog.text
    np.testing.assert_allclose(decision.probability(rows["logit"]), 0.4, atol=0.01)
    caplog.clear()
    decide(predictions(*UNEVEN), TrainClassifier(threshold=0.5), dataset)
    assert not caplog.text


@pytest.mark.usefixtures("as_they_are")
def test_isotonic_is_fitted_on_equal_xrays_and_the_threshold_after_it(dataset):
    table = predictions(*UNEVEN)
    decision = decide(table, TrainClassifier(calibrate="isotonic", threshold="balanced_accuracy"), dataset)
    # From below 8 x 0.1 (healthy), 8 x 0.3 (broken), 0.4 and 0.45 (healthy), 0.8 (broken), each X-ray 1: 0 | 1/3 | 1 in steps,
    # and no probability beyond 1/7 and 6/7, as there are five X-rays.
    steps = decision.probability([log(p / (1 - p)) for p in (0.1, 0.3, 0.4, 0.45, 0.8)])
    np.testing.assert_allclose(steps, [1 / 7, 1 / 3, 1 / 3, 1 / 3, 6 / 7])
    assert decision.threshold == pytest.approx((1 / 3 + 6 / 7) / 2)
    assert decision.prevalence == pytest.approx(2 / 5)


@pytest.mark.usefixtures("as_they_are")
def test_the_threshold_is_chosen_after_the_calibration(dataset):
    table = predictions(*UNEVEN)
    decision = decide(table, TrainClassifier(calibrate="platt", threshold="balanced_accuracy"), dataset)
    low, high = decision.probability([log(0.45 / 0.55), log(0.8 / 0.2)])
    assert decision.threshold == pytest.approx((low + high) / 2)


def overlapping(n=40, seed=0):
    """Predictions of which the classes overlap, two files of each X-ray, two X-rays of each patient."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.tile([0, 0, 1, 1], n // 4), 2)
    group = np.repeat(np.arange(n), 2)
    logit = rng.normal(1.5 * label - 0.5, 1)
    return pd.DataFrame({"group": group, "patient": group // 2, "label": label, "logit": logit})


def test_the_default_leans_to_sensitivity_and_says_how_it_was_chosen(dataset):
    rows = overlapping(seed=6)
    default = decide(rows, TrainClassifier(), dataset)
    even = decide(rows, TrainClassifier(threshold="balanced_accuracy"), dataset)
    assert 0 < default.threshold < even.threshold
    assert str(default) == (
        f"threshold {default.threshold:.3f}: weighted_youden (sensitivity counts 1.5 times as much as specificity), "
        "mean over 500 bootstrap draws of 40 validation X-rays by their 80 files one by one, as a server answers"
    )
    assert decide(rows, TrainClassifier(), dataset) == default  # the same seed, the same threshold
    assert decide(rows, TrainClassifier(seed=1), dataset).threshold != default.threshold
    assert decide(rows.drop(columns="patient"), TrainClassifier(), dataset).threshold != default.threshold


def test_where_there_are_out_of_fold_predictions_the_threshold_is_chosen_on_them(dataset):
    """As they are calibrated by their own folds: their logits are not looked at."""
    rows, other = overlapping(), overlapping(120, seed=1)
    other = other.assign(probability=calibration.apply(other["logit"] - 1, 1.0), logit=0.0)
    decision = decide(rows, TrainClassifier(), dataset, other)
    plain = decide(rows, TrainClassifier(), dataset)
    assert (decision.slope, decision.intercept) == (plain.slope, plain.intercept)
    expected = bagged_thresholds.choose(other["label"], other["probability"], "weighted_youden", other["patient"])
    assert decision.threshold == pytest.approx(expected)
    assert decision.chosen_on.startswith("mean over 500 bootstrap draws of 120 out-of-fold X-rays by their 240 files")


def test_a_sensitivity_is_assured_where_that_is_asked_for(dataset):
    rows = overlapping(160)  # 40 patients with a fracture
    config = TrainClassifier(threshold="specificity_at_sensitivity", min_sensitivity=0.9, assurance=0.95)
    sure = decide(rows, config, dataset)
    ordinary = decide(rows, config.model_copy(update={"assurance": "none"}), dataset)
    assert sure.threshold < ordinary.threshold
    lowest = rows[rows["label"] == 1].groupby("patient")["logit"].min()
    assert (sure.probability(lowest) >= sure.threshold).all()  # of 40 none may be missed
    assert sure.objective == "specificity_at_sensitivity (min_sensitivity 0.9, assurance 0.95)"
    assert sure.chosen_on.startswith(
        "assured on 160 validation X-rays by their 320 files one by one, as a server answers: 0 of 40 pat"
    )
    with pytest.raises(FractureMaeError, match="needs 59 patients with a fracture, none of them missed; found 40"):
        decide(rows, config.model_copy(update={"min_sensitivity": 0.95}), dataset)


def test_what_cannot_be_assured_ends_before_the_training_but_not_a_fold(dataset):
    config = TrainClassifier(threshold="specificity_at_sensitivity", min_sensitivity=0.5, assurance=0.95)
    refused = r"needs 5 patients with a fracture, none of them missed; found 3 on validation\. Choose on more of them with --cross-val"
    with pytest.raises(FractureMaeError, match=refused):
        classifier_stage.check_assurance(config, dataset)
    classifier_stage.check_assurance(config.model_copy(update={"cross_validate": 5}), dataset)  # 3 and 4 of training
    with pytest.raises(FractureMaeError, match=r"found 5 in training and validation\. Take more X-rays"):
        classifier_stage.check_assurance(
            config.model_copy(update={"min_sensitivity": 0.9, "cross_validate": 5}), dataset
        )
    assert classifier_stage.as_can_be_assured(config, dataset.validation).assurance == "none"
    enough = config.model_copy(update={"min_sensitivity": 0.3})
    assert classifier_stage.as_can_be_assured(enough, dataset.validation) == enough
    classifier_stage.check_assurance(TrainClassifier(assurance=0.95), dataset)  # for operating points alone


def test_a_given_threshold_is_taken_and_the_data_is_named(dataset):
    decision = decide(predictions(*UNEVEN), TrainClassifier(recipe="original"), dataset)
    named = {"split_fingerprint": dataset.split_fingerprint, "data_fingerprint": dataset.fingerprint}
    assert decision == Decision(("not fractured", "fractured"), threshold=0.5, slope=1.0, intercept=0.0, **named)
    assert dataset.split_fingerprint != dataset.fingerprint
