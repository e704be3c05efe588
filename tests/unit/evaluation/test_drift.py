import numpy as np
import pandas as pd
import pytest

from fracture_mae.evaluation import drift
from fracture_mae.evaluation.judging import Certainty

CERTAINTY = Certainty(n_draws=100, seed=0)


def test_properties_by_hand():
    own = pd.DataFrame({"height": [1.0, 2, 3, 4], "width": [1.0, 2, 3, 4], "same": [5.0] * 4})
    here = pd.DataFrame({"height": [3.0, 4, 5, 6], "width": [11.0, 12, 13, 14], "same": [5.0] * 4})
    table = drift.of_properties(own, here).set_index("property")
    assert table.index.tolist() == ["width", "height", "same"]
    # Every width is larger; of the heights half of the own lie below all others.
    assert table["distance"].tolist() == [1, 0.5, 0]
    assert table.loc["width", ["own_median", "here_median"]].tolist() == [2.5, 12.5]
    assert table.loc["same", "p_value"] == 1


def test_what_is_alike_is_not_told_apart_and_what_differs_is():
    rng = np.random.default_rng(0)
    own, alike = rng.normal(size=(2, 150, 6))
    table = drift.told_apart(
        {"properties": own, "features": own}, {"properties": alike, "features": alike + 5}, CERTAINTY
    )
    assert table.loc["properties", "low"] < 0.51 < table.loc["properties", "high"]
    assert table.loc["features", "estimate"] == 1


def test_too_few_xrays_are_not_told_apart():
    values = {"properties": np.ones((4, 2)), "features": np.ones((4, 2))}
    assert drift.told_apart(values, values, CERTAINTY).isna().all(axis=None)


@pytest.mark.parametrize("name", ["properties", "features"])
def test_the_same_seed_gives_the_same_answer(name):
    rng = np.random.default_rng(2)
    sides = [{"properties": rng.normal(size=(20, 3)), "features": rng.normal(size=(20, 3))} for _ in range(2)]
    assert drift.told_apart(*sides, CERTAINTY).equals(drift.told_apart(*sides, CERTAINTY))
