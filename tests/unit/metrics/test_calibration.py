import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import calibration
from fracture_mae.metrics.calibration import (
    Isotonic,
    calibration_errors,
    expected_calibration_error,
    fit_isotonic,
    fit_temperature,
)


def test_temperature_by_hand():
    # 70 % of the files with logit 2 are fractured, 30 % of those with -2: expit(2 / T) = 0.7.
    logit = np.repeat([2, -2], 10)
    label = np.repeat([1, 0, 1, 0], [7, 3, 3, 7])
    expected = 2 / np.log(0.7 / 0.3)
    assert fit_temperature(logit, label) == pytest.approx(expected, rel=1e-6)
    assert fit_temperature([2, 2, -2, -2], [1, 0, 1, 0], weight=[7, 3, 3, 7]) == pytest.approx(expected, rel=1e-6)


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 4, 20_000)
    label = rng.random(logit.size) < calibration.apply(logit, 2.5)
    assert fit_temperature(logit, label) == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize(("label", "expected"), [([0, 0, 1, 1], 0.05), ([1, 1, 0, 0], 20)])
def test_temperature_stays_finite_where_the_best_is_not(label, expected):
    assert fit_temperature([-2, -1, 1, 2], label) == pytest.approx(expected, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8), st.integers(0, 1), st.integers(1, 3)), min_size=2, max_size=30))
def test_no_temperature_on_a_grid_is_better(files):
    logit, label, weight = map(np.array, zip(*files, strict=True))
    if len(set(label)) < 2:
        return
    fitted = fit_temperature(logit, label, weight)

    def loss(temperature):
        return log_loss(label, calibration.apply(logit, temperature), sample_weight=weight)

    assert loss(fitted) <= min(map(loss, np.geomspace(0.06, 19, 15))) + 1e-7


@pytest.mark.parametrize(
    ("logit", "label", "message"),
    [([1, 2], [1, 1], "No file with label 0"), ([1, np.inf], [0, 1], "row 1: inf"), ([], [], "n > 0")],
)
def test_fit_temperature_refuses(logit, label, message):
    with pytest.raises(FractureMaeError, match=message):
        fit_temperature(logit, label)


def test_apply():
    np.testing.assert_allclose(calibration.apply([0, 2 * np.log(3), -1e4], 2), [0.5, 0.75, 0])
    for temperature in (0, -1, np.nan, np.inf):
        with pytest.raises(FractureMaeError, match="temperature"):
            calibration.apply([0], temperature)


def test_isotonic_by_hand():
    # Shares of fractured 1/4, 3/4, 1/2: the last two violate the order and are pooled to 5/8.
    found = fit_isotonic(np.repeat([-1, 0, 1], 4), [1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0])
    np.testing.assert_allclose(found.apply([-9, -1, 0, 0.3, 1, 9]), [1 / 4, 1 / 4, 5 / 8, 5 / 8, 5 / 8, 5 / 8])
    assert found.apply(-0.5) == pytest.approx((1 / 4 + 5 / 8) / 2)  # straight lines between the steps


def test_isotonic_weighs_files_and_is_never_certain():
    # Four X-rays, one of them with three files. All are told apart, and yet four X-rays prove nothing: 1/6 and 5/6.
    found = fit_isotonic([-3, -2, 1, 2, 3], [0, 0, 1, 1, 1], weight=[1, 1, 1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(found.apply([-3, 3]), [1 / 6, 5 / 6])
    pooled = fit_isotonic([0, 0], [0, 1], weight=[3, 1])
    assert pooled.apply(0) == pytest.approx(1 / 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8), st.integers(0, 1), st.integers(1, 3)), min_size=2, max_size=30))
def test_isotonic_never_falls_and_fits_no_worse_than_a_constant(files):
    logit, label, weight = map(np.array, zip(*files, strict=True))
    if len(set(label)) < 2:
        return
    found = fit_isotonic(logit, label, weight)
    assert (np.diff(found.apply(np.linspace(-10, 10, 300))) >= 0).all()
    assert (np.diff(found.logit) > 0).all()
    probability = found.apply(logit)
    least = 1 / (weight.sum() + 2)
    assert probability.min() >= least - 1e-12
    assert probability.max() <= 1 - least + 1e-12
    constant = np.average(label, weights=weight)
    assert weight @ (probability - label) ** 2 <= weight @ (constant - label) ** 2 + 1e-9


