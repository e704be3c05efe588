from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fracture_mae.metrics import rates
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.rates import BothRates, effective_size, share, wilson
from fracture_mae.metrics.scores import decision_metrics

Z2 = 1.959964**2


def hits(n_hit, n, copies=1):
    """n groups of some copies each; of n_hit of them all are hit."""
    return np.repeat(np.arange(n) < n_hit, copies).astype(float), np.repeat(np.arange(n), copies)


def test_wilson_by_hand():
    # 33 of 33: n / (n + z²) = 33 / 36.8415.
    assert share(*hits(33, 33), np.ones(33)) == pytest.approx((1, 33 / (33 + Z2), 1), abs=1e-6)
    assert share(*hits(0, 33), np.ones(33)) == pytest.approx((0, 0, Z2 / (33 + Z2)), abs=1e-6)
    assert share(*hits(32, 33), np.ones(33)) == pytest.approx((32 / 33, 0.846813, 0.994631), abs=1e-6)
    for hits_, n in ((32, 33), (9, 20)):
        ends = binomtest(hits_, n).proportion_ci(method="wilson")
        assert wilson(hits_ / n, n) == pytest.approx((hits_ / n, ends.low, ends.high))
    expected = binomtest(9, 20).proportion_ci(0.9, method="wilson")
    assert wilson(9 / 20, 20, 0.9) == pytest.approx((9 / 20, expected.low, expected.high))


@pytest.mark.parametrize("copies", [1, 4])
def test_a_further_miss_raises_no_end(copies):
    # As a percentile bootstrap had it: 32 of 33 from 0.909 on, 33 of 33 from 0.894 on.
    found = [share(*hits(n_hit, 33, copies), np.ones(33 * copies)) for n_hit in range(34)]
    for fewer, more in pairwise(found):
        assert fewer.low <= more.low
        assert fewer.high <= more.high
    assert all(each.low <= each.estimate <= each.high for each in found)


def test_one_missed_file_of_many_raises_no_end():
    hit, group = hits(33, 33, copies=5)
    whole = share(hit, group, np.ones(165))
    hit[7] = 0
    assert share(hit, group, np.ones(165)).low <= whole.low
    # Nor would many that are found lower the other end of a single one.
    assert share(1 - hit, group, np.ones(165)).high >= 1 - whole.low


@given(st.lists(st.booleans(), min_size=10, max_size=40), st.integers(2, 5))
def test_copies_are_no_further_xrays(hit, copies):
    hit, group = np.array(hit, dtype=float), np.arange(len(hit))
    one = share(hit, group, np.ones(len(hit)))
    many = share(np.repeat(hit, copies), np.repeat(group, copies), np.ones(copies * len(hit)))
    assert many == pytest.approx(one)
    assert one == pytest.approx(wilson(hit.mean(), len(hit)))  # groups of one file: the plain interval
    assert share(hit, group, np.full(len(hit), 0.2)) == pytest.approx(one)


def test_effective_size_by_hand():
    # Ten groups of two, each with one hit and one miss: the rate hardly varies, but it counts no more than all twenty files.
    assert effective_size(np.tile([0.0, 1.0], 10), np.ones(20), np.repeat(np.arange(10), 2)) == 20
    # Groups that are all hit or all missed count once each, of whatever size.
    assert effective_size(np.repeat([0.0, 1.0], 15), np.ones(30), np.repeat(np.arange(10), 3)) == pytest.approx(10)
    # Independent files of weights 3 and 1: (10 · 3 + 10 · 1)² / (10 · 9 + 10 · 1) = 16 at most.
    weight = np.repeat([3.0, 1.0], 10)
    assert effective_size(np.tile([0.0, 1.0], 10), weight, np.arange(20)) == pytest.approx(16, rel=0.01)


def test_too_few_groups_have_no_ends():
    assert share(*hits(9, 9, 20), np.ones(180)) == pytest.approx((1, np.nan, np.nan), nan_ok=True)
    assert share(np.ones(2), np.arange(2), np.zeros(2)) == pytest.approx([np.nan] * 3, nan_ok=True)


