import numpy as np
import pytest

from fracture_mae.metrics import selection
from fracture_mae.metrics.selection import corrected


def right_of(candidates, weights):
    """How often each candidate is right, by weight: [m, n] → [m, candidates]."""
    return weights @ candidates / weights.sum(axis=1, keepdims=True)


def found(candidates, label, group=None, n_draws=400, seed=0):
    group = np.arange(len(label)) if group is None else group
    return corrected(
        lambda weights: right_of(candidates, weights).argmax(axis=1),
        lambda number, weights: {"right": right_of(candidates[:, [number]], weights)[:, 0]},
        label,
        group,
        np.ones(len(label)),
        n_draws=n_draws,
        seed=seed,
    ).loc["right"]


def test_the_best_of_guesses_is_worth_a_guess():
    label = np.tile([0, 1], 50)
    printed, worth = [], []
    for seed in range(20):
        guesses = (np.random.default_rng(seed).random((100, 30)) < 0.5).astype(float)
        printed.append(guesses.mean(axis=0).max())
        worth.append(found(guesses, label, seed=seed)["estimate"])
    assert np.mean(printed) > 0.58
    assert np.mean(worth) == pytest.approx(0.5, abs=0.02)


def test_a_candidate_without_rivals_keeps_its_figure_and_has_the_interval_of_a_share():
    right = np.repeat([1.0, 0.0], [150, 50])[:, None]
    label = np.tile([0, 1], 100)
    row = found(right, label, n_draws=4000)
    assert row["estimate"] == pytest.approx(0.75, abs=0.003)
    reach = 1.96 * np.sqrt(0.75 * 0.25 / 200)
    assert [row["estimate"] - row["low"], row["high"] - row["estimate"]] == pytest.approx([reach, reach], rel=0.1)


def test_one_that_is_better_in_every_draw_costs_nothing():
    label = np.tile([0, 1], 50)
    rng = np.random.default_rng(0)
    candidates = np.column_stack([rng.random(100) < 0.1, np.ones(100)]).astype(float)
    assert found(candidates, label)[["estimate", "low", "high"]].tolist() == [1, 1, 1]


def test_whole_groups_are_left_out():
    label, group = np.repeat([0, 1], 20), np.repeat(np.arange(10), 4)
    seen = []

    def measure(number, weights):
        of_group = weights.reshape(len(weights), 10, 4)
        assert (of_group == of_group[..., :1]).all()
        seen.append(of_group[..., 0])
        return {"n": weights.sum(axis=1)}

    corrected(lambda weights: np.zeros(len(weights), int), measure, label, group, np.ones(40), n_draws=100)
    left_out = np.concatenate(seen)
    assert left_out.shape == (100, 10)
    assert 0.2 < left_out.mean() < 0.5  # of five groups of a class a draw leaves out 0.8^5 = 0.33


def test_a_class_in_a_single_group_leaves_nothing_to_judge_on():
    label = np.array([1, 0, 0, 0])

    def measure(number, weights):
        with np.errstate(invalid="ignore"):
            return {"sensitivity": (weights @ label) / (weights @ label)}

    table = corrected(lambda weights: np.zeros(len(weights), int), measure, label, np.arange(4), np.ones(4), n_draws=50)
    assert table.loc["sensitivity"].isna().all()


def test_of_what_a_draw_leaves_out_the_figure_scatters_by_the_factor_that_is_taken_back():
    assert pytest.approx(np.sqrt((1 - 1 / np.e) * np.e)) == selection._SCATTER
