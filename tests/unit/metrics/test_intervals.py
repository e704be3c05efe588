import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm, t

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import intervals, scores
from fracture_mae.metrics.intervals import Sample, fall, metric_intervals, paired_difference
from fracture_mae.metrics.rates import wilson


def clustered_files(seed, n_groups=60, files_per_group=6, shift=1.0, file_noise=0.3):
    """X-rays that differ much, their files little. True AUROC: Phi(shift / sqrt(2 (1 + file_noise²)))."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), files_per_group)
    label = group % 2
    logit = rng.normal(0, 1, n_groups)[group] + rng.normal(0, file_noise, group.size) + shift * label
    return label, expit(logit), group


def test_intervals_hold_the_estimates_of_the_summary():
    label, probability, group = clustered_files(0)
    table = metric_intervals(label, probability, group, 0.5, n_draws=200)
    summary = scores.summary(label, probability, 0.5)
    assert table.index.name == "metric"
    assert table.columns.tolist() == ["estimate", "low", "high", "n_groups"]
    assert table["estimate"].to_dict() == pytest.approx(summary)
    assert (table["n_groups"] == 60).all()
    assert (table["low"] < table["estimate"]).all()
    assert (table["estimate"] < table["high"]).all()


def test_intervals_cover_the_truth_and_those_of_single_files_do_not():
    truth = norm.cdf(1 / np.sqrt(2 * (1 + 0.3**2)))
    by_group, by_file = [], []
    for seed in range(60):
        label, probability, group = clustered_files(seed)
        for covered, unit in ((by_group, group), (by_file, np.arange(group.size))):
            low, high = metric_intervals(label, probability, unit, 0.5, n_draws=10).loc["auroc", ["low", "high"]]
            covered.append(low <= truth <= high)
    assert np.mean(by_group) >= 0.9
    assert np.mean(by_file) <= 0.75


def test_a_promised_95_percent_is_kept_where_few_xrays_are_told_apart_well():
    """33 fractured and 15 other X-rays, true AUROC 0.95. Percentiles of draws hold the AUROC in 0.88 of samples, the average precision
    in 0.83 and the Brier score in 0.90: with 200 samples one standard error is 0.016."""
    shift, label = np.sqrt(2) * norm.ppf(0.95), np.repeat([1, 0], [33, 15])
    quantiles = norm.ppf((np.arange(5000) + 0.5) / 5000)
    positive, negative = expit(shift * (quantiles + shift / 2)), expit(shift * (quantiles - shift / 2))
    found, false = 33 * (1 - norm.cdf(quantiles)), 15 * (1 - norm.cdf(quantiles + shift))
    truth = {
        "auroc": 0.95,
        "average_precision": np.mean(found / (found + false)),
        "brier": (33 * np.mean((1 - positive) ** 2) + 15 * np.mean(negative**2)) / 48,
        "sensitivity": norm.cdf(shift / 2),
    }
    held = dict.fromkeys(truth, 0)
    for seed in range(200):
        score = np.random.default_rng(seed).normal(size=48) + shift * label
        table = metric_intervals(label, expit(shift * (score - shift / 2)), np.arange(48), 0.5, n_draws=200)
        for name, value in truth.items():
            held[name] += table.loc[name, "low"] <= value <= table.loc[name, "high"]
    assert all(n >= 0.925 * 200 for n in held.values()), held


def test_no_interval_is_a_point():
    """A perfect answer for 20 X-rays of each class is none for all X-rays there are."""
    label = np.tile([0, 1], 20)
    table = metric_intervals(label, 0.1 + 0.8 * label, np.arange(40), 0.5, n_draws=100)
    perfect = table.drop(["brier", "log_loss"])
    assert (perfect["estimate"] == 1).all()
    assert (perfect["high"] == 1).all()
    assert perfect["low"].between(0.6, 0.96).all()


def test_a_rate_of_one_is_no_certainty():
    # All 20 fractured are found: Wilson's 95 % interval of 20 of 20 begins at 20 / (20 + 1.96²) = 0.839.
    label, group = np.repeat([1, 0], 40), np.repeat(np.arange(40), 2)
    probability = np.concatenate([np.full(40, 0.9), np.tile([0.1, 0.1, 0.9, 0.9], 10)])
    table = metric_intervals(label, probability, group, 0.5, n_draws=100)
    assert table.loc["sensitivity", ["estimate", "low", "high"]].tolist() == [1, pytest.approx(0.83887, abs=1e-5), 1]
    none = metric_intervals(label, 1 - probability, group, 0.5, n_draws=100)
    assert none.loc["sensitivity", ["estimate", "low", "high"]].tolist() == [0, 0, pytest.approx(0.16113, abs=1e-5)]


def test_statistics_of_ones_own():
    label, probability, group = clustered_files(5)
    mean = intervals.intervals(lambda weight: {"mean": weight @ probability / weight.sum(axis=-1)}, label, group)
    assert mean.loc["mean", "estimate"] == pytest.approx(probability.mean())
    assert mean.loc["mean", "low"] < probability.mean() < mean.loc["mean", "high"]


def test_interval_of_a_mean_is_that_of_the_theory():
    # Accuracy of 400 independent healthy X-rays of which 300 are right: 0.75 ± 1.96 sqrt(0.75 · 0.25 / 400).
    probability = np.repeat([0.2, 0.8], [300, 100])
    row = metric_intervals(np.zeros(400), probability, np.arange(400), 0.5, n_draws=5000).loc["accuracy"]
    half_width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert row["low"] == pytest.approx(0.75 - half_width, abs=0.005)
    assert row["high"] == pytest.approx(0.75 + half_width, abs=0.005)


def test_draws_take_whole_groups_and_keep_the_classes():
    member_of = np.array([2, 0, 1, 2, 3, 2, 4])
    draws = np.concatenate(list(intervals._draws(member_of, [np.array([0, 1, 4]), np.array([2, 3])], 500, seed=0)))
    assert draws.shape == (500, 7)
    assert (draws[:, [0, 3, 5]] == draws[:, [0]]).all()
    assert (draws[:, [1, 2, 6]].sum(axis=1) == 3).all()
    assert (draws[:, [0, 4]].sum(axis=1) == 2).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.12)


def test_weights_reach_the_draws():
    # Every group holds a squared error of 0.04 and one of 0.64: with the latter at a third, each draw has a mean of 0.19.
    group, probability = np.repeat(np.arange(20), 2), np.tile([0.2, 0.8], 20)
    table = metric_intervals(np.zeros(40), probability, group, 0.5, n_draws=50, weight=np.tile([3, 1], 20))
    assert table.loc["brier", ["estimate", "low", "high"]].tolist() == pytest.approx([0.19] * 3)
    assert table.loc["accuracy", "estimate"] == pytest.approx(0.75)


def test_ends_of_each_scale_by_hand():
    """Draws of 0.4, 0.5 and 0.6, or of 0.5 and 2: as a share on the logit, as a positive number on the logarithm."""
    draws = np.tile([0.4, 0.5, 0.6], 100)
    spread = np.log(1.5) * np.sqrt(2 / 3)
    share = intervals._interval(0.5, draws, "share", (40, 20), 0.95)
    assert share == pytest.approx((0.5, expit(-t.ppf(0.975, 19) * spread), expit(t.ppf(0.975, 19) * spread)))
    ratio = intervals._interval(1.0, np.tile([0.5, 2.0], 100), "positive", (40, 20), 0.95)
    assert ratio == pytest.approx((1, 2 ** -t.ppf(0.975, 19), 2 ** t.ppf(0.975, 19)))
    number = intervals._interval(0.5, draws - 0.5, "number", (40, 20), 0.95)
    assert number == pytest.approx((0.5, 0.5 - 1.959964 * 0.1 * np.sqrt(2 / 3), 0.5 + 1.959964 * 0.1 * np.sqrt(2 / 3)))
    assert intervals._interval(1.0, np.ones(300), "share", (40, 20), 0.95) == pytest.approx(wilson(1, 20))


def test_draws_do_not_depend_on_the_chunks(monkeypatch):
    files = clustered_files(1)
    whole = metric_intervals(*files, 0.5, n_draws=50)
    monkeypatch.setattr(intervals, "CHUNK_VALUES", 7 * files[0].size)
    np.testing.assert_allclose(metric_intervals(*files, 0.5, n_draws=50), whole)


def test_seed_and_level():
    files = clustered_files(2)
    narrow = metric_intervals(*files, 0.5, n_draws=300, level=0.5).loc["auroc"]
    wide = metric_intervals(*files, 0.5, n_draws=300).loc["auroc"]
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert metric_intervals(*files, 0.5, n_draws=300).loc["auroc"].equals(wide)
    drawn = [metric_intervals(*files, 0.5, n_draws=300, seed=seed).loc["brier"] for seed in (0, 0, 1)]
    assert drawn[0].equals(drawn[1])
    assert not drawn[0].equals(drawn[2])


@pytest.mark.filterwarnings("error")
def test_one_class_and_few_groups_have_no_interval():
    one_class = metric_intervals(np.ones(10), np.linspace(0.2, 0.9, 10), np.arange(10), 0.5, n_draws=100)
    assert one_class.loc["auroc", ["estimate", "low", "high"]].isna().all()
    assert one_class.loc["sensitivity", "low"] < one_class.loc["sensitivity", "high"]

    # Two and two, told apart without a fault: 1.000 [1.000, 1.000] says nothing true.
    few = metric_intervals([1, 1, 0, 0], [0.8, 0.7, 0.1, 0.3], list("abcd"), 0.5, n_draws=100)
    assert few.loc["auroc", "estimate"] == 1
    assert few[["low", "high"]].isna().all(axis=None)
    assert np.isnan(paired_difference([1, 1, 0, 0], [0.8, 0.7, 0.1, 0.3], [0.1] * 4, list("abcd"))["share_above"])

    # Nine others are too few for what needs them, ten fractured are not for what does not.
    nine = metric_intervals(np.repeat([1, 0], [10, 9]), np.linspace(0.9, 0.1, 19), np.arange(19), 0.5, n_draws=100)
    assert nine.loc[["sensitivity"], ["low", "high"]].notna().all(axis=None)
    assert nine.drop("sensitivity")[["low", "high"]].isna().all(axis=None)


def test_statistics_undefined_in_some_draws_keep_an_interval():
    label, group = np.tile([0, 1], 10), np.arange(20)

    def share_of_two(weight):
        """Of the first two of a draw, where it has any, how many are the first."""
        with np.errstate(invalid="ignore"):
            return {"share": weight[..., 0] / weight[..., :2].sum(axis=-1)}

    row = intervals.intervals(share_of_two, label, group, scale="share", n_draws=200).loc["share"]
    assert 0 < row["low"] < 0.5 < row["high"] < 1


def test_a_group_with_both_labels_is_drawn_as_one_and_counts_as_positive():
    label, group = np.array([0, 1, 0, 0, 1, 1, 0]), np.array(list("ppabccq"))
    member_of, strata = intervals._strata(label, group)
    assert [names.tolist() for names in strata] == [[0, 1, 4], [2, 3]]  # a, b, q; c, p
    draws = np.concatenate(list(intervals._draws(member_of, strata, 300, seed=0)))
    assert (draws[:, 0] == draws[:, 1]).all()  # both files of p
    assert (draws[:, 4] == draws[:, 5]).all()
    assert (draws[:, 0] + draws[:, 4] == 2).all()
    assert (draws[:, [2, 3, 6]].sum(axis=1) == 3).all()


def test_patients_with_both_wrists_shown_cover_the_truth():
    """Each patient has a healthy and a fractured wrist, and tends to score high or low on both: true AUROC Phi(1 / sqrt(2)), where the
    patient's own share falls out of every difference within a patient alone."""
    truth, covered = norm.cdf(1 / np.sqrt(2)), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patient, label = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
        logit = np.sqrt(0.5) * (rng.normal(size=60)[patient] + rng.normal(size=120)) + label
        low, high = metric_intervals(label, expit(logit), patient, 0.5, n_draws=150).loc["auroc", ["low", "high"]]
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


