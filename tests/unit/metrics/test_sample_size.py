import numpy as np
import pytest
from scipy.stats import binomtest, norm, rankdata

from fracture_mae.metrics import sample_size


@pytest.mark.parametrize(("n", "found"), [(33, 30), (100, 71), (15, 15), (40, 0)])
def test_intervals_shrink_as_those_of_more_xrays_do(n, found):
    method = "exact" if found in (0, n) else "wilson"
    now = binomtest(found, n).proportion_ci(method=method)
    for times in (2, 4):
        then = binomtest(times * found, times * n).proportion_ci(method=method)
        low, high = sample_size.ends_at(found / n, now.low, now.high, times)
        assert high - low == pytest.approx(then.high - then.low, rel=0.04)
        if found in (0, n):
            assert (low, high) == pytest.approx((then.low, then.high))
    assert sample_size.ends_at(found / n, now.low, now.high, 1) == pytest.approx((now.low, now.high))
    assert np.isnan(sample_size.ends_at(0.5, np.nan, np.nan, 2)).all()


def binormal(rng, n_samples, n_positive, n_negative, means, correlation):
    """Scores of two models for the same X-rays: [2, n_samples, n]."""
    label = np.r_[np.ones(n_positive), np.zeros(n_negative)]
    common = rng.normal(size=(n_samples, label.size))
    own = rng.normal(size=(2, n_samples, label.size))
    scores = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    return label.astype(int), scores + np.asarray(means)[:, None, None] * label


def aurocs(label, scores):
    n = label.sum()
    ranks = rankdata(scores, axis=-1)[..., label == 1].sum(-1)
    return (ranks - n * (n + 1) / 2) / (n * (label.size - n))


def test_what_is_foretold_comes_true():
    """Binormal, 33 + 15 and 66 + 30 X-rays: the spread of AUROCs and of their difference, and how often a gain is seen."""
    rng = np.random.default_rng(0)
    means = np.sqrt(2) * norm.ppf([0.80, 0.85])
    for times in (1, 2):
        n_positive, n_negative = 33 * times, 15 * times
        label, scores = binormal(rng, 4000, n_positive, n_negative, means, 0.5)
        first, second = (aurocs(label, each) for each in scores)
        error = np.sqrt(sample_size.auroc_variance(0.80, n_positive, n_negative))
        assert error == pytest.approx(first.std(), rel=0.1)
        correlation = np.corrcoef(first, second)[0, 1]
        found = sample_size.difference_error(0.80, error, 0.05, n_positive, n_negative, correlation)
        assert found == pytest.approx((second - first).std(), rel=0.1)
        seen = np.mean((second - first) / (second - first).std() > norm.ppf(0.975))
        assert sample_size.power(0.05, found) == pytest.approx(seen, abs=0.04)
        observed = [sample_size.auroc_correlation(label, *scores[:, i], np.arange(label.size)) for i in range(200)]
        assert np.mean(observed) == pytest.approx(correlation, abs=0.05)


def test_power_by_hand():
    assert sample_size.power(0.05, 0.05 / 1.959964) == pytest.approx(0.5)
    assert sample_size.power(0.05, 0.05 / 2.801586) == pytest.approx(0.8, abs=1e-6)
    assert sample_size.times_needed(0.05, 0.05 / 2.801586) == pytest.approx(1, abs=1e-6)
    assert sample_size.times_needed(0.05, 0.05) == pytest.approx(2.801586**2, rel=1e-6)
    assert sample_size.error_of(0.7, 0.9) == pytest.approx(0.2 / 3.919928, rel=1e-6)


def test_the_correlation_of_a_score_with_itself_is_one_whatever_its_scale():
    rng = np.random.default_rng(1)
    label, score = np.tile([0, 1], 20), rng.normal(size=40) + np.tile([0, 1], 20)
    alone = np.arange(40)
    assert sample_size.auroc_correlation(label, score, np.exp(score), alone) == pytest.approx(1)
    assert sample_size.auroc_correlation(label, score, -score, alone) == pytest.approx(-1)
    assert np.isnan(sample_size.auroc_correlation(label, score, label, alone))  # one that never errs never varies
    other = score + rng.normal(size=40)
    doubled = [np.repeat(values, 2) for values in (label, score, other, alone)]
    assert sample_size.auroc_correlation(*doubled) == pytest.approx(
        sample_size.auroc_correlation(label, score, other, alone)
    )


def test_patients_and_not_xrays_rise_and_fall_together():
    """Each patient's two X-rays have changed places in the second score: whichever patients are drawn, both AUROCs are the same."""
    rng = np.random.default_rng(2)
    label = np.repeat(np.tile([0, 1], 15), 2)
    first = rng.normal(size=60) + label
    second = first.reshape(-1, 2)[:, ::-1].ravel()
    assert sample_size.auroc_correlation(label, first, second, np.repeat(np.arange(30), 2)) == pytest.approx(1)
    assert sample_size.auroc_correlation(label, first, second, np.arange(60)) < 0.5
