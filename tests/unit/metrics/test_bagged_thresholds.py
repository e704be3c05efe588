import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import bagged_thresholds, thresholds
from fracture_mae.metrics.bagged_thresholds import choose
from fracture_mae.metrics.intervals import resampled
from fracture_mae.metrics.thresholds import OBJECTIVES, Counts, decide


def scored(seed, n_positive=33, n_negative=15, separation=1.5):
    """Labels and probabilities of X-rays whose scores are two normal distributions, the fractured ones' shifted."""
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_positive, n_negative])
    return label, expit(rng.normal(separation * label, 1))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_the_mean_of_what_is_chosen_in_each_draw(objective, monkeypatch):
    monkeypatch.setattr(bagged_thresholds, "not_dominated", lambda label, probability, threshold, weight: threshold)
    label, probability = scored(0)
    group, weight = np.arange(48) // 2, 1 / (1 + np.arange(48) % 3)
    options = {"min_sensitivity": 0.8}
    expected = []
    for draw in np.concatenate(list(resampled(label, group, n_draws=40, seed=3))):
        taken = np.flatnonzero(draw)
        of_draw = {"weight": (draw * weight)[taken], **options}
        expected.append(thresholds.choose(label[taken], probability[taken], objective, **of_draw))
    expected = np.mean(expected)
    if objective == "specificity_at_sensitivity":
        expected = min(expected, thresholds.choose(label, probability, objective, weight=weight, **options))
    found = choose(label, probability, objective, group, weight=weight, n_draws=40, seed=3, **options)
    assert found == pytest.approx(expected, abs=1e-12)


def test_of_no_draw_it_is_chosen_on_the_xrays_as_they_are():
    label, probability = scored(0)
    expected = thresholds.choose(label, probability, "weighted_youden")
    assert choose(label, probability, "weighted_youden", np.arange(48), n_draws=0) == expected


