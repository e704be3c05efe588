"""The simulation of how often intervals hold the truth: that its truths are true, and that it is the same for the same seed."""

import numpy as np
import pytest

from benchmarks.coverage import intervals
from fracture_mae.metrics.scores import summary


@pytest.mark.parametrize("design", intervals.DESIGNS)
def test_truths_are_those_of_very_many_xrays(design):
    label, score, group = intervals.DESIGNS[design](np.random.default_rng(0), 40_000, 20_000, 0.9)
    prevalence = float(label.mean())
    probability, threshold = (
        intervals.probability_of(np.asarray(each), 0.9, prevalence) for each in (score, intervals.distance(0.9) - 1)
    )
    found = summary(label, probability, float(threshold))
    for name, value in intervals.truth(0.9, prevalence, intervals.distance(0.9) - 1).items():
        assert found[name] == pytest.approx(value, abs=0.015), name
    assert (np.unique(group).size < label.size) == (design != "single")


def test_a_row_for_each_kind_and_the_same_for_the_same_seed(monkeypatch):
    monkeypatch.setattr(intervals, "_ROWS", {48: (0.8,)})
    monkeypatch.setattr(intervals, "N_DRAWS", 20)
    first, second = (intervals.simulate(2, 1) for _ in range(2))
    assert first.columns.tolist() == [(design, 48, 0.8) for design in intervals.DESIGNS]
    assert {"auroc", "sensitivity", "paired difference", "fall", "within strata"} <= set(first.index)
    assert first.equals(second)
