import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from fracture_mae.config import Evaluate
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import inputs, promote
from fracture_mae.tracking import registered_models, registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report
from tests import builders
from tests.builders import LABEL, PERFECT, RANDOM, WRONG

NAMES = ("not fractured", "fractured")
DECISION = Decision(NAMES, split_fingerprint="5" * 16)
NAME = registry.CLASSIFIER


# Of a classifier that is better than chance and than the references.
SOUND = {
    "auroc": 0.9,
    "auroc_low": 0.8,
    "auroc/all/file_and_border_properties": 0.79,
    "auroc/all/gradient_histograms": 0.9,
}


class Registry:
    """Versions of the classifier without files; each answers with the probabilities that it is given."""

    def __init__(self, store, dataset, monkeypatch):
        self.store, self.dataset = store, dataset
        self.subjects, self.answers = {}, {}
        store.create_registered_model(NAME)
        monkeypatch.setattr(registered_models, "open_classifier", lambda uri: self.subjects[uri.rpartition("/")[2]])
        monkeypatch.setattr(promote, "predict", self.predict)
        self.shown = []

    def add(
        self,
        probability,
        *,
        image_size=builders.SIDE,
        preprocess="letterbox",
        seen=(),
        decision=DECISION,
        data_fingerprint="f" * 16,
    ):
        version = str(self.store.create_model_version(NAME, source="/nowhere").version)
        self.store.set_model_version_tag(NAME, version, "data.fingerprint", data_fingerprint)
        network = SimpleNamespace(image_size=image_size, preprocess=preprocess, version=version)
        self.subjects[version] = LoadedClassifier(
            f"models:/{NAME}/{version}", version, network, decision, builders.shown(seen), Path()
        )
        self.answers[version] = np.asarray(probability)
        return version

    def predict(self, network, xrays, **options):
        self.shown.append(xrays.pixels.shape[1])
        answers = dict(zip(self.dataset.test.table["sha256"], self.answers[network.version], strict=True))
        columns = xrays.table[["sha256", "group", "label"]]
        return columns.assign(logit=logit(xrays.table["sha256"].map(answers).to_numpy(float)))

    def evaluate(self, version, dataset=None, floor=None, **options):
        """Evaluate a version; the verdict, after it was carried out."""
        dataset = dataset or self.dataset
        subject = self.subjects[version]
        table = self.predict(subject.classifier, dataset.test)
        split = dataset.test.name
        findings = Report(
            metrics={f"{split}/xray/{name}": value for name, value in (SOUND | (floor or {})).items()},
            tables={f"{split}/predictions.csv": table},
        )
        verdict = promote.consider(subject, findings, dataset, Evaluate(n_draws=200, **options), None)
        promote.carry_out(verdict, subject, findings, dataset, "r" * 32)
        return verdict

    def tags(self, version):
        return self.store.get_model_version(NAME, version).tags

    @property
    def champion(self):
        found = registry.find(f"models:/{NAME}@{registry.CHAMPION}")
        return found and str(found.version)


@pytest.fixture
def versions(store, dataset, monkeypatch):
    test = builders.xrays("test", LABEL)
    others = dataset.index[dataset.index["split"] != "test"]
    dataset = replace(dataset, test=test, index=pd.concat([others, test.table.assign(split="test")], ignore_index=True))
    return Registry(store, dataset, monkeypatch)


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


def test_a_champion_that_cannot_be_loaded_is_said(versions, monkeypatch):
    first, second = versions.add(RANDOM), versions.add(PERFECT)
    versions.evaluate(first)

    def gone(uri):
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
