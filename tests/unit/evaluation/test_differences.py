import numpy as np
import pandas as pd
import pytest

from fracture_mae.evaluation import differences


def test_auroc_of_each_fold_by_hand():
    label, fold = np.tile([0, 1, 0, 1], 2), np.repeat([0, 1], 4)
    logit = [0, 3, 1, 2, 0, -1, 1, 2]  # fold 0: all pairs right; fold 1: two of four
    group = [f"x{i}" for i in range(8)]
    files = pd.DataFrame({"group": group, "label": label, "logit": np.float64(logit), "fold": fold})
    assert differences.of_folds(files).to_dict() == {0: 1.0, 1: 0.5}
    one_label = files[(files["fold"] == 0) | (files["label"] == 1)]
    assert np.isnan(differences.of_folds(one_label)[1])


def test_an_xray_is_judged_by_the_mean_of_its_files():
    files = pd.DataFrame({"group": ["a", "a", "b"], "label": [1, 1, 0], "logit": [3.0, -2.0, 0.0], "fold": 0})
    assert differences.of_folds(files)[0] == 1  # one of the two files alone is below the other X-ray


def test_of_many_equal_models_hardly_any_is_called_different():
    called = {"each by itself": [], "all": []}
    for seed in range(200):
        aurocs = pd.DataFrame(np.random.default_rng(seed).normal(0.8, 0.05, (10, 6)), columns=list("abcdef"))
        table = differences.from_first(aurocs, ratio=0)  # folds that share nothing
        called["each by itself"].append((table["p"] < 0.05).any())
        called["all"].append((table["p_holm"] < 0.05).any())
        assert ((table["verdict"] != differences.NOT_TOLD_APART)[1:] == (table["p_holm"] < 0.05)[1:]).all()
    assert np.mean(called["each by itself"]) > 0.1
    assert np.mean(called["all"]) <= 0.08


def test_verdicts_are_about_the_first():
    noise = np.random.default_rng(0).normal(0, 0.01, (10, 4))
    aurocs = pd.DataFrame(noise + np.array([0.7, 0.9, 0.5, 0.7]), columns=["first", "better", "worse", "alike"])
    table = differences.from_first(aurocs, ratio=1 / 4)
    assert table["verdict"].tolist() == ["", "better", "worse", "not told apart"]
    assert table.index[0] == "first"
    assert table.loc["first"].drop("verdict").isna().all()


def test_others_do_not_count_among_the_encoders():
    aurocs = pd.DataFrame(np.random.default_rng(1).normal(0.7, 0.05, (10, 4)), columns=["a", "b", "file", "hog"])
    table = differences.from_first(aurocs, 1 / 4, others=["file", "hog"])
    assert table.loc["b", "p_holm"] == pytest.approx(table.loc["b", "p"])
    assert table.loc[["file", "hog"], "p_holm"].min() == pytest.approx(
        min(2 * table.loc[["file", "hog"], "p"].min(), 1)
    )
