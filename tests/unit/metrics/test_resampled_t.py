import numpy as np
import pytest

from fracture_mae.metrics.resampled_t import degrees, difference, holm, reach


def test_a_difference_by_hand():
    # mean 0.02, sd 0.02, standard error 0.02 · √(1/5 + 1/4) = 0.0134, t = 1.491 with four degrees of freedom
    found = difference([0.0, 0.01, 0.02, 0.03, 0.04], ratio=1 / 4)
    error = np.sqrt(0.00025) * np.sqrt(1 / 5 + 1 / 4)
    assert found.estimate == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - 2.776445 * error, 0.02 + 2.776445 * error), abs=1e-7)
    assert found.p == pytest.approx(0.1315, abs=1e-3)  # the usual t test: 0.047
    assert difference([0.0, 0.01, np.nan, 0.02, 0.03, 0.04], ratio=1 / 4) == found


def test_p_and_interval_say_the_same():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = difference(rng.normal(0.3, 1, 25), ratio=1 / 4)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_what_never_varies_says_nothing_of_chance():
    for never in ([0.1] * 5, [0.1], []):
        assert np.isnan([difference(never, 0.25).low, difference(never, 0.25).p]).all()
    assert difference([0.0] * 5, 0.25) == (0, 0, 0, 1)


def test_more_folds_do_not_take_the_shared_xrays_away():
    t = 2.262157  # Student's 97.5 % quantile for 9 degrees of freedom, those of two dealings into five folds
    assert reach(1.0, 10**6, 1 / 4) == pytest.approx(t * 0.5, rel=1e-3)
    assert [int(degrees(n, 1 / 4)) for n in (1, 5, 10, 25, 50)] == [1, 4, 9, 9, 9]


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, and never less than the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([np.nan, 0.02, 0.01])[1:] == pytest.approx([0.02, 0.02])
    assert np.isnan(holm([np.nan, 0.02])[0])
    assert holm([]).size == 0
