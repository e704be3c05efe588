import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import delong
from fracture_mae.metrics.delong import Spread
from fracture_mae.metrics.scores import aurocs


def made(seed=0, n_positive=33, n_negative=15, shift=1.0):
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_positive, n_negative])
    return label, rng.normal(size=label.size).round(1) + shift * label  # rounded: some are equal


def in_order(n_positive=33, n_negative=15):
    label = np.repeat([0, 1], [n_negative, n_positive])
    return label, np.arange(label.size)


def by_pairs(label, score):
    """DeLong's variance as it is written: from every pair."""
    wins = np.heaviside(score[label == 1][:, None] - score[label == 0], 0.5)
    return wins.mean(), sum(np.var(wins.mean(axis=axis), ddof=1) / wins.shape[1 - axis] for axis in (0, 1))


def test_variance_by_hand():
    # Positives 3 and 1 surpass 1 and 1/2 of the negatives 2 and 0; these are surpassed by 1/2 and 1 of the positives. Each part
    # varies by 2 · 0.25² / (2 - 1) = 0.125, over 2 of each.
    found = Spread.of(np.array([1, 1, 0, 0]), np.array([3, 1, 2, 0]), np.arange(4), np.ones(4))
    assert (found.auroc, found.variance) == pytest.approx((0.75, 0.125))
    assert (found.freedom, found.n_positive, found.n_negative) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("seed", range(3))
def test_variance_is_that_of_all_pairs(seed):
    label, score = made(seed)
    found = Spread.of(label, score, np.arange(label.size), np.ones(label.size))
    assert (found.auroc, found.variance) == pytest.approx(by_pairs(label, score))
    assert found.auroc == pytest.approx(aurocs(label, score, np.ones(label.size)))


def test_interval_by_hand():
    label, score = made()
    found = Spread.of(label, score, np.arange(48), np.ones(48))
    reach = t.ppf(0.975, found.freedom) * np.sqrt(found.variance) / (found.auroc * (1 - found.auroc))
    expected = expit(logit(found.auroc) + np.array([0, -reach, reach]))
    assert delong.auroc(label, score, np.arange(48)) == pytest.approx(expected)
    assert delong.auroc(label, score, np.arange(48), level=0.5).low > found.interval().low


def test_copies_are_no_further_xrays():
    label, score = made()
    one = delong.auroc(label, score, np.arange(48))
    copied = [np.repeat(each, 3) for each in (label, score, np.arange(48))]
    assert delong.auroc(*copied) == pytest.approx(one)
    apart = delong.auroc(*copied[:2], np.arange(144))
    assert apart.high - apart.low < 0.7 * (one.high - one.low)


def test_weights_are_those_of_copies():
    label, score = made(1)
    copies = np.random.default_rng(0).integers(1, 5, 48)
    repeated = [np.repeat(each, copies) for each in (label, score, np.arange(48))]
    assert delong.auroc(label, score, np.arange(48), weight=copies) == pytest.approx(delong.auroc(*repeated))
    # Equal groups: every file 1/n of its group's n.
    assert delong.auroc(*repeated, weight=1 / np.repeat(copies, copies)) == pytest.approx(
        delong.auroc(label, score, np.arange(48))
    )
    ignored = delong.auroc(np.append(label, 0), np.append(score, 99), np.arange(49), weight=np.append(np.ones(48), 0))
    assert ignored == pytest.approx(delong.auroc(label, score, np.arange(48)))


def test_names_order_and_scale_do_not_matter():
    label, score = made(2)
    found = delong.auroc(label, score, np.arange(48))
    mixed = np.random.default_rng(0).permutation(48)
    assert delong.auroc(label[mixed], score[mixed], [f"patient {n}" for n in mixed]) == pytest.approx(found)
    assert delong.auroc(label, 4 * score, np.arange(48)) == pytest.approx(found)
    turned = delong.auroc(label, -score, np.arange(48))
    assert turned == pytest.approx((1 - found.estimate, 1 - found.high, 1 - found.low))


def test_patients_of_both_classes_are_surer():
    """A patient's own level falls out of the comparison of both wrists."""
    rng = np.random.default_rng(3)
    level, label = rng.normal(0, 2, 30), np.tile([1, 0], 30)
    score = np.repeat(level, 2) + 0.3 * rng.normal(size=60) + label
    together, apart = (delong.auroc(label, score, each) for each in (np.repeat(np.arange(30), 2), np.arange(60)))
    assert together.high - together.low < 0.6 * (apart.high - apart.low)


def test_the_end_of_one_by_hand():
    # 1 is 1.96 standard deviations from the end, by Hanley and McNeil's variance with 24 of each class but for the product 33 · 15.
    found = delong.auroc(*in_order(), np.arange(48))
    assert (found.estimate, found.high) == (1, 1)
    end = found.low
    spread = 1 + 23 * ((1 - end) / (2 - end) + end / (1 + end))
    assert (1 - end) / np.sqrt(end * (1 - end) * spread / (33 * 15)) == pytest.approx(1.959964)
    assert end == pytest.approx(0.897, abs=0.01)
    label, score = in_order()
    assert delong.auroc(label, -score, np.arange(48)) == pytest.approx((0, 0, 1 - end))
    assert delong.auroc(*in_order(330, 150), np.arange(480)).low > 0.98


def test_a_swap_raises_no_end():
    label, score = in_order()
    ends = []
    for n_swapped in range(6):
        swapped = score.copy()
        swapped[15 - n_swapped : 15 + n_swapped] = swapped[15 - n_swapped : 15 + n_swapped][::-1]
        ends.append(delong.auroc(label, swapped, np.arange(48)).low)
    assert ends == sorted(ends, reverse=True)
    assert ends[-1] < ends[0] - 0.05


def test_what_says_the_same_of_all_is_chance():
    found = delong.auroc(made()[0], np.ones(48), np.arange(48))
    assert found.estimate == 0.5
    assert (found.low, found.high) == (0.5, 0.5)


@pytest.mark.filterwarnings("error")
def test_too_few_have_no_ends():
    assert delong.auroc(*in_order(10, 9), np.arange(19)) == pytest.approx((1, np.nan, np.nan), nan_ok=True)
    assert delong.auroc(*in_order(10, 10), np.arange(20)).low < 1
    assert delong.auroc(*in_order(1, 1), ["a", "a"]).estimate == 1
    assert delong.auroc([0, 0], [1, 2], [0, 1]) == pytest.approx([np.nan] * 3, nan_ok=True)
    # Nine patients, though twenty X-rays of each class.
    label, score = made(n_positive=20, n_negative=20)
    assert np.isnan(delong.auroc(label, score, np.arange(40) % 9).low)


def test_unusable_scores_are_refused():
    with pytest.raises(FractureMaeError, match="score holds 1 of 2 unusable"):
        delong.auroc([0, 1], [0.1, np.nan], [0, 1])