def test_a_class_of_few_patients_has_no_interval():
    label, probability = np.repeat([1, 0], 20), np.linspace(0.9, 0.1, 40)
    few, enough = np.append(np.arange(20) % 9, np.arange(20, 40)), np.append(np.arange(20) % 10, np.arange(20, 40))
    assert metric_intervals(label, probability, few, 0.5, n_draws=9).loc["auroc", ["low", "high"]].isna().all()
    assert metric_intervals(label, probability, enough, 0.5, n_draws=9).loc["auroc", ["low", "high"]].notna().all()
    both = metric_intervals(label, probability, np.arange(40) % 20, 0.5, n_draws=50)
    assert (both["n_groups"] == 20).all()
    assert both.loc["auroc", ["low", "high"]].notna().all()


def test_twice_as_many_xrays_of_the_same_patients_are_no_more_certain():
    label, probability, patient = clustered_files(7, n_groups=80, files_per_group=1)
    twice = [np.concatenate([each, each]) for each in (label, probability, patient)]
    one = metric_intervals(label, probability, patient, 0.5, n_draws=2000)
    same = metric_intervals(*twice, 0.5, n_draws=2000)
    apart = metric_intervals(*twice[:2], np.arange(160), 0.5, n_draws=2000)
    pd.testing.assert_frame_equal(same, one)
    width = {name: (found["high"] - found["low"])["auroc"] for name, found in (("one", one), ("apart", apart))}
    assert width["apart"] / width["one"] == pytest.approx(1 / np.sqrt(2), rel=0.08)