def test_the_same_seed_gives_the_same_threshold():
    label, probability = scored(0)
    found = [choose(label, probability, "weighted_youden", np.arange(48), seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0] == pytest.approx(found[2], abs=0.02)


def test_patients_are_drawn_whole():
    # Each X-ray four times: drawn by X-ray that is the same as once; file by file the draws would differ less.
    label, probability = scored(0)
    once = choose(label, probability, "weighted_youden", np.arange(48))
    four = choose(np.tile(label, 4), np.tile(probability, 4), "weighted_youden", np.tile(np.arange(48), 4))
    assert four == pytest.approx(once)


def rates_of(label, probability, weight, thresholds):
    """Sensitivity and specificity of each threshold, and of all that there are."""
    counts = [Counts.of(label, decide(probability, at), weight) for at in thresholds]
    return np.array([[count.sensitivity, count.specificity] for count in counts])


twentieths = st.integers(0, 20).map(lambda step: step / 20)
scored_files = st.lists(st.tuples(st.integers(0, 1), twentieths, st.integers(0, 4)), min_size=2, max_size=25).filter(
    lambda files: len({label for label, _, weight in files if weight}) == 2
)


@pytest.mark.parametrize("bagged", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=40, deadline=None)
@given(files=scored_files, prices=st.sampled_from([(5, 1), (1e6, 1e-9), (1e-9, 1e6)]))
def test_no_other_threshold_betters_the_one_that_is_chosen(objective, bagged, files, prices):
    """None has a higher sensitivity at the same specificity, nor a higher specificity at the same sensitivity."""
    label, probability, weight = map(np.array, zip(*files, strict=True))
    options = {"min_sensitivity": 0.8, "cost_false_negative": prices[0], "cost_false_positive": prices[1]}
    if bagged:
        group = np.arange(len(files)) // 2
        chosen = choose(label, probability, objective, group, weight=weight, n_draws=20, **options)
    else:
        chosen = thresholds.choose(label, probability, objective, weight=weight, **options)
    (found,) = rates_of(label, probability, weight, [chosen])
    others = rates_of(label, probability, weight, thresholds.candidates(probability))
    betters = (others >= found - 1e-12).all(axis=1) & (others > found + 1e-12).any(axis=1)
    assert not betters.any()


def test_a_mean_that_is_dominated_moves_to_the_nearest_gap_and_little_into_it():
    # From below: H 0.1, H 0.2, B 0.4, B 0.5, H 0.7, B 0.9. Gaps that nothing betters: 0.2-0.4, 0.7-0.9.
    label, probability, ones = np.array([0, 0, 1, 1, 0, 1]), np.array([0.1, 0.2, 0.4, 0.5, 0.7, 0.9]), np.ones(6)
    for at, expected in [
        (0.3, 0.3),
        (0.45, 0.4 - 0.1 / 4),
        (0.6, 0.7 + 0.1 / 4),
        (0.15, 0.2 + 0.1 / 4),
        (0.95, 0.9 - 0.1 / 4),
    ]:
        assert bagged_thresholds.not_dominated(label, probability, at, ones) == pytest.approx(expected)
    # The lower of two equally near.
    assert bagged_thresholds.not_dominated(label, probability, 0.55, ones) == pytest.approx(0.375)


@pytest.mark.parametrize("least", [0.8, 0.95, 1.0])
def test_a_demanded_sensitivity_is_reached_on_the_xrays_themselves(least):
    for seed in range(5):
        label, probability = scored(seed)
        at = choose(label, probability, "specificity_at_sensitivity", np.arange(48), min_sensitivity=least)
        assert probability[label == 1].__ge__(at).mean() >= least


def test_draws_without_one_of_the_classes_are_left_out():
    # The one healthy X-ray is of a patient who also has a broken one, and many draws do not hold that patient.
    label, probability, patient = [1, 0, 1, 1], [0.8, 0.1, 0.7, 0.9], ["a", "a", "b", "c"]
    assert 0.1 < choose(label, probability, "weighted_youden", patient) <= 0.45


def test_refuses_what_choosing_refuses():
    with pytest.raises(FractureMaeError, match="No file with label 0"):
        choose([1, 1], [0.2, 0.4], "weighted_youden", [0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("auroc", [0.75, 0.85, 0.9])
def test_in_simulation_it_is_steadier_leans_to_sensitivity_and_costs_less(auroc):
    """The table of docs/evaluation.md: 500 validation sets of 33 fractured and 15 other X-rays, normal scores, true rates."""
    separation = np.sqrt(2) * norm.ppf(auroc)
    rates = {"today": [], "plain": [], "bagged": []}
    for seed in range(500):
        label, probability = scored(seed, separation=separation)
        chosen = {
            "today": thresholds.choose(label, probability, "balanced_accuracy"),
            "plain": thresholds.choose(label, probability, "weighted_youden"),
            "bagged": choose(label, probability, "weighted_youden", np.arange(48), n_draws=bagged_thresholds.N_DRAWS),
        }
        for name, threshold in chosen.items():
            score = np.log(threshold / (1 - threshold))
            rates[name].append((norm.cdf(separation - score), norm.cdf(score)))
    mean = {name: np.mean(values, axis=0) for name, values in rates.items()}
    spread = {name: np.std(values, axis=0) for name, values in rates.items()}
    for name in rates:
        print(f"AUROC {auroc} {name:7s} sensitivity {mean[name][0]:.3f} ± {spread[name][0]:.3f}", end=" ")
        print(f"specificity {mean[name][1]:.3f} ± {spread[name][1]:.3f}", end=" ")
        print(f"5th percentile of sensitivity {np.quantile(np.array(rates[name])[:, 0], 0.05):.2f}")
    counts = thresholds.SENSITIVITY_COUNTS
    best = separation / 2 - np.log(counts) / separation
    assert mean["bagged"][0] == pytest.approx(norm.cdf(separation - best), abs=0.03)
    assert mean["bagged"][0] > mean["today"][0] + 0.05
    assert (spread["bagged"] < 0.75 * spread["plain"]).all()
    assert (spread["bagged"] < 0.9 * spread["today"]).all()
    worth = {name: (counts * m[0] + m[1]) / (counts + 1) for name, m in mean.items()}
    assert worth["bagged"] > worth["plain"] + 0.004
