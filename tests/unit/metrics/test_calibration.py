import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import calibration
from fracture_mae.metrics.calibration import Isotonic, fit_isotonic, fit_sigmoid


def applied(found, values):
    return calibration.apply(values, found.slope, found.intercept)


def test_a_sigmoid_by_hand():
    """Of 98 X-rays at logit 2 that are fractured and 38 that are not, 20 and 118 at -1.

    Platt's targets are (118 + 1) / (118 + 2) and 1 / (156 + 2), and two distinct logits are fitted exactly.
    """
    values, label = np.repeat([2.0, 2.0, -1.0, -1.0], [98, 38, 20, 118]), np.repeat([1, 0, 1, 0], [98, 38, 20, 118])
    high, low = 119 / 120, 1 / 158
    expected = [(98 * high + 38 * low) / 136, (20 * high + 118 * low) / 138]
    found = fit_sigmoid(values, label)
    np.testing.assert_allclose(applied(found, [2, -1]), expected, rtol=1e-6)
    assert found.slope == pytest.approx((logit(expected[0]) - logit(expected[1])) / 3, rel=1e-5)
    assert found.rises
    weighed = fit_sigmoid([2, 2, -1, -1], [1, 0, 1, 0], weight=[98, 38, 20, 118])
    assert (weighed.slope, weighed.intercept) == pytest.approx((found.slope, found.intercept), rel=1e-6)


def test_slope_and_intercept_are_found_again():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 4, 40_000)
    label = rng.random(values.size) < expit(0.4 * values - 1.5)
    found = fit_sigmoid(values, label)
    assert (found.slope, found.intercept) == (pytest.approx(0.4, rel=0.05), pytest.approx(-1.5, rel=0.05))


def binormal(n, prevalence, distance, rng):
    """Labels, and the log likelihood ratios of two normal distributions."""
    label = (rng.random(n) < prevalence).astype(int)
    return label, distance * (label * distance + rng.normal(size=n)) - distance**2 / 2


@pytest.mark.parametrize(("class_weight", "prior"), [(1, 0.5), (10, 0.5), (10, 0.2)])
def test_what_sampler_and_class_weight_shifted_is_taken_out(class_weight, prior):
    """Trained on classes drawn at `prior`, one weighing `class_weight`, a network adds their odds; a temperature leaves them in."""
    rng = np.random.default_rng(0)
    label, ratio = binormal(1000, 0.2, 1.2, rng)
    shifted = 1.5 * (ratio + np.log(class_weight) + logit(prior))  # and it is too sure
    true = expit(ratio + logit(0.2))
    found = applied(fit_sigmoid(shifted, label), shifted)
    assert found.mean() == pytest.approx(label.mean(), abs=0.005)
    assert np.abs(found - true).mean() < 0.03
    assert found.max() - found.min() > 0.6
    alone = applied(fit_sigmoid(shifted, label, shift=False), shifted)
    assert np.abs(alone - true).mean() > 0.15


def test_logits_that_separate_few_xrays_are_not_certain():
    """Of 15 and 33 X-rays that are told apart none is answered with more than Platt's targets, 34/35 and 1/17, by much."""
    values = np.concatenate([np.linspace(-0.6, -0.4, 15), np.linspace(0.4, 0.6, 33)])
    label = np.repeat([0, 1], [15, 33])
    for shift in (True, False):
        found = applied(fit_sigmoid(values, label, shift=shift), values)
        assert found.max() < 0.995
        assert found.min() > 0.005
    assert applied(fit_sigmoid(values, label), 0.5) == pytest.approx(34 / 35, abs=0.005)


