import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fracture_mae.metrics.subgroups import differences_to_rest


def of_rates(*found):
    """Label, probability and members of subgroups of fractured X-rays, of each the number and how many are found."""
    probability = np.concatenate([np.r_[np.full(right, 0.9), np.full(n - right, 0.1)] for n, right in found])
    members = np.repeat(np.arange(len(found)), [n for n, _ in found]) == np.arange(len(found))[:, None]
    return np.ones(len(probability), dtype=int), probability, members


def test_differences_of_rates_by_hand():
    label, probability, members = of_rates((20, 5), (80, 60))
    found = differences_to_rest(label, probability, 0.5, np.arange(100), members, n_draws=4000)
    assert found.loc[(0, "sensitivity"), "difference"] == 0.25 - 0.75
    assert found.loc[(1, "sensitivity"), "difference"] == 0.5
    # Two tests, so each interval has 97.5 %: 2.2414 standard errors, those of Agresti and Caffo as they are the larger ones.
    error = np.sqrt(6 / 22 * 16 / 22 / 22 + 61 / 82 * 21 / 82 / 82)
    reach = found.loc[(0, "sensitivity"), "high"] + 0.5
    assert reach >= norm.isf(0.0125) * error * 0.999
    assert reach == pytest.approx(norm.isf(0.0125) * error, rel=0.08)
    assert found["high"].xs("specificity", level="measure").isna().all()  # there is none that is not fractured


def test_further_subgroups_widen_all_intervals_and_those_too_small_do_not():
    label, probability, members = of_rates((20, 10), (20, 10), (20, 10), (9, 4))
    found = differences_to_rest(label, probability, 0.5, np.arange(69), members)
    assert found["difference"].notna().sum() == 3
    reach = found.loc[(0, "sensitivity"), "high"] - found.loc[(0, "sensitivity"), "difference"]
    alone = differences_to_rest(label, probability, 0.5, np.arange(69), members[:1])
    ratio = norm.isf(0.025 / 3) / norm.isf(0.025)
    assert reach / (alone["high"] - alone["difference"]).iloc[0] == pytest.approx(ratio, rel=1e-6)


def test_where_nothing_was_missed_the_interval_is_no_point():
    label, probability, members = of_rates((12, 12), (60, 60))
    found = differences_to_rest(label, probability, 0.5, np.arange(72), members).loc[(0, "sensitivity")]
    assert (found["difference"], found["high"] > 0.05) == (0, True)


def test_files_of_a_patient_who_is_in_both_are_drawn_together():
    """Every patient has one X-ray here and one among the others, found or missed both: the difference is 0 in each draw."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.tile([0, 1], 40), 2)
    score = np.repeat(rng.random(80) * 0.5 + 0.25 * np.tile([0, 1], 40), 2)
    members = np.tile([True, False], 80)[None]
    of = {"paired": np.repeat(np.arange(80), 2), "not": np.arange(160)}
    reach = {
        name: differences_to_rest(label, score, 0.5, group, members).loc[(0, "auroc"), "high"]
        for name, group in of.items()
    }
    assert reach["paired"] == pytest.approx(0, abs=1e-12)
    assert reach["not"] > 0.05


def test_equal_subgroups_are_rarely_called_worse():
    """Four devices that are alike, 30 + 30 X-rays of each: in 5 % of cases, or fewer, one of twelve differences is clear of zero."""
    rng = np.random.default_rng(1)
    label = np.tile([0, 1], 120)
    members = np.repeat(np.arange(4), 60) == np.arange(4)[:, None]
    wrong = 0
    for _ in range(150):
        probability = expit(rng.normal(size=240) + 1.5 * label - 0.75)
        found = differences_to_rest(label, probability, 0.5, np.arange(240), members, n_draws=150)
        wrong += ((found["low"] > 0) | (found["high"] < 0)).any()
    assert wrong <= 14  # of 150 at 5 % 7.5 are expected, and more than 14 in 1 % of cases
