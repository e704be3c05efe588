import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.assurance import (
    choose,
    confidence,
    highest_assured,
    lowest_scores,
    most_missed,
    needed,
    shortfall,
)


def test_how_many_fractures_are_needed_by_hand():
    # 0.90^28 = 0.0523 and 0.90^29 = 0.0471; so with 0.95^59 and 0.99^299.
    assert [needed(least, 0.95) for least in (0.90, 0.95, 0.99)] == [29, 59, 299]
    assert needed(0.5, 0.5) == 1  # one that was found is as likely as not to be one of a half or more
    assert needed(0.95, 0.99) == 90


@pytest.mark.parametrize("least", [0, 1, 1.1])
def test_a_sensitivity_of_one_is_not_to_be_assured(least):
    with pytest.raises(FractureMaeError, match="no number of X-rays assures that none is missed"):
        needed(least, 0.95)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.sampled_from([0.6, 0.8, 0.95, 0.99]))
def test_as_many_may_be_missed_as_the_exact_interval_allows(n, least, assurance):
    """The one-sided Clopper-Pearson bound is at or above the sensitivity, and with one more missed it is below."""

    def bound(missed):
        ends = binomtest(n - missed, n, alternative="greater").proportion_ci(assurance, method="exact")
        return ends.low

    most = most_missed(n, least, assurance)
    assert (most is None) == (bound(0) < least) == (n < needed(least, assurance))
    if most is not None:
        assert bound(most) >= least
        assert most == n or bound(most + 1) < least
        assert confidence(n, most, least) >= assurance > confidence(n, most + 1, least)


def test_what_few_fractures_can_assure():
    assert highest_assured(34, 0.95) == 0.915  # 0.05^(1/34) = 0.9157
    assert most_missed(34, highest_assured(34, 0.95), 0.95) == 0
    assert highest_assured(0, 0.95) == 0
    assert shortfall(59, 0.95, 0.95, "patients", "here") == ""
    assert shortfall(34, 0.95, 0.95, "patients with a fracture", "on validation") == (
        "a true sensitivity of 0.95 at an assurance of 0.95 needs 59 patients with a fracture, none of them missed; found 34 on "
        "validation"
    )


def test_of_each_patient_the_lowest_fractured_file_counts():
    label, probability, patient = [1, 1, 0, 1, 0], [0.9, 0.4, 0.1, 0.6, 0.2], ["a", "a", "a", "b", "c"]
    assert lowest_scores(label, probability, patient).tolist() == [0.4, 0.6]
    assert lowest_scores([0, 0], [0.1, 0.2], [0, 1]).size == 0


def test_the_threshold_by_hand():
    # Of 46 fractures one may be missed for 0.90 at 0.95 (0.9^46 + 46 · 0.1 · 0.9^45 = 0.048), of 45 none (0.052).
    scores = np.linspace(0.30, 0.75, 46)
    label, probability = np.append(np.ones(46, int), [0, 0]), np.append(scores, [0.305, 0.1])
    options = {"min_sensitivity": 0.9, "assurance": 0.95}
    # The lowest may be missed; the second stands at 0.31, a healthy one between them at 0.305.
    assert choose(label, probability, np.arange(48), **options) == pytest.approx((0.305 + 0.31) / 2)
    fewer = np.delete(np.arange(48), 40)
    assert choose(label[fewer], probability[fewer], fewer, **options) == pytest.approx((0.1 + 0.30) / 2)
    few = np.append(np.arange(28), [46, 47])
    assert choose(label[few], probability[few], few, **options) is None


def test_one_that_may_be_missed_is_found_where_that_costs_no_false_alarm():
    label, probability = np.append(np.ones(46, int), 0), np.append(np.linspace(0.30, 0.75, 46), 0.1)
    chosen = choose(label, probability, np.arange(47), min_sensitivity=0.9, assurance=0.95)
    assert chosen == pytest.approx(0.2)  # not between 0.30 and 0.31, which misses one for nothing


def test_copies_of_a_fracture_prove_nothing():
    label, probability = np.repeat([1, 0], [30, 10]), np.repeat([0.8, 0.2], [30, 10])
    options = {"min_sensitivity": 0.9, "assurance": 0.95}
    assert choose(label, probability, np.arange(40), **options) == pytest.approx(0.5)
    assert choose(label, probability, np.arange(40) // 2, **options) is None  # 15 patients


@pytest.mark.parametrize(("n", "per_patient"), [(60, 1), (150, 1), (120, 2)])
def test_the_true_sensitivity_is_kept_in_the_share_of_samples_that_was_asked_for(n, per_patient):
    """The ordinary choice keeps it in about half of them; the X-rays of a patient are alike."""
    kept, ordinary = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        patient = np.arange(n) // per_patient
        score = 1.5 + np.repeat(rng.normal(0, 0.9, n // per_patient), per_patient) + rng.normal(0, np.sqrt(0.19), n)
        probability = norm.cdf(np.append(score, rng.normal(0, 1, n)) / 3)
        label, drawn = np.repeat([1, 0], n), np.append(patient, n + np.arange(n))
        at = choose(label, probability, drawn, min_sensitivity=0.95, assurance=0.95)
        kept.append(norm.sf(3 * norm.ppf(at) - 1.5) >= 0.95)
        ordinary.append(norm.sf(np.quantile(score, 0.05, method="lower") - 1.5) >= 0.95)
    assert np.mean(kept) >= 0.93
    assert np.mean(ordinary) < 0.75
