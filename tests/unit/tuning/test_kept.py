import numpy as np
import pandas as pd

from fracture_mae.tuning import kept
from fracture_mae.tuning.kept import Files


def files_of(n):
    return pd.DataFrame({"sha256": [f"{(number * 7919) % 1009:04x}" for number in range(n)]})


def test_predictions_come_back_in_the_order_that_is_asked_for():
    files = files_of(11)  # not a whole number of bytes
    logit, decision = np.linspace(-3, 3, 11), np.arange(11) % 3 == 0
    stored = kept.written(files.assign(logit=logit), decision.astype(np.int64))
    for order in (np.arange(11), np.random.default_rng(0).permutation(11)):
        found = kept.read(stored, Files.of(files.iloc[order]))
        assert found.logit.tolist() == logit[order].astype(np.float32).tolist()
        assert found.decision.tolist() == decision[order].astype(int).tolist()


def test_predictions_of_other_files_are_none():
    files = files_of(5)
    stored = kept.written(files.assign(logit=0.0), np.zeros(5, int))
    assert kept.read(stored, Files.of(files.iloc[:4])) is None
    assert kept.read(stored, Files.of(files.assign(sha256="x" + files["sha256"]))) is None


def test_three_hundred_files_take_less_than_two_kilobytes():
    files = files_of(300)
    stored = kept.written(files.assign(logit=np.random.default_rng(0).normal(size=300)), np.ones(300, int))
    assert sum(map(len, stored.values())) < 2000