def test_paired_difference_is_narrower_than_two_intervals():
    label, probability, group = clustered_files(3)
    noisy = expit(np.log(probability / (1 - probability)) + np.random.default_rng(0).normal(0, 1.5, label.size))
    found = paired_difference(label, probability, noisy, group, n_draws=400)
    a, b = (metric_intervals(label, p, group, 0.5, n_draws=400).loc["auroc"] for p in (probability, noisy))
    assert found["estimate"] == pytest.approx(a["estimate"] - b["estimate"])
    assert 0 < found["low"] < found["estimate"] < found["high"]
    assert found["high"] - found["low"] < np.hypot(a["high"] - a["low"], b["high"] - b["low"])


def test_paired_difference_of_the_same_probabilities_is_zero():
    label, probability, group = clustered_files(4)
    found = paired_difference(label, probability, probability, group, "f1", n_draws=50)
    assert found == {"estimate": 0, "low": 0, "high": 0, "share_above": 0}


def test_paired_difference_uses_both_thresholds():
    label, probability, group = clustered_files(4)
    found = paired_difference(label, probability, probability, group, "sensitivity", threshold_b=0, n_draws=50)
    assert found["estimate"] == pytest.approx(scores.summary(label, probability, 0.5)["sensitivity"] - 1)


def test_paired_difference_refuses_an_unknown_metric():
    with pytest.raises(FractureMaeError, match="Unknown metric 'auc'; expected one of auroc"):
        paired_difference([0, 1], [0.2, 0.3], [0.2, 0.3], ["a", "b"], "auc")


