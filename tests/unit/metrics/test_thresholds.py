import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.thresholds import OBJECTIVES, Counts, candidates, choose, decide


def test_at_the_threshold_is_positive():
    assert decide([0.29, 0.3, 0.31], 0.3).tolist() == [0, 1, 1]
    assert decide([0.0, 1.0], 0.0).tolist() == [1, 1]
    assert decide([0.99, 1.0], 1.0).tolist() == [0, 1]


def test_float32_probabilities_are_compared_without_rounding_the_threshold():
    probability = np.float32([0.1])  # 0.100000001490...
    assert decide(probability, 0.1000000014).tolist() == [1]
    assert decide(probability, 0.1000000016).tolist() == [0]


@pytest.mark.parametrize(
    ("probability", "threshold"), [([0.2, np.nan], 0.5), ([0.2], 1.2), ([0.2], -0.1), ([0.2], np.nan)]
)
def test_decide_refuses(probability, threshold):
    with pytest.raises(FractureMaeError):
        decide(probability, threshold)


def test_candidates_lie_midway_between_neighbours_and_to_the_ends():
    np.testing.assert_allclose(candidates([0.6, 0.2, 0.8, 0.6]), [0.1, 0.4, 0.7, 0.9])
    assert candidates([0.0, 1.0]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("low", [0.3, np.nextafter(0.3, 1)])  # the mean rounds up, and down
def test_candidates_separate_neighbouring_floats(low):
    high = np.nextafter(low, 1)
    decisions = [decide([low, high], threshold).tolist() for threshold in candidates([low, high])]
    assert decisions == [[1, 1], [0, 1], [0, 0]]


# Decisions by threshold on files   0.1  0.3  0.5  0.7  0.9
LABEL, PROBABILITY = [0, 1, 0, 0, 1], [0.1, 0.3, 0.5, 0.7, 0.9]


@pytest.mark.parametrize(
    ("objective", "options", "expected"),
    [
        ("weighted_youden", {}, 0.2),  # (1.5 + 1/3) / 2.5 against (1.5/2 + 1) / 2.5 at 0.8
        ("balanced_accuracy", {}, 0.8),  # sensitivity 1/2, specificity 1; at 0.2 it is (1 + 1/3) / 2
        ("f1", {}, 0.2),  # 4/6 = 2/3 at 0.2 and, tied, at 0.8, where one is missed
        ("f2", {}, 0.2),  # 10/12 against 5/9 at 0.8
        ("mcc", {}, 0.8),  # 3/sqrt(24) = 0.61 against 2/sqrt(24) at 0.2
        ("cost", {"cost_false_negative": 1, "cost_false_positive": 1}, 0.8),  # 1 error; at 0.2 there are 2
        ("cost", {"cost_false_negative": 3, "cost_false_positive": 1}, 0.2),  # 2; at 0.8 it is 3
        ("specificity_at_sensitivity", {"min_sensitivity": 0.95}, 0.2),
        ("specificity_at_sensitivity", {"min_sensitivity": 0.5}, 0.8),
    ],
)
def test_choose_by_hand(objective, options, expected):
    assert choose(LABEL, PROBABILITY, objective, **options) == pytest.approx(expected)


def test_ties_go_to_the_one_that_misses_the_fewest():
    # 0.15 and 0.6 both have balanced accuracy 3/4; at 0.15 both are found.
    label, probability = [0, 1, 0, 1], [0.1, 0.2, 0.5, 0.7]
    assert choose(label, probability, "balanced_accuracy") == pytest.approx(0.15)


def test_rounding_breaks_no_tie():
    # Weighted, 0.1 (all flagged) and 0.35 both have balanced accuracy 1/2, but their sums differ by 1e-16.
    label, probability, weight = [1, 0, 1, 0, 0], [0.2, 0.3, 0.4, 0.6, 0.9], [0.1, 0.3, 0.1, 0.1, 0.2]
    assert choose(label, probability, "balanced_accuracy", weight=weight) == pytest.approx(0.1)
    # A sensitivity of exactly 1/2 that comes out as 0.49999999999999994 is enough.
    label, probability = [1, 1, 1, 0, 1, 1, 1], [0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9]
    options = {"weight": [0.3, 0.1, 0.1, 0.2, 0.2, 0.2, 0.1], "min_sensitivity": 0.5}
    assert choose(label, probability, "specificity_at_sensitivity", **options) == pytest.approx(0.55)


def test_weights_count_as_copies():
    label, probability, weight = [0, 1, 0, 1, 0], [0.1, 0.4, 0.5, 0.6, 0.9], [1, 5, 1, 1, 3]
    copies = [np.repeat(values, weight) for values in (label, probability)]
    for objective in OBJECTIVES:
        assert choose(label, probability, objective, weight=weight) == choose(*copies, objective)
    assert choose(label, probability, "balanced_accuracy", weight=weight) == pytest.approx(0.25)
    assert choose(label, probability, "balanced_accuracy", weight=[1, 1, 1, 5, 3]) == pytest.approx(0.55)


def sklearn_score(objective, label, decision, weight):
    options = {"sample_weight": weight}
    match objective:
        case "weighted_youden":
            recalls = [sklearn.metrics.recall_score(label, decision, pos_label=value, **options) for value in (1, 0)]
            return (1.5 * recalls[0] + recalls[1]) / 2.5
        case "balanced_accuracy":
            return sklearn.metrics.balanced_accuracy_score(label, decision, **options)
        case "f1" | "f2":
            return sklearn.metrics.fbeta_score(label, decision, beta=int(objective[1]), zero_division=0, **options)
        case "mcc":
            return sklearn.metrics.matthews_corrcoef(label, decision, **options)
    (tn, fp), (fn, tp) = sklearn.metrics.confusion_matrix(label, decision, labels=[0, 1], **options)
    if objective == "cost":
        return -(4 * fn + fp) / sum(weight)
    return tn / (tn + fp) if tp / (tp + fn) >= 0.8 - 1e-12 else -np.inf


twentieths = st.integers(0, 20).map(lambda step: step / 20)
scored_files = st.lists(st.tuples(st.integers(0, 1), twentieths, st.integers(1, 4)), min_size=2, max_size=25).filter(
    lambda files: len({label for label, _, _ in files}) == 2
)


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=25, deadline=None)
@given(files=scored_files)
def test_choose_equals_trying_every_threshold(objective, files):
    label, probability, weight = map(np.array, zip(*files, strict=True))
    chosen = choose(
        label, probability, objective, weight=weight, min_sensitivity=0.8, cost_false_negative=4, cost_false_positive=1
    )
    # The probabilities are twentieths, so thresholds between these meet every possible set of decisions.
    grid = np.append(np.arange(20) / 20 - 0.025, 0.975)
    best = max(sklearn_score(objective, label, probability >= threshold, weight) for threshold in grid)
    assert sklearn_score(objective, label, probability >= chosen, weight) == pytest.approx(best, abs=1e-9)
    distinct = np.unique(probability)
    if distinct[0] < chosen < distinct[-1]:
        below, above = distinct[distinct < chosen][-1], distinct[distinct > chosen][0]
        assert chosen == pytest.approx((below + above) / 2)


