"""Whether champion and challenger can be compared, and on which X-rays."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages import inputs
from fracture_mae.tracking import registered_models
from tests import builders
from tests.builders import PERFECT, RANDOM, WRONG
from tests.unit.stages.versions import DECISION, NAME


def test_made_from_another_split_there_is_no_comparison(versions):
    first, second = versions.add(WRONG, decision=replace(DECISION, split_fingerprint="6" * 16)), versions.add(PERFECT)
    versions.evaluate(first)
    verdict = versions.evaluate(second)
    assert versions.champion == first
    assert str(verdict).startswith(
        "not promoted: no comparison with the champion, version 1: the champion was made from another split or other data "
        "(6666666666666666) than these (5555555555555555). Train a challenger on"
    )
    assert verdict.comparison == {}


def test_made_from_other_data_there_is_no_comparison(versions):
    other = replace(DECISION, split_fingerprint="6" * 16)
    first, second = versions.add(WRONG, decision=other, data_fingerprint="e" * 16), versions.add(PERFECT)
    versions.evaluate(first)
    assert (
        "the champion was made from another split or other data (6666666666666666)" in versions.evaluate(second).reason
    )
    third = versions.add(PERFECT, decision=other)
    versions.evaluate(versions.add(RANDOM), promote="always")
    assert (
        "the challenger was made from another split or other data (6666666666666666)" in versions.evaluate(third).reason
    )


def test_a_champion_that_was_shown_test_xrays_is_not_compared(versions):
    shown = versions.dataset.test.table["sha256"][:36]
    first, second = versions.add(PERFECT, seen=shown), versions.add(PERFECT)
    versions.evaluate(first)
    reason = versions.evaluate(second).reason
    assert (
        "while it was made, of the test X-rays 60% with label were shown in training, which would favour it" in reason
    )


def test_two_are_compared_on_the_test_xrays_that_both_were_kept_from(versions):
    """The champion knows 15 of 60 by heart and all else wrongly: on the 45 others it is always wrong."""
    test = versions.dataset.test.table
    first = versions.add(np.where(np.arange(60) < 15, PERFECT, WRONG), seen=test["sha256"][:15])
    second = versions.add(RANDOM)
    versions.evaluate(first)
    verdict = versions.evaluate(second)
    assert verdict.promoted
    assert (verdict.comparison["n_xrays"], verdict.comparison["champion"]) == (45, 0)


def test_added_data_leave_a_champion_comparable(versions):
    """Made from half of the data that there are now, on another side of no X-ray: compared. From a third of them only: not."""
    others = versions.dataset.index.loc[versions.dataset.index["split"] != "test", "sha256"].unique()
    before = replace(DECISION, split_fingerprint="6" * 16)
    gone = [f"{number:064x}" for number in range(10**6, 10**6 + len(others))]
    first = versions.add(WRONG, decision=before, seen=[*others, *gone])
    second, third = versions.add(RANDOM), versions.add(PERFECT, decision=before, seen=[*others, *gone, "f" * 64])
    versions.evaluate(first)
    assert versions.evaluate(second).promoted
    assert "the challenger was made from another split or other data" in versions.evaluate(third).reason


@pytest.mark.parametrize(
    ("leakage", "words"),
    [
        (Leakage(with_label=0.25), "of the test X-rays 25% with label were shown in training"),
        (Leakage(picture_only=0.5), "of the test X-rays 50% as picture only were shown in training"),
        (Leakage(validation=0.1), "of the validation X-rays 10% stand in training too"),
    ],
)
def test_what_was_shown_test_xrays_never_wins(versions, leakage, words):
    first, second = versions.add(WRONG), versions.add(PERFECT)
    leaky = replace(versions.dataset, leakage=leakage)
    assert not versions.evaluate(second, leaky).promoted  # not even as the first
    versions.evaluate(first)
    verdict = versions.evaluate(second, leaky, promote_confidence=0)
    assert versions.champion == first
    assert verdict.reason == f"{words}, so its figures prove nothing"


def test_a_champion_that_cannot_be_loaded_is_said(versions, monkeypatch):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)

    def gone(uri, precision):
        raise FractureMaeError(f"{uri} is not to be had")

    monkeypatch.setattr(registered_models, "open_classifier", gone)
    verdict = versions.evaluate(second)
    assert verdict.reason.startswith(
        "no comparison with the champion, version 1: models:/fracture-classifier/1 is not to"
    )


@pytest.mark.parametrize("own", [{"image_size": 64}, {"image_size": 64, "preprocess": "film"}])
def test_a_champion_of_another_image_size_sees_the_same_xrays_at_its_own(versions, monkeypatch, own):
    """And in another order, to show that files are found by their contents."""
    test = versions.dataset.test
    turned = test.subset(np.arange(len(test))[::-1])
    larger = replace(turned, pixels=np.zeros((len(test), 64, 64), np.uint8))
    asked_for = []

    def load_data(config, size, label_names, *, preprocess):
        asked_for.append({"image_size": size, "preprocess": preprocess})
        return SimpleNamespace(test=larger)

    monkeypatch.setattr(inputs, "load_data", load_data)
    first, second = versions.add(WRONG, **own), versions.add(PERFECT)
    versions.evaluate(first)
    verdict = versions.evaluate(second)
    assert versions.shown[-1] == 64
    assert asked_for[-1] == {"preprocess": "letterbox"} | own
    assert (verdict.comparison["challenger"], verdict.comparison["champion"]) == (1, 0)


def test_a_champion_of_another_preprocessing_alone_sees_the_xrays_anew(versions, monkeypatch):
    asked_for = []

    def load_data(config, size, label_names, *, preprocess):
        asked_for.append(preprocess)
        return versions.dataset

    monkeypatch.setattr(inputs, "load_data", load_data)
    first, second = versions.add(WRONG, preprocess="film_equalised"), versions.add(PERFECT)
    versions.evaluate(first)
    versions.evaluate(second)
    assert asked_for == ["film_equalised"]


def test_looks_at_the_same_test_xrays_are_counted(versions):
    versions.evaluate(versions.add(RANDOM))
    found = [versions.evaluate(versions.add(WRONG)) for _ in range(3)]
    assert [each.comparison["look"] for each in found] == [1, 2, 3]
    again = versions.evaluate("3")  # who was compared already does not count twice
    assert again.comparison["look"] == 3
    assert "as challenger number 3 on these X-rays" in again.reason
    versions.store.delete_model_version(NAME, "2")  # and is not forgotten
    assert versions.evaluate(versions.add(WRONG)).comparison["look"] == 4
    # Where the champion knows two of them, the others are another test set.
    known = builders.shown(versions.dataset.test.table["sha256"][:2])
    versions.subjects["1"] = replace(versions.subjects["1"], shown=known)
    other = versions.evaluate(versions.add(WRONG))
    assert other.comparison["look"] == 1
