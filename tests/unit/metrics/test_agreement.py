import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from fracture_mae.metrics import agreement
from fracture_mae.metrics.agreement import measure, smooth_curve, squared_error


def estimates(label, probability, **options):
    return measure(label, probability, np.arange(len(label)), **options)["estimate"]


def perfect(n, seed):
    """Labels that come true as often as their probabilities say."""
    rng = np.random.default_rng(seed)
    probability = expit(rng.normal(0.5, 1.5, n))
    return (rng.random(n) < probability).astype(int), probability


def test_agreement_by_hand():
    """Of ten files at 0.2 two are broken, of ten at 0.8 eight: as they say. The same from log odds twice as large: half the slope."""
    label = np.array([1] * 2 + [0] * 8 + [1] * 8 + [0] * 2)
    probability = np.repeat([0.2, 0.8], 10)
    found = estimates(label, probability)
    assert found["observed_to_expected"] == pytest.approx(1)
    assert found["calibration_in_the_large"] == pytest.approx(0, abs=1e-9)
    assert found["calibration_slope"] == pytest.approx(1)
    assert found["calibration_error"] == 0
    assert estimates(label, expit(2 * logit(probability)))["calibration_slope"] == pytest.approx(0.5)
    # All log odds too high by 1: that must be taken off.
    found = estimates(label, expit(logit(probability) + 1))
    assert found["calibration_in_the_large"] == pytest.approx(-1)
    assert found["calibration_slope"] == pytest.approx(1)
    expected = 10 * expit(logit(0.2) + 1) + 10 * expit(logit(0.8) + 1)
    assert found["observed_to_expected"] == pytest.approx(10 / expected)


def test_intervals_by_hand():
    """Twenty X-rays at one half, fifteen broken: log odds of 3, and each of their 20 scores is 1/4 or -3/4 about it.

    Their variance is Σ score² / (Σ p (1 - p))² · 20/19 = 3.75 / 3.75² · 20/19; that of the ratio's logarithm
    Σ (y - 1.5 / 2)² / 15² · 20/19. Student's quantile of 19 degrees of freedom is 2.093.
    """
    table = measure(np.repeat([1, 0], [15, 5]), np.full(20, 0.5), np.arange(20))
    reach = 2.09302 * np.sqrt(20 / 19 / 3.75)
    assert table.loc["calibration_in_the_large"].tolist() == pytest.approx(
        [np.log(3), np.log(3) - reach, np.log(3) + reach, 20], abs=1e-4
    )
    factor = np.exp(2.09302 * np.sqrt(3.75 / 15**2 * 20 / 19))
    assert table.loc["observed_to_expected"].tolist() == pytest.approx([1.5, 1.5 / factor, 1.5 * factor, 20], rel=1e-4)
    assert table.loc["calibration_slope", ["estimate", "low", "high"]].isna().all()  # nothing varies


def test_each_weighting_is_scikit_learns():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 200), rng.uniform(0.02, 0.98, 200)
    for weight in rng.integers(0, 3, (4, 200)):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(logit(probability)[:, None], label, sample_weight=weight)
        found = estimates(label, probability, weight=weight)
        assert found["calibration_slope"] == pytest.approx(model.coef_[0, 0], abs=1e-5)


def test_files_of_one_xray_tell_no_more_than_one():
    """Every file four times over, in its group: the same intervals. As if they were other X-rays: half as wide."""
    label, probability = perfect(80, 0)
    once = measure(label, probability, np.arange(80)).drop(index="calibration_error")
    group = np.tile(np.arange(80), 4)
    again = measure(np.tile(label, 4), np.tile(probability, 4), group).loc[once.index]
    np.testing.assert_allclose(again, once)
    apart = measure(np.tile(label, 4), np.tile(probability, 4), np.arange(320)).loc[once.index]
    np.testing.assert_allclose((apart["high"] - apart["low"]) / (once["high"] - once["low"]), 0.5, rtol=0.08)


def test_one_class_or_separated_classes_leave_undefined_what_they_must():
    table = measure(np.zeros(4, int), np.full(4, 0.25), np.arange(4))
    # Of four none: the exact interval of their share ends at 1 - 0.025^(1/4) = 0.6024.
    assert table.loc["observed_to_expected"].tolist() == pytest.approx([0, 0, 0.6024 / 0.25, 4], rel=1e-4)
    assert table.loc[["calibration_in_the_large", "calibration_slope"], "estimate"].isna().all()
    every = measure(np.ones(4, int), np.full(4, 0.5), np.arange(4)).loc["observed_to_expected"]
    assert every.tolist() == pytest.approx([2, 2 * 0.025 ** (1 / 4), 2, 4])
    assert np.isnan(estimates(np.array([0, 0, 1, 1]), [0.1, 0.2, 0.6, 0.9])["calibration_slope"])
    assert estimates([0, 0], [0.0, 0.0]).isna()["observed_to_expected"]


