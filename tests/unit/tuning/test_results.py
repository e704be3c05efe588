import numpy as np
import pandas as pd
import pytest

from fracture_mae.tuning import results
from fracture_mae.tuning.objectives import Objective


def test_intervals_of_contributions_draw_patients():
    rng, label = np.random.default_rng(0), np.tile([0, 1], 30)
    decision = np.where(rng.random(60) < 0.8, label, 1 - label)
    one = pd.DataFrame({"label": label, "group": [f"x{number}" for number in range(60)]})
    twice = pd.concat([one, one.assign(group="y" + one["group"].str[1:])], ignore_index=True)
    known = twice.assign(patient=twice["group"].str[1:])
    names = one["group"].str[1:]
    objective = Objective("balanced_accuracy")
    alone = results._rated(one.assign(patient=names), decision, objective)
    again = np.tile(decision, 2)
    assert results._rated(known, again, objective) == pytest.approx(alone)
    apart = results._rated(twice, again, objective)
    for rate in ("sensitivity", "specificity"):
        width = [found[f"{rate}_high"] - found[f"{rate}_low"] for found in (apart, alone)]
        assert width[0] < 0.85 * width[1]
