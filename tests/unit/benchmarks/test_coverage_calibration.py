import pytest

from benchmarks.coverage import calibration


def test_a_table_with_before_and_after():
    table = calibration.simulate(repeats=3, seed=0)
    assert table.columns.tolist() == [f"{when}, {n:,}" for n in (48, 150, 1000) for when in ("before", "after")]
    assert not table.index.duplicated().any()
    for case in ("classes drawn equally", "class_weight=10"):
        (mean,) = table.loc[(case, "mean probability")].to_numpy()
        assert mean[[0, 2, 4]] == pytest.approx([mean[0]] * 3, abs=0.05)
        assert (mean[[0, 2, 4]] > 0.38).all()
        assert mean[[3, 5]] == pytest.approx([0.2, 0.2], abs=0.05)
    (certain,) = table.loc[("logits that separate the classes", "probability at 0.5")].to_numpy()
    assert certain[:2] == pytest.approx([0.99995, 0.972], abs=1e-3)
    (naive,) = table.loc[("right probabilities", "interval holds 0"), ["before, 48", "before, 150"]].to_numpy()
    assert naive.tolist() == [0, 0]


def test_the_same_seed_gives_the_same_table():
    assert calibration.simulate(1, 5).equals(calibration.simulate(1, 5))