def sample(label, probability, group=None, threshold=0.5):
    return Sample(np.array(label), np.array(probability), np.arange(len(label)) if group is None else group, threshold)


def test_fall_by_hand():
    """Faultless on its own X-rays, elsewhere every second answer is wrong in either class."""
    own = sample([0, 1] * 20, [0.1, 0.9] * 20)
    elsewhere = sample([0, 1] * 20, [0.1, 0.9, 0.9, 0.1] * 10)
    table = fall(own, elsewhere, n_draws=200)
    assert table.loc["auroc", ["own", "elsewhere", "fall"]].tolist() == pytest.approx([1, 0.5, 0.5])
    assert table.loc["sensitivity", "fall"] == pytest.approx(0.5)
    assert 0 < table.loc["auroc", "low"] < 0.5 < table.loc["auroc", "high"] < 1
    same = fall(elsewhere, elsewhere, n_draws=200)
    assert same.loc["auroc", "fall"] == 0
    assert same.loc["auroc", "low"] < 0 < same.loc["auroc", "high"]


def test_fall_is_as_uncertain_as_both_samples_together():
    """Independent errors add in squares: the interval is √2 as wide as that of one sample alone."""
    rng = np.random.default_rng(1)
    label = np.tile([0, 1], 200)
    one, other = (sample(label, np.clip(0.5 + 0.2 * label + rng.normal(0, 0.2, 400), 0, 1)) for _ in range(2))
    single = metric_intervals(*one[:3], 0.5, n_draws=2000).loc["auroc"]
    both = fall(one, other, n_draws=2000).loc["auroc"]
    assert (both["high"] - both["low"]) / (single["high"] - single["low"]) == pytest.approx(np.sqrt(2), rel=0.1)


def test_fall_to_one_class_alone_is_that_of_its_rate():
    table = fall(sample([0, 1] * 10, [0.1, 0.9] * 10), sample([0] * 10, [0.1] * 5 + [0.9] * 5), n_draws=100)
    assert table.loc["specificity", "fall"] == 0.5
    assert np.isnan(table.loc[["auroc", "sensitivity"], "fall"]).all()
    assert np.isfinite(table.loc["specificity", ["low", "high"]].astype(float)).all()
