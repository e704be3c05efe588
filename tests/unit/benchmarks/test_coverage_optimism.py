"""The simulation's own claims, on few samples: what was printed flatters, and equal encoders were called different."""

import numpy as np
import pytest

from benchmarks.coverage import optimism


def test_what_is_printed_of_guesses_is_no_longer_more_than_a_guess():
    found = np.array([optimism.campaign(0.5, 0.0, seed, n_trials=10) for seed in range(6)])
    truth, before, after, held = found.mean(axis=0)
    assert truth == pytest.approx(0.5)
    assert before > 0.57
    assert after == pytest.approx(0.5, abs=0.045)
    assert held >= 5 / 6


def test_equal_encoders_are_called_different_less_often_and_a_better_one_is_found():
    equal = np.mean([optimism.comparison(100, 50, (1.0,) * 4, seed) for seed in range(40)], axis=0)
    before, after = equal
    assert before > 0.12
    assert after <= 0.1
    _, found = np.mean([optimism.comparison(220, 90, (1.0, 2.0), seed) for seed in range(10)], axis=0)
    assert found >= 0.8


def test_the_table_has_a_row_for_each_question(monkeypatch):
    monkeypatch.setattr(optimism, "campaign", lambda *args: (0.5, 0.6, 0.5, 1.0))
    monkeypatch.setattr(optimism, "comparison", lambda *args: (1.0, 0.0))
    table = optimism.simulate(repeats=10, seed=0)
    assert (
        table.loc["tune"][["truth", "before", "after", "interval holds"]].to_numpy().tolist()
        == [[0.5, 0.6, 0.5, 1.0]] * 4
    )
    assert table.loc["compare"][["before", "after"]].to_numpy().tolist() == [[1.0, 0.0]] * 5
