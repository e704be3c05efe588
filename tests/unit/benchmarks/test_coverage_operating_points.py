import numpy as np

from benchmarks.coverage import operating_points
from fracture_mae.metrics import bagged_thresholds


def test_an_assured_sensitivity_is_kept_or_refused_and_an_ordinary_one_is_neither(monkeypatch):
    monkeypatch.setattr(bagged_thresholds, "N_DRAWS", 20)
    monkeypatch.setattr(operating_points, "N_FRACTURED", (34, 60))
    table = operating_points.simulate(repeats=60, seed=0)
    assert table.equals(operating_points.simulate(repeats=60, seed=0))
    assert table["refused"].tolist() == [0, 1, 1, 0, 0, 1]  # 29, 59 and 299 are needed
    kept = table[table["refused"] == 0]
    assert (kept["assured: reached"] >= 0.9).all()
    assert (kept["before: reached"] < 0.8).all()
    assert (kept["assured: specificity"] < kept["before: specificity"]).all()
    assert np.isnan(table["assured: reached"][table["refused"] == 1]).all()
