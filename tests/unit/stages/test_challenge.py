from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from fracture_mae.config import PROMOTION_METRICS, Evaluate
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import paired_difference
from fracture_mae.stages.challenge import compare, in_words, is_better, wanted_confidence
from tests.builders import LABEL, PERFECT, RANDOM

DECISION = Decision(("not fractured", "fractured"), split_fingerprint="5" * 16)


def predictions(probability, label=LABEL, group=None):
    group = np.arange(len(label)) if group is None else group
    sha256 = [f"{number:064x}" for number in range(len(label))]
    return pd.DataFrame({"sha256": sha256, "group": group, "label": label, "logit": logit(np.float64(probability))})


def compared(mine, theirs, my_decision=DECISION, their_decision=DECISION, **options):
    return compare(
        predictions(mine), my_decision, predictions(theirs), their_decision, Evaluate(n_draws=200, **options)
    )


def test_comparison_by_hand():
    found = compared(PERFECT, RANDOM)
    assert (found["challenger"], found["champion"]) == (1, pytest.approx(0.5))
    assert found["difference"] == pytest.approx(0.5)
    assert 0 < found["difference_low"] < 0.5 < found["difference_high"]
    assert found["share_above_margin"] == 1
    assert (found["n_xrays"], found["metric"], found["n_draws"]) == (60, "auroc", 200)


def test_xrays_count_once_however_many_files_they_have():
    # Two files of one broken X-ray, rated 0.9 and 0.1, come to 1/2, above the healthy one's 0.4.
    label, group = np.array([1, 1, 0, 0, 1]), list("aabcd")
    mine = predictions([0.9, 0.1, 0.4, 0.2, 0.8], label, group)
    theirs = predictions([0.1, 0.1, 0.4, 0.2, 0.8], label, group)
    found = compare(mine, DECISION, theirs, DECISION, Evaluate(n_draws=100))
    assert (found["challenger"], found["champion"], found["n_xrays"]) == (1, 0.5, 4)
    # Two X-rays of each class are too few for an interval, and so for a victory, but where the estimate alone decides.
    assert (found["difference_low"], found["share_above_margin"]) == (None, None)
    assert not is_better(found, 0, 0.95)
    assert is_better(found, 0, 0)
    told = in_words(found | {"split": "test", "look": 1}, "3", Evaluate())
    assert "better by +0.500, without an interval, as a class has fewer than 10 patients or X-rays; wanted" in told


def test_xrays_of_a_patient_are_drawn_as_one():
    rng = np.random.default_rng(0)
    mine, theirs = (predictions(rng.random(60) * 0.6 + 0.4 * LABEL) for _ in range(2))
    once = compare(mine, DECISION, theirs, DECISION, Evaluate(n_draws=300))
    again = [pd.concat([each, each.assign(group=each["group"] + 60)], ignore_index=True) for each in (mine, theirs)]
    known = [each.assign(patient=each["group"] % 60) for each in again]
    found = compare(known[0], DECISION, known[1], DECISION, Evaluate(n_draws=300))
    assert (once["n_xrays"], found["n_xrays"]) == (60, 120)
    assert found == pytest.approx(once | {"n_xrays": 120})
    apart = compare(again[0], DECISION, again[1], DECISION, Evaluate(n_draws=300))
    assert apart["difference_high"] - apart["difference_low"] < 0.85 * (
        found["difference_high"] - found["difference_low"]
    )


@pytest.mark.parametrize("metric", PROMOTION_METRICS)
def test_a_positive_difference_is_better_whatever_the_metric(metric):
    assert compared(PERFECT, RANDOM, promote_metric=metric)["difference"] > 0
    assert compared(RANDOM, PERFECT, promote_metric=metric)["difference"] < 0
    assert compared(PERFECT, PERFECT, promote_metric=metric)["difference"] == 0


def test_each_decides_at_its_own_threshold_and_calibration():
    strict = replace(DECISION, threshold=0.95)
    found = compared(PERFECT, PERFECT, their_decision=strict, promote_metric="sensitivity")
    assert (found["challenger"], found["champion"], found["difference"]) == (1, 0, 1)
    blunt = replace(DECISION, isotonic=Isotonic((-1.0, 1.0), (0.4, 0.6)))
    found = compared(PERFECT, PERFECT, their_decision=blunt, promote_metric="brier")
    assert (found["challenger"], found["champion"]) == (pytest.approx(0.01), pytest.approx(0.16))
    assert found["difference"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("difference", "share", "margin", "confidence", "wins"),
    [
        (0.1, 0.96, 0, 0.95, True),
        (0.1, 0.95, 0, 0.95, True),
        (0.1, 0.94, 0, 0.95, False),
        (0.1, 0.94, 0, 0, True),
        (0.1, None, 0, 0, True),
        (0.1, None, 0, 0.95, False),
        (0.1, 1.0, 0.1, 0.95, False),
        (0.0, 1.0, 0, 0, False),
        (-0.1, 0.0, 0, 0, False),
        (None, None, 0, 0, False),
    ],
)
def test_the_rule(difference, share, margin, confidence, wins):
    assert (
        is_better({"metric": "auroc", "difference": difference, "share_above_margin": share}, margin, confidence)
        == wins
    )


def test_the_chance_of_luck_over_all_looks_is_that_of_one():
    spent = [1 - wanted_confidence(0.95, look) for look in range(1, 10_000)]
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) == pytest.approx(0.05, abs=1e-5)
    assert wanted_confidence(0.95, 1) == pytest.approx(1 - 0.05 * 0.6079, abs=1e-5)
    assert {wanted_confidence(0, look) for look in (1, 9)} == {0}


@pytest.mark.slow
def test_of_twenty_equal_challengers_hardly_one_is_champion_by_luck():
    """Histories of twenty classifiers as good as the first (binormal, AUROC 0.8), all judged on the same 33 and 15 X-rays.

    The share of draws above 0 is that of a normal distribution as wide as the interval. In 150 histories of 400 draws a false champion
    came up in 43 % with 0.95 for each, and in 7 % with what each look is granted; below, fewer histories and draws.
    """
    rng = np.random.default_rng(0)
    label, group = np.repeat([1, 0], [33, 15]), np.arange(48)
    distance = np.sqrt(2) * norm.ppf(0.8)
    n_histories, false = 40, {"each": 0, "spent": 0}
    for _ in range(n_histories):
        common = rng.normal(0, 0.6, 48)  # some X-rays are hard for all

        def classifier(common=common):
            return expit(label * distance + common + rng.normal(0, 0.8, 48))

        champion, fooled = dict.fromkeys(false, classifier()), set()
        for look in range(1, 21):
            challenger = classifier()
            for rule, wanted in (("each", 0.95), ("spent", wanted_confidence(0.95, look))):
                found = paired_difference(label, challenger, champion[rule], group, n_draws=200, seed=look)
                share = norm.cdf(3.92 * found["estimate"] / max(found["high"] - found["low"], 1e-9))
                if found["estimate"] > 0 and share >= wanted:
                    champion[rule] = challenger
                    fooled.add(rule)
        for rule in fooled:
            false[rule] += 1
    assert false["each"] / n_histories > 0.25
    assert false["spent"] / n_histories < 0.2
