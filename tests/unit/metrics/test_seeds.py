import numpy as np
import pytest
from scipy.stats import t

from fracture_mae.metrics.seeds import over_seeds


def test_both_variances_are_added_side_by_side():
    found = over_seeds([0.6, 0.7, 0.8], [0.5, 0.6, 0.7], [0.65, 0.75, 0.85])
    assert (found.estimate, found.sd) == pytest.approx((0.7, 0.1))
    of_seeds = 0.1**2 / 3
    for end, side in ((0.7 - found.low, 0.1), (found.high - 0.7, 0.05)):
        of_xrays = (side / 1.959964) ** 2
        degrees = 2 * ((of_xrays + of_seeds) / of_seeds) ** 2
        assert end == pytest.approx(t.ppf(0.975, degrees) * np.sqrt(of_xrays + of_seeds), abs=1e-6)


def test_where_xrays_tell_nothing_it_is_the_t_interval_of_the_seeds():
    found = over_seeds([0.6, 0.7, 0.8], [0.6, 0.7, 0.8], [0.6, 0.7, 0.8])
    assert (found.low, found.high) == pytest.approx((0.7 - 4.302653 * 0.1 / 3**0.5, 0.7 + 4.302653 * 0.1 / 3**0.5))


def test_seeds_that_agree_leave_the_interval_as_it_is():
    assert over_seeds([0.9] * 3, [0.8] * 3, [0.97] * 3) == pytest.approx((0.9, 0, 0.8, 0.97))


def test_more_seeds_make_it_narrower():
    few, many = ([0.65, 0.75] * n for n in (1, 4))
    reach = [np.ptp(over_seeds(each, np.subtract(each, 0.1), np.add(each, 0.1))[2:]) for each in (few, many)]
    assert 0.2 < reach[1] < reach[0]


def test_it_stays_a_share_and_is_none_where_a_network_has_none():
    found = over_seeds([0.02, 0.5, 0.98], [0.0, 0.4, 0.9], [0.1, 0.6, 1.0])
    assert (found.low, found.high) == (0, 1)
    assert np.isnan(over_seeds([0.7, 0.8], [0.6, np.nan], [0.8, np.nan])[2:]).all()


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="found 1 seeds, expected 2"):
        over_seeds([0.7], [0.6], [0.8])
