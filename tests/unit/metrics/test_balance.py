import numpy as np
import pytest

from fracture_mae.metrics import balance

LABEL = np.array([1, 1, 1, 0, 0, 1])
SOURCE = np.array(list("aaaabc"))


def test_overlap_weights_by_hand():
    found = balance.overlap_weight(LABEL, [0.9, 0.5, 1.0, 0.25, 0.0, 0.5])
    np.testing.assert_allclose(found, [0.1, 0.5, 0, 0.25, 0, 0.5])


def test_labels_weigh_the_same_in_every_stratum_and_a_stratum_of_one_label_nothing():
    # In a: positives weigh 1 + 2 + 3 = 6, negatives 3: each then 2 · 6 · 3 / 9 = 4.
    found = balance.balanced_within(LABEL, SOURCE, [1, 2, 3, 3, 5, 7])
    np.testing.assert_allclose(found, [4 / 6, 8 / 6, 12 / 6, 4, 0, 0])


def test_effective_size_is_that_of_equal_weights():
    assert balance.effective_size([2, 2, 2, 0]) == pytest.approx(3)
    assert balance.effective_size([3, 1]) == pytest.approx(16 / 10)
    assert balance.effective_size(np.zeros(4)) == 0


def test_overlap_weights_of_the_true_propensity_make_labels_independent():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 2))
    propensity = 1 / (1 + np.exp(-2 * values[:, 0] + values[:, 1]))
    label = (rng.random(20_000) < propensity).astype(int)
    even, weight = np.ones(20_000), balance.overlap_weight(label, propensity)
    before = balance.standardised_differences(values, label, even, even)
    after = balance.standardised_differences(values, label, weight, even)
    assert (np.abs(before) > 0.4).all()
    assert (np.abs(after) < 0.03).all()


def test_standardised_differences_by_hand():
    values = np.array([[1.0, 7], [3, 7], [5, 7], [0, 7], [2, 7]])
    label, even = np.array([1, 1, 1, 0, 0]), np.ones(5)
    # Means 3 and 1, variances 8/3 and 1; weighted means 11/5 and 1, over the standard deviation of before.
    deviation = np.sqrt((8 / 3 + 1) / 2)
    np.testing.assert_allclose(balance.standardised_differences(values, label, even, even), [2 / deviation, 0])
    weight = np.array([3, 1, 1, 1, 1])
    np.testing.assert_allclose(balance.standardised_differences(values, label, weight, even), [1.2 / deviation, 0])


def test_what_never_varies_has_no_difference_by_rounding():
    values, label = np.full((7, 1), 8.1), np.array([1, 1, 1, 0, 0, 0, 0])
    weight = np.array([0.1, 0.3, 0.7, 0.9, 0.2, 0.1, 0.1])
    assert balance.standardised_differences(values, label, weight, weight).tolist() == [0]
