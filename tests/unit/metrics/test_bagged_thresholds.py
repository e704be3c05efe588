import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import bagged_thresholds, thresholds
from fracture_mae.metrics.bagged_thresholds import choose
from fracture_mae.metrics.intervals import resampled
from fracture_mae.metrics.thresholds import OBJECTIVES


def scored(seed, n_positive=33, n_negative=15, separation=1.5):
    """Labels and probabilities of X-rays whose scores are two normal distributions, the fractured ones' shifted."""
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_positive, n_negative])
    return label, expit(rng.normal(separation * label, 1))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_the_mean_of_what_is_chosen_in_each_draw(objective):
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