@pytest.mark.parametrize(
    "values", [[2, 1, -1, -2, -2], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], ids=["falling", "one", "nought"]
)
def test_logits_that_tell_nothing_give_the_share_of_fractured_in_their_order(values):
    label = [0, 0, 1, 1, 0]
    found = fit_sigmoid(values, label)
    assert not found.rises
    assert found.slope > 0
    probability = applied(found, values)
    np.testing.assert_allclose(probability, 2 / 5, atol=0.01)
    np.testing.assert_array_equal(
        np.unique(probability, return_inverse=True)[1], np.unique(values, return_inverse=True)[1]
    )


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-8, 8), st.integers(0, 1), st.integers(1, 3)), min_size=2, max_size=30),
    st.floats(0.01, 100),
    st.floats(-50, 50),
)
def test_any_scale_and_origin_of_the_logits_give_the_same_probabilities(files, scale, origin):
    values, label, weight = map(np.array, zip(*files, strict=True))
    if len(set(label)) < 2 or np.ptp(values) < 0.1:
        return
    moved = values * scale + origin
    found = applied(fit_sigmoid(values, label, weight), values)
    np.testing.assert_allclose(applied(fit_sigmoid(moved, label, weight), moved), found, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "label", "message"),
    [([1, 2], [1, 1], "No file with label 0"), ([1, np.inf], [0, 1], "row 1: inf"), ([], [], "n > 0")],
)
def test_fit_sigmoid_refuses(values, label, message):
    with pytest.raises(FractureMaeError, match=message):
        fit_sigmoid(values, label)


def test_apply():
    np.testing.assert_allclose(calibration.apply([0, 2 * np.log(3), -1e4], 0.5), [0.5, 0.75, 0])
    np.testing.assert_allclose(calibration.apply([0, 1], 2, np.log(3)), [0.75, expit(2 + np.log(3))])
    for slope, intercept in ((0, 0), (-1, 0), (np.nan, 0), (np.inf, 0), (1, np.nan)):
        with pytest.raises(FractureMaeError, match="slope"):
            calibration.apply([0], slope, intercept)


def test_another_prevalence_by_hand():
    # Odds of 1 where half are fractured, 1/19 of them where one in twenty is.
    np.testing.assert_allclose(calibration.at_prevalence([0, 0.5, 0.95, 1], 0.05, 0.5), [0, 0.05, 0.5, 1])
    np.testing.assert_allclose(calibration.at_prevalence([0.2, 0.7], 0.3, 0.3), [0.2, 0.7])


def test_another_prevalence_is_that_of_bayes():
    """Probabilities that come true where 60 % are fractured do so where 5 % are, once they are moved there."""
    density = np.array([norm.pdf(np.linspace(-3, 4, 50), mean) for mean in (0, 1.5)])
    there, here = (share * density[1] / (share * density[1] + (1 - share) * density[0]) for share in (0.6, 0.05))
    np.testing.assert_allclose(calibration.at_prevalence(there, 0.05, 0.6), here)


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 1.5, np.nan])
def test_a_prevalence_out_of_range_is_refused(prevalence):
    with pytest.raises(FractureMaeError, match="expected a share of fractured X-rays between 0 and 1"):
        calibration.at_prevalence([0.5], prevalence, 0.5)


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


def test_isotonic_finds_a_curve_that_no_slope_can():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 20_000)
    truth = 0.2 + 0.5 * (logit > 1)
    label = rng.random(logit.size) < truth
    found = fit_isotonic(logit, label)
    np.testing.assert_allclose(found.apply([-3, 0, 2, 4]), [0.2, 0.2, 0.7, 0.7], atol=0.03)
    sloped = applied(fit_sigmoid(logit, label), logit)
    assert np.abs(found.apply(logit) - truth).mean() < 0.2 * np.abs(sloped - truth).mean()


def test_fit_isotonic_refuses_one_class():
    with pytest.raises(FractureMaeError, match="No file with label 0"):
        fit_isotonic([1, 2], [1, 1])


def test_isotonic_keeps_shape_and_precision():
    map_ = Isotonic((0.0, 1.0), (0.1, 0.3))
    assert map_.apply(np.float32([[0.0, 0.5]])).tolist() == [[0.1, pytest.approx(0.2)]]
    assert map_.apply(np.float32(0)).dtype == np.float64