def both(n_found=15, n_positive=20, n_right=24, n_negative=30, group=None):
    label = np.repeat([1, 0], [n_positive, n_negative])
    right = np.concatenate([np.arange(n_positive) < n_found, np.arange(n_negative) < n_right])
    group = np.arange(label.size) if group is None else group
    return BothRates.of(label, np.where(right, label, 1 - label), group, np.ones(label.size))


def test_a_mean_of_both_rates_by_hand():
    """The ends of independent rates add in squares: Newcombe's, of a sum."""
    one, other = wilson(0.75, 20), wilson(0.8, 30)
    found = both().ends(lambda *rates: {"mean": np.add(*rates) / 2})["mean"]
    below, above = np.hypot(0.75 - one.low, 0.8 - other.low), np.hypot(one.high - 0.75, other.high - 0.8)
    assert found == pytest.approx((0.775, 0.775 - below / 2, 0.775 + above / 2), abs=1e-5)


def test_a_ratio_of_both_rates_by_hand():
    """Sensitivity over false alarms: Donner and Zou's closed form (Statistical Methods in Medical Research 21, 2012)."""
    one, other = wilson(0.75, 20), wilson(0.2, 30)
    found = both().ends(lambda sensitivity, specificity: {"ratio": sensitivity / (1 - specificity)})["ratio"]

    def end(of_one, of_other, sign):
        product, nearer = 0.75 * 0.2, of_other * (2 * 0.2 - of_other)
        return (product + sign * np.sqrt(product**2 - of_one * nearer * (2 * 0.75 - of_one))) / nearer

    expected = 0.75 / 0.2, end(one.low, other.high, -1), end(one.high, other.low, 1)
    assert found == pytest.approx(expected, rel=1e-4)


def test_figures_of_decisions_are_those_of_the_counts():
    rates_ = both()
    found = rates_.ends(lambda *each: decision_metrics(rates_.counts(*each)))
    assert found["accuracy"].estimate == pytest.approx((15 + 24) / 50)
    assert found["precision"].estimate == pytest.approx(15 / 21)
    assert found["sensitivity"] == pytest.approx(rates_.sensitivity, abs=1e-9)
    assert found["specificity"] == pytest.approx(rates_.specificity, abs=1e-9)
    assert all(each.low < each.estimate < each.high for each in found.values())


def test_one_class_alone_has_what_needs_no_other():
    alone = BothRates.of(np.zeros(20, int), np.repeat([0, 1], [15, 5]), np.arange(20), np.ones(20))
    found = alone.ends(lambda *each: decision_metrics(alone.counts(*each)))
    assert found["accuracy"] == pytest.approx(wilson(0.75, 20))
    assert np.isnan(found["sensitivity"]).all()
    assert np.isnan(found["balanced_accuracy"]).all()


def test_a_class_of_few_groups_leaves_the_others_rate_its_interval():
    few = both(n_found=4, n_positive=5)
    found = few.ends(lambda *each: decision_metrics(few.counts(*each)))
    assert found["specificity"].low < 0.8
    assert found["sensitivity"].estimate == 0.8
    for name in ("sensitivity", "accuracy", "precision", "mcc"):
        assert np.isnan(found[name].low), name


def test_patients_of_both_classes_tie_the_errors_of_both():
    """Who is found has no false alarm: the errors go against each other, and accuracy is the surer for it."""
    label, patient = np.repeat([1, 0], 20), np.tile(np.arange(20), 2)
    wrong = np.arange(20) % 4 == 0
    decision = np.concatenate([~wrong, ~wrong]).astype(int)  # a fracture found, and a false alarm
    together = BothRates.of(label, decision, patient, np.ones(40))
    apart = BothRates.of(label, decision, np.arange(40), np.ones(40))
    assert together.correlation == pytest.approx(-1)
    assert apart.correlation == 0
    width = [np.ptp(each.ends(lambda *r: {"mean": np.add(*r) / 2})["mean"][1:]) for each in (together, apart)]
    assert width[0] < width[1]


def test_ends_of_rates_without_any_flagged():
    none = both(n_found=0, n_right=30)
    found = none.ends(lambda *each: decision_metrics(none.counts(*each)))
    assert found["precision"] == pytest.approx(Interval(np.nan, np.nan, np.nan), nan_ok=True)
    assert found["mcc"].estimate == 0
    assert found["sensitivity"].high == pytest.approx(rates.wilson(0, 20).high)