def test_counts_of_many_weights_are_those_of_each():
    rng = np.random.default_rng(0)
    label, probability, weights = rng.integers(0, 2, 30), rng.random(30), rng.integers(0, 3, (4, 30))
    together = Counts.at(label, probability, candidates(probability), weights)
    for row, weight in enumerate(weights):
        one = Counts.at(label, probability, candidates(probability), weight)
        np.testing.assert_array_equal(together.sensitivity[row], one.sensitivity)
        np.testing.assert_array_equal(together.specificity[row], one.specificity)


def test_counts_by_sorting_equal_counts_by_deciding():
    rng = np.random.default_rng(0)
    label, probability, weight = rng.integers(0, 2, 50), rng.integers(0, 8, 50) / 7, rng.random(50)
    thresholds = candidates(probability)
    sweep = Counts.at(label, probability, thresholds, weight)
    for row, threshold in enumerate(thresholds):
        one = Counts.of(label, decide(probability, threshold), weight)
        for name in ("true_positive", "false_negative", "false_positive", "true_negative", "mcc", "precision"):
            np.testing.assert_allclose(getattr(sweep, name)[row], getattr(one, name), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], "f1"), "n > 0"),
        (([1, 1], [0.2, 0.4], "f1"), "No file with label 0"),
        (([0, 0], [0.2, 0.4], "mcc"), "No file with label 1"),
        (([0, 1], [0.2, np.nan], "f1"), "row 1: nan"),
        (([0, 1], [0.2, 1.1], "f1"), "row 1: 1.1"),
        (([0, 1], [0.2, 0.4], "youden"), "Unknown objective 'youden'; expected one of weighted_youden, balanced"),
    ],
)
def test_choose_refuses(arguments, message):
    with pytest.raises(FractureMaeError, match=message):
        choose(*arguments)


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("specificity_at_sensitivity", {"min_sensitivity": 1.1}),
        ("cost", {"cost_false_negative": 0}),
        ("cost", {"cost_false_positive": np.nan}),
    ],
)
def test_choose_refuses_options_out_of_range(objective, options):
    with pytest.raises(FractureMaeError, match="expected"):
        choose(LABEL, PROBABILITY, objective, **options)