def test_a_class_in_a_single_group_gives_no_interval():
    label, probability = [1, 0, 0, 1, 0], [0.7, 0.8, 0.3, 0.6, 0.4]
    table = measure(label, probability, ["a", "b", "c", "a", "d"])
    assert table.loc["calibration_slope", "estimate"] == pytest.approx(
        estimates(label, probability)["calibration_slope"]
    )
    assert table.loc[["calibration_slope", "calibration_in_the_large"], ["low", "high"]].isna().all(axis=None)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of right probabilities on 48 X-rays; percentiles of bootstrap draws held the slope in 0.78 to 0.90 of such samples."""
    held = []
    for seed in range(300):
        label, probability = perfect(48, seed)
        table = measure(label, probability, np.arange(48)).drop(index="calibration_error")
        right = np.array([1, 0, 1])
        held.append((table["low"] <= right) & (right <= table["high"]))
    share = np.mean(held, axis=0)
    assert (share > 0.92).all()
    assert (share < 0.98).all()


def test_the_error_by_hand():
    """Two bins of ten. Below, all at 0.2, four of ten broken: 0.04 less the variance of their mean, 0.24 / 9. Above, all right."""
    label = np.array([1] * 4 + [0] * 6 + [1] * 10)
    probability = np.repeat([0.2, 1.0], 10)
    expected = (0.04 - 0.24 / 9) / 2
    assert squared_error(label, probability, np.arange(20)) == pytest.approx(expected)
    assert estimates(label, probability)["calibration_error"] == pytest.approx(np.sqrt(expected))
    # Each X-ray twice is no further X-ray: what chance adds stays.
    assert squared_error(np.tile(label, 2), np.tile(probability, 2), np.tile(np.arange(20), 2)) == pytest.approx(
        expected
    )
    # By weight: the bin below counts three times as much.
    weight = np.repeat([3.0, 1.0], 10)
    in_one = np.repeat([0, 1], 10)
    assert (agreement.equal_bins(probability, np.ones(20), 2) == in_one).all()
    assert squared_error(label, probability, np.arange(20), weight) == pytest.approx(3 / 4 * (0.04 - 0.24 / 9))


def test_chance_adds_nothing_to_the_error_of_a_perfect_model_and_hides_none():
    squared = [squared_error(*perfect(48, seed), np.arange(48)) for seed in range(400)]
    assert np.mean(squared) == pytest.approx(0, abs=0.002)
    assert np.mean(np.array(squared) <= 0) > 0.4
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.2, 1, 4000)
    too_high = (rng.random(4000) < probability - 0.2).astype(int)
    assert np.sqrt(squared_error(too_high, probability, np.arange(4000))) == pytest.approx(0.2, abs=0.02)


def test_bins_share_equal_probabilities_and_hold_equal_weights():
    bins = agreement.equal_bins(np.array([0.3, 0.3, 0.3, 0.9, 0.1, 0.95]), np.ones(6), 3)
    assert bins.tolist() == [1, 1, 1, 2, 0, 2]
    assert (
        np.bincount(agreement.equal_bins(np.random.default_rng(0).random(150), np.ones(150), 15)).tolist() == [10] * 15
    )


def test_the_curve_of_right_probabilities_is_the_diagonal():
    found = np.mean(
        [smooth_curve(*perfect(150, seed), np.arange(150), n_draws=0)["share"] for seed in range(150)], axis=0
    )
    at = np.linspace(0.02, 0.98, 51)
    np.testing.assert_allclose(found[5:45], at[5:45], atol=0.04)


def test_the_curve_follows_what_is_wrong_and_its_band_holds_it():
    rng = np.random.default_rng(0)
    probability = rng.random(2000)
    label = (rng.random(2000) < probability**2).astype(int)
    curve = smooth_curve(label, probability, np.arange(2000), n_draws=200)
    inner = curve[(curve["probability"] > 0.3) & (curve["probability"] < 0.9)]
    np.testing.assert_allclose(inner["share"], inner["probability"] ** 2, atol=0.06)
    assert (inner["high"] < inner["probability"]).all()
    assert ((curve["low"] <= curve["share"] + 1e-9) & (curve["share"] <= curve["high"] + 1e-9)).all()
    one = smooth_curve([1, 0, 1], [0.4, 0.4, 0.4], np.arange(3), n_draws=50)
    assert one[["probability", "share"]].to_numpy().tolist() == [[pytest.approx(0.4), pytest.approx(2 / 3)]]


def test_the_curve_by_weight_is_that_of_files_repeated():
    rng = np.random.default_rng(3)
    label, probability, times = rng.integers(0, 2, 40), rng.random(40), rng.integers(1, 4, 40)
    weighed = smooth_curve(label, probability, np.arange(40), times, n_draws=0)["share"]
    repeated = smooth_curve(
        np.repeat(label, times), np.repeat(probability, times), np.repeat(np.arange(40), times), n_draws=0
    )
    np.testing.assert_allclose(weighed, repeated["share"])
