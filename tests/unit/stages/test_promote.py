"""Who becomes champion, and the way back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages import challenge, promote
from fracture_mae.tracking import registered_models
from fracture_mae.tracking.report import Report
from tests.builders import LABEL, PERFECT, RANDOM, WRONG
from tests.unit.stages.versions import DECISION, NAME


def test_the_first_one_is_champion(versions):
    first = versions.add(RANDOM)
    verdict = versions.evaluate(first)
    assert str(verdict) == "promoted to champion: the first one; AUROC per X-ray on test 0.900"
    assert versions.champion == first
    assert versions.tags(first)[promote.PREVIOUS] == "none"


def test_a_better_one_wins_and_both_versions_tell_of_it(versions):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)
    verdict = versions.evaluate(second)
    assert versions.champion == second
    expected = "promoted to champion: AUROC per X-ray on test 1.000 against 0.500 of the champion, version 1: better by +0.500 ["
    assert str(verdict).startswith(expected)
    assert (verdict.winner, verdict.loser) == (second, first)
    assert versions.tags(second)["promotion"] == str(verdict)
    assert versions.tags(second)[promote.PREVIOUS] == first
    assert versions.tags(second)[promote.JUDGED_ON] == "5" * 16
    assert versions.tags(first)["promotion.last_challenge"].startswith("lost to version 2: AUROC")
    assert {versions.tags(second)["promotion.run"], versions.tags(first)["promotion.last_challenge.run"]} == {"r" * 32}


@pytest.mark.parametrize("probability", [WRONG, RANDOM, PERFECT], ids=["worse", "equal", "another equal"])
def test_a_worse_or_equal_one_loses(versions, probability):
    first, second = versions.add(PERFECT if probability is not RANDOM else RANDOM), versions.add(probability)
    versions.evaluate(first)
    verdict = versions.evaluate(second, promote_confidence=0)
    assert versions.champion == first
    assert (verdict.winner, verdict.loser) == (first, second)
    assert versions.tags(second)["promotion"].startswith("not promoted: AUROC per X-ray on test ")
    assert versions.tags(first)["promotion.last_challenge"].startswith("kept against version 2")
    assert promote.PREVIOUS not in versions.tags(second)


def test_a_lead_that_may_be_luck_wins_only_where_the_estimate_alone_decides(versions):
    lucky = RANDOM.copy()
    lucky[1] = 0.61
    first, second = versions.add(RANDOM), versions.add(lucky)
    versions.evaluate(first)
    assert 0 < versions.evaluate(second).comparison["share_above_margin"] < 0.95
    assert versions.champion == first
    assert versions.evaluate(second, promote_confidence=0).promoted


def test_a_margin_must_be_passed(versions):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)
    assert not versions.evaluate(second, promote_margin=0.5).promoted
    assert versions.evaluate(second, promote_margin=0.1).promoted


def test_the_decision_is_a_document_and_metrics(versions):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    assert versions.evaluate(first).report().documents["promotion.json"]["winner"] == first
    found = versions.evaluate(second).report()
    document = json.loads(json.dumps(found.documents["promotion.json"], allow_nan=False))
    assert (document["promoted"], document["winner"], document["loser"]) == (True, second, first)
    assert document["comparison"]["metric"] == "auroc"
    assert found.metrics["promotion/difference"] == document["comparison"]["difference"] == 0.5
    assert found.metrics["promotion/share_above_margin"] == 1


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        (
            {"auroc_low": 0.5},
            "AUROC per X-ray on test 0.900, of which the lower end, 0.500, must be above 0.5: it may be chance",
        ),
        (
            {"auroc_low": 0.79},
            "AUROC per X-ray on test 0.900, of which the lower end, 0.790, must be above the 0.790 that file and border properties "
            "alone reach",
        ),
        ({"auroc_low": np.nan}, "its AUROC per X-ray on test is undefined, or has no interval"),
        (
            {"auroc/all/file_and_border_properties": np.nan},
            "what file and border properties alone reach was not tested",
        ),
    ],
)
def test_what_may_be_chance_is_not_promoted(versions, floor, words):
    first = versions.add(PERFECT)
    assert versions.evaluate(first, floor=floor).reason.startswith(words)
    assert versions.champion is None
    assert str(versions.evaluate(first, floor=floor, promote="always")) == "promoted to champion: --promote always"
    second = versions.add(PERFECT)
    assert versions.evaluate(second, floor=floor, promote_confidence=0).reason.startswith(words)


def test_who_loses_to_gradient_histograms_is_promoted_with_that_word(versions):
    first, better = versions.add(RANDOM), {"auroc/all/gradient_histograms": 0.95}
    words = "; gradient histograms with a straight line reach 0.950, more than the network"
    assert versions.evaluate(first, floor=better).reason.endswith(words)
    assert versions.evaluate(versions.add(PERFECT), floor=better).reason.endswith(words)


@pytest.mark.parametrize(
    ("on_training", "why"),
    [
        ((0.8, 0.95), "has not learnt even its training X-rays as well (0.800, they 0.950)"),
        ((0.97, 0.95), "has learnt its training X-rays (0.970), but less that holds for others"),
    ],
)
def test_why_gradient_histograms_may_do_better(on_training, why):
    histograms = "xray/auroc/all/gradient_histograms"
    metrics = {"test/xray/auroc": 0.7, f"test/{histograms}": 0.8}
    metrics |= dict(zip(("train/xray/auroc", f"train/{histograms}"), on_training, strict=True))
    words = "; gradient histograms with a straight line reach 0.800, more than the network, which "
    assert challenge.beaten_by(Report(metrics=metrics), "test") == words + why
    assert challenge.beaten_by(Report(metrics=metrics | {"test/xray/auroc": 0.8}), "test") == ""


def test_external_xrays_promote_nobody_unless_they_are_asked_for(versions):
    external = replace(versions.dataset, test=replace(versions.dataset.test, name="external"))
    first = versions.add(WRONG, decision=replace(DECISION, split_fingerprint="6" * 16))
    verdict = versions.evaluate(first, external, split="external")
    assert str(verdict) == "not promoted: external X-rays promote nobody, unless promote_on=external lets them"
    assert versions.tags(first)["external.made.run"] == "r" * 32
    assert promote.JUDGED_ON not in versions.tags(first)
    asked = {"split": "external", "promote_on": "external"}
    assert versions.evaluate(first, external, **asked).promoted
    verdict = versions.evaluate(versions.add(PERFECT), external, **asked)
    assert verdict.promoted
    assert verdict.reason.startswith("AUROC per X-ray on external 1.000 against 0.000 of the champion, version 1")


@pytest.mark.parametrize(("mode", "winner"), [("always", "2"), ("never", "1")])
def test_the_user_may_decide(versions, mode, winner):
    first, second = versions.add(RANDOM), versions.add(WRONG if mode == "always" else PERFECT)
    versions.evaluate(first)
    verdict = versions.evaluate(second, replace(versions.dataset, leakage=Leakage(0.5)), promote=mode)
    assert versions.champion == winner
    assert verdict.reason == f"--promote {mode} (of the test X-rays 50% with label were shown in training)"
    assert verdict.loser == (first if mode == "always" else second)


def test_the_champion_stays_itself(versions):
    first = versions.add(RANDOM)
    versions.evaluate(first)
    verdict = versions.evaluate(first)
    assert str(verdict) == "not promoted: version 1 is the champion already"
    assert str(versions.evaluate(first, promote="always")) == str(verdict)
    assert str(versions.evaluate(first, replace(versions.dataset, leakage=Leakage(0.5)))).startswith(
        "not promoted: of the test X-rays 50%"
    )
    assert versions.champion == first
    assert versions.tags(first)["promotion"].startswith("promoted to champion: the first one")
    assert versions.tags(first)[promote.PREVIOUS] == "none"
    assert "promotion.last_challenge" not in versions.tags(first)


def test_a_folder_is_not_promoted(versions):
    folder = replace(versions.subjects[versions.add(PERFECT)], version=None)
    versions.subjects["folder"] = folder
    verdict = versions.evaluate("folder", promote="always")
    assert str(verdict) == "not promoted: the classifier is not registered as fracture-classifier"
    assert versions.champion is None


def test_rolling_back_returns_step_by_step(versions):
    for number, probability in enumerate((WRONG, RANDOM, PERFECT), start=1):
        versions.evaluate(versions.add(probability), promote_confidence=0)
        assert versions.champion == str(number)
    assert promote.roll_back() == "champion is version 2 again, instead of version 3"
    assert versions.tags("3")["promotion.rolled_back"] == "to version 2"
    promote.roll_back()
    assert versions.champion == "1"
    with pytest.raises(FractureMaeError, match="the champion, version 1, replaced none that is known"):
        promote.roll_back()
    promote.roll_back("3")
    assert versions.champion == "3"


def test_rolling_back_says_what_is_wrong(versions):
    with pytest.raises(FractureMaeError, match=r"has no champion, .* Name the version"):
        promote.roll_back()
    versions.evaluate(versions.add(RANDOM))
    with pytest.raises(FractureMaeError, match="version 1 is the champion already"):
        promote.roll_back("1")
    with pytest.raises(FractureMaeError, match="has no version 7"):
        promote.roll_back("7")
    assert versions.champion == "1"


def test_there_is_a_way_back_without_a_champion(versions):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)
    versions.evaluate(second)
    versions.store.delete_model_version(NAME, second)
    assert versions.champion is None
    assert promote.roll_back(first) == "champion is version 1, where there was none"
    assert versions.champion == first


@pytest.mark.parametrize(("probability", "wins"), [(RANDOM, False), (PERFECT, True)], ids=["worse", "better"])
def test_where_the_champion_was_deleted_the_one_before_it_is_to_be_beaten(versions, probability, wins):
    lucky = RANDOM.copy()
    lucky[1] = 0.61
    before, deleted, new = versions.add(lucky), versions.add(PERFECT), versions.add(probability)
    versions.evaluate(before)
    versions.evaluate(deleted)
    versions.store.delete_model_version(NAME, deleted)
    verdict = versions.evaluate(new)
    assert versions.champion == (new if wins else None)
    assert "there is no champion any more, so it was compared with the last one that is left: AUROC" in str(verdict)
    assert "of the champion, version 1" in str(verdict)
    assert promote.roll_back(before).startswith("champion is version 1")


def test_where_the_champion_was_deleted_the_one_before_it_comes_back_by_itself(versions):
    before, deleted = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(before)
    versions.evaluate(deleted)
    versions.store.delete_model_version(NAME, deleted)
    assert "the first one" in str(versions.evaluate(before))
    assert versions.champion == before


def test_what_cannot_be_loaded_does_not_become_champion(versions, monkeypatch):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)
    versions.evaluate(second)
    monkeypatch.setattr(registered_models, "open_classifier", lambda _: Path("/none/gone").read_bytes())
    with pytest.raises(FractureMaeError, match=r"version 1 cannot be loaded.*gone'\. Version 2 stays champion"):
        promote.roll_back()
    assert versions.champion == second
    versions.store.delete_model_version(NAME, second)
    with pytest.raises(FractureMaeError, match="There is still no champion"):
        promote.roll_back(first)
    assert versions.champion is None


def test_who_flags_everything_needs_the_other_rate_too(versions):
    first = versions.add(RANDOM)
    versions.evaluate(first)
    everything = versions.add(np.full(len(LABEL), 0.99))
    options = {"promote_metric": "sensitivity", "promote_confidence": 0}
    verdict = versions.evaluate(everything, **options)
    assert verdict.comparison["challenger"] > verdict.comparison["champion"]
    assert (verdict.comparison["other"], verdict.promoted) == (0, False)
    assert verdict.reason.endswith("; its specificity is 0.000, at least 0.5 is wanted")
    assert versions.evaluate(everything, **options, promote_floor=0).promoted
