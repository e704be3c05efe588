import numpy as np
import pandas as pd
import pytest

from fracture_mae.metrics import strata
from fracture_mae.metrics.scores import summary

# Three strata. a: 0.9 and 0.3 beat 0.2, 0.3 not 0.5: 3 of 4 pairs. b: 0.4 ties 0.4: 1/2 of 1 pair. c: one label, no pair.
STRATUM = np.array(list("aaaabbccc"))
LABEL = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1])
SCORE = np.array([0.9, 0.3, 0.2, 0.5, 0.4, 0.4, 0.1, 0.9, 0.5])


def made(n=4000, seed=0):
    """Label, propensity and a skill that hangs on the label alone."""
    rng = np.random.default_rng(seed)
    propensity = rng.beta(0.6, 0.6, n)
    label = (rng.random(n) < propensity).astype(int)
    return label, propensity, label + 1.2 * rng.normal(size=n)


def test_the_mean_over_strata_by_pairs_by_hand():
    assert strata.number_of_pairs(LABEL, STRATUM) == 4 + 1 + 0
    assert strata.aurocs_within(LABEL, SCORE, STRATUM, np.ones(9)) == pytest.approx((3 + 0.5) / 5)
    assert strata.comparable(LABEL, STRATUM).tolist() == [True] * 6 + [False] * 3


def test_weights_count_as_copies():
    weight = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1], [2, 1, 1, 3, 1, 2, 1, 1, 1], [0, 0, 1, 1, 0, 1, 1, 1, 1]])
    found = strata.aurocs_within(LABEL, SCORE, STRATUM, weight)
    copies = np.repeat(np.arange(9), weight[1])
    repeated = strata.aurocs_within(LABEL[copies], SCORE[copies], STRATUM[copies], np.ones(len(copies)))
    np.testing.assert_allclose(found, [3.5 / 5, repeated, np.nan])
    # a has 3 × 4 pairs, of which 0.9 wins 2 × 4 and 0.3 wins 1; b ties 2 pairs.
    assert found[1] == pytest.approx((9 + 1) / (12 + 2))


def test_negative_scores_and_any_scale_rank_the_same():
    plain = strata.aurocs_within(LABEL, SCORE, STRATUM, np.ones(9))
    assert strata.aurocs_within(LABEL, 100 * SCORE - 91, STRATUM, np.ones(9)) == plain


def test_strata_are_of_equal_size_and_keep_ties_together():
    assert strata.cut(np.arange(20.0)).tolist() == np.repeat(np.arange(10), 2).tolist()
    assert strata.cut([5.0, 1, 1, 1], n_strata=2).tolist() == [1, 0, 0, 0]


def test_what_is_only_the_propensity_is_worth_nothing():
    label, propensity, _ = made()
    steps = np.ceil(10 * propensity)  # as many values as strata: within one there is nothing left to rank by
    assert summary(label, propensity, 0.5)["auroc"] > 0.8
    ten = pd.factorize(steps)[0]
    assert strata.aurocs_within(label, steps, ten, np.ones(len(label))) == 0.5
    tenths = strata.aurocs_within(label, propensity, strata.cut(propensity), np.ones(len(label)))
    assert tenths == pytest.approx(0.5, abs=0.06)
    fifths = strata.aurocs_within(label, propensity, strata.cut(propensity, 5), np.ones(len(label)))
    assert tenths < fifths


def test_what_knows_nothing_of_the_propensity_loses_nothing():
    label, propensity, skill = made()
    plain = summary(label, 1 / (1 + np.exp(-skill)), 0.5)["auroc"]
    within = strata.aurocs_within(label, skill, strata.cut(propensity), np.ones(len(label)))
    assert within == pytest.approx(plain, abs=0.02)  # about four standard errors


def test_intervals_hold_the_estimate_and_differences_are_paired():
    label, propensity, skill = made(300)
    scores = {"skill": skill, "same": skill + 1, "file": propensity}
    table = strata.auroc_within(label, scores, np.arange(300), strata.cut(propensity), n_draws=200)
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert table.loc["skill - same", ["estimate", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc["skill - file", "low"] > 0 > -table.loc["skill", "low"]
    assert table.loc["skill - file", "estimate"] == pytest.approx(
        table.loc["skill", "estimate"] - table.loc["file", "estimate"]
    )


def test_too_few_pairs_give_no_figure():
    table = strata.auroc_within(LABEL, {"a": SCORE, "b": SCORE}, np.arange(9), STRATUM)
    assert table.index.tolist() == ["a", "b", "a - b"]
    assert table[["estimate", "low", "high"]].isna().all(axis=None)
