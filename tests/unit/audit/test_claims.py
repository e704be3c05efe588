import numpy as np
import pandas as pd
import pytest

from fracture_mae.audit import claims

SEED = 0


def files(n_xrays, n_copies, split=""):
    """Features that tell every X-ray from every other and nothing of its label; copies are exact."""
    features = np.random.default_rng(0).normal(size=(n_xrays, 60)).repeat(n_copies, axis=0).astype(np.float32)
    xray = np.arange(n_xrays).repeat(n_copies)
    table = pd.DataFrame({"label": xray % 2, "group": [f"g{number:02}" for number in xray], "split_published": split})
    return table, features


def test_copies_make_a_leaky_split_look_good():
    found = claims.compare(*files(n_xrays=60, n_copies=6), 5, SEED)
    leaky, honest = (found[name]["image"] for name in (claims.LEAKY, claims.HONEST))
    assert leaky.auroc > 0.9
    assert honest.auroc < 0.65
    assert leaky.low > honest.high
    assert leaky.n_files == honest.n_files == 360  # byte-identical ones count as files, on either side
    assert len(leaky.folds) == 5


def test_without_copies_both_splits_tell_the_same():
    found = claims.compare(*files(n_xrays=60, n_copies=1), 5, SEED)
    leaky, honest = (found[name]["image"] for name in (claims.LEAKY, claims.HONEST))
    assert leaky.low < honest.auroc < leaky.high


def test_without_a_published_split_there_is_no_such_claim():
    assert list(claims.compare(*files(20, 2), 5, SEED)) == [claims.LEAKY, claims.HONEST]


def test_a_published_split_that_leaks_is_judged_on_its_test_files():
    split = np.tile(["train", "train", "test"], 30)
    found = claims.compare(*files(30, 3, split), 5, SEED)[claims.PUBLISHED]["image"]
    assert (found.n_files, len(found.folds)) == (30, 1)
    assert found.auroc > 0.9


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_published_split_without_train_or_test_is_left_out(missing):
    split = np.where(np.tile(["train", "test"], 20) == missing, "validation", "test" if missing == "train" else "train")
    assert claims.PUBLISHED not in claims.compare(*files(20, 2, split), 5, SEED)


def test_one_xray_under_both_labels_is_no_error():
    table, features = files(20, 2)
    table.loc[0, "label"] = 1
    found = claims.compare(table, features, 5, SEED)
    assert found[claims.HONEST]["xray"].n_xrays == 21