def test_isotonic_finds_a_curve_that_no_temperature_can():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 20_000)
    truth = 0.2 + 0.5 * (logit > 1)
    label = rng.random(logit.size) < truth
    found = fit_isotonic(logit, label)
    np.testing.assert_allclose(found.apply([-3, 0, 2, 4]), [0.2, 0.2, 0.7, 0.7], atol=0.03)
    scaled = calibration.apply(logit, fit_temperature(logit, label))
    assert expected_calibration_error(label, found.apply(logit)) < 0.1 * expected_calibration_error(label, scaled)


def test_fit_isotonic_refuses_one_class():
    with pytest.raises(FractureMaeError, match="No file with label 0"):
        fit_isotonic([1, 2], [1, 1])


def test_isotonic_keeps_shape_and_precision():
    map_ = Isotonic((0.0, 1.0), (0.1, 0.3))
    assert map_.apply(np.float32([[0.0, 0.5]])).tolist() == [[0.1, pytest.approx(0.2)]]
    assert map_.apply(np.float32(0)).dtype == np.float64


def test_expected_calibration_error_by_hand():
    label, probability = [0, 1, 1, 1], [0.15, 0.15, 0.95, 0.95]
    # Half the files are 0.35 off, half 0.05.
    assert expected_calibration_error(label, probability, n_bins=10) == pytest.approx(0.2)
    # The two low files count three times: 0.75 · 0.35 + 0.25 · 0.05.
    assert expected_calibration_error(label, probability, 10, weight=[3, 3, 1, 1]) == pytest.approx(0.275)


def test_bins_hold_their_upper_edge_and_the_ends():
    # 0.5 belongs to the lower of two bins, so it does not make up for the 0.7 above: (0.5 + 0.3) / 2.
    assert expected_calibration_error([0, 1], [0.5, 0.7], n_bins=2) == pytest.approx(0.4)
    assert expected_calibration_error([0, 1], [0.0, 1.0]) == 0
    assert expected_calibration_error([1, 0], [0.0, 1.0]) == 1


def test_expected_calibration_error_agrees_with_the_calibration_curve():
    rng = np.random.default_rng(1)
    probability = rng.random(500)
    label = (rng.random(500) < probability**2).astype(int)
    share, mean = calibration_curve(label, probability, n_bins=15)
    files, _ = np.histogram(probability, np.linspace(0, 1, 16))
    expected = np.average(np.abs(share - mean), weights=files)
    assert expected_calibration_error(label, probability) == pytest.approx(expected)


def test_many_weightings_at_once_equal_one_by_one():
    rng = np.random.default_rng(2)
    label, probability, weight = rng.integers(0, 2, 40), rng.random(40), rng.random((3, 40))
    one_by_one = [expected_calibration_error(label, probability, weight=row) for row in weight]
    np.testing.assert_allclose(calibration_errors(label, probability, weight), one_by_one)


def test_agreement_by_hand():
    """Of ten files at 0.2 two are broken, of ten at 0.8 eight: as they say. The same from log odds twice as large: half the slope."""
    label = np.array([1] * 2 + [0] * 8 + [1] * 8 + [0] * 2)
    probability = np.repeat([0.2, 0.8], 10)
    found = calibration.agreement(label, probability, np.ones(20))
    assert found["observed_to_expected"] == pytest.approx(1)
    assert found["calibration_in_the_large"] == pytest.approx(0, abs=1e-9)
    assert found["calibration_slope"] == pytest.approx(1)
    found = calibration.agreement(label, expit(2 * logit(probability)), np.ones(20))
    assert found["calibration_slope"] == pytest.approx(0.5)
    # All log odds too high by 1: that must be taken off.
    found = calibration.agreement(label, expit(logit(probability) + 1), np.ones(20))
    assert found["calibration_in_the_large"] == pytest.approx(-1)
    assert found["calibration_slope"] == pytest.approx(1)
    assert found["observed_to_expected"] == pytest.approx(
        10 / (10 * expit(logit(0.2) + 1) + 10 * expit(logit(0.8) + 1))
    )


def test_agreement_of_each_weighting_is_scikit_learns():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 200), rng.uniform(0.02, 0.98, 200)
    weight = rng.integers(0, 3, (4, 200))
    found = calibration.agreement(label, probability, weight)
    for each, slope in zip(weight, found["calibration_slope"], strict=True):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(logit(probability)[:, None], label, sample_weight=each)
        assert slope == pytest.approx(model.coef_[0, 0], abs=1e-5)


def test_agreement_with_one_class_or_separated_classes_is_undefined_but_for_the_ratio():
    found = calibration.agreement(np.zeros(4, int), np.full(4, 0.25), np.ones(4))
    assert found["observed_to_expected"] == 0
    assert np.isnan([found["calibration_in_the_large"], found["calibration_slope"]]).all()
    separated = calibration.agreement(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9]), np.ones(4))
    assert np.isnan(separated["calibration_slope"])
