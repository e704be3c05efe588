from dataclasses import replace

import numpy as np
import pytest

from fracture_mae.config import Evaluate
from fracture_mae.evaluation import gate_fitting
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.stages import evaluation_page, external, promote
from fracture_mae.stages.model_card.facts import Facts
from fracture_mae.tracking import lineage
from fracture_mae.tracking.registered_models import LoadedClassifier
from tests import builders
from tests.unit.pages.elements import Elements, fetched

DECISION = Decision(("not fractured", "fractured"), threshold=0.47, slope=0.8)
CONFIG = Evaluate(split="external", n_draws=100)


@pytest.fixture
def loaded(tmp_path, tiny_mae, dataset, accelerator):
    """A classifier with what it keeps of its own data."""
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0)
    options = {"batch_size": 4, "accelerator": accelerator}
    chosen_on = ChosenOn(predict(network, dataset.validation, **options))
    OwnData.of(network, dataset, chosen_on, seed=0, **options).save(tmp_path)
    return LoadedClassifier("made", "1", network, DECISION, builders.shown([]), tmp_path)


@pytest.fixture
def own_test(monkeypatch, loaded, dataset, accelerator):
    table = predict(loaded.classifier, dataset.test, batch_size=4, accelerator=accelerator)
    monkeypatch.setattr(promote, "judged_in", lambda _: "a" * 32)
    monkeypatch.setattr(lineage, "read_table", lambda run_id, path: table)
    return table


def abroad(dataset, label):
    """X-rays of somebody else, all of them test."""
    nothing = dataset.train.subset(np.array([], int))
    test = replace(builders.xrays("abroad", label), name="external")
    return replace(dataset, train=nothing, validation=nothing, test=test, index=test.table.assign(split="test"))


LABEL = np.tile([0, 1, 1], 6)


def test_everything_is_reported(loaded, own_test, dataset, accelerator):
    there = abroad(dataset, LABEL)
    there.test.table["csv_sex"] = np.repeat(["F", "M"], 9)
    report = external.judge(loaded, there, CONFIG, accelerator)
    assert report.tables["external/subgroups.csv"]["value"].tolist() == ["all", "F", "M"]
    assert report.tables["external/predictions.csv"]["csv_sex"].tolist() == ["F"] * 9 + ["M"] * 9
    assert report.metrics["external/prevalence"] == pytest.approx(2 / 3)
    for name in (
        "xray/auroc",
        "image/calibration_in_the_large",
        "xray/observed_to_expected",
        "drift/features",
        "fall/auroc",
    ):
        assert f"external/{name}" in report.metrics
    own = report.tables["external/fall.csv"].set_index("metric")
    assert own.loc["auroc", "elsewhere"] == report.metrics["external/xray/auroc"]
    assert own.loc["auroc", "fall"] == pytest.approx(own.loc["auroc", "own"] - own.loc["auroc", "elsewhere"])
    assert "not at hand (it is not known where they lie)" in report.tags["nearest_training_xrays.external"]
    assert set(report.tables["external/comparison.csv"]["model"]) == {
        "classifier",
        "file and border properties",
        "gradient histograms",
    }
    assert not [name for name in [*report.tables, *report.metrics] if name.startswith(("train", "validation", "test"))]
    printed = external.digest(report)
    assert "gate: none: this classifier was made before there was one" in printed
    assert "Subgroups on external, each X-ray once" in printed
    assert "how many X-rays, external: with 18 / 36 / 72 X-rays like these" in printed
    assert "where, on" not in printed  # no boxes are there
    assert "fractured: 12 of 18 X-rays, 0.667 [0.437, 0.837]" in printed  # Wilson's, by hand
    assert "its own test → here, per X-ray, and the fall:" in printed


def test_what_its_gate_refuses_there_is_told(loaded, own_test, dataset, accelerator, monkeypatch):
    monkeypatch.setattr(gate_fitting, "_FEWEST_FOREIGN", 24)
    monkeypatch.setattr(gate_fitting, "_MOST_FOREIGN", 24)
    options = {"batch_size": 4, "accelerator": accelerator}
    gate_fitting.fit(loaded.classifier, dataset.train, dataset.validation, seed=0, **options).save(loaded.folder)
    there = abroad(dataset, LABEL)
    there.test.pixels[:2] = 128
    report = external.judge(loaded, there, CONFIG, accelerator)
    assert {"/abroad/0.png", "/abroad/1.png"} <= set(report.tables["external/refused.csv"]["path"])
    assert "gate, external: " in external.digest(report)
    assert "external/accepted/xray/sensitivity" in report.metrics


def test_boxes_there_say_whether_it_looks_at_the_fracture(loaded, own_test, dataset, accelerator):
    there = abroad(dataset, LABEL)
    boxed = replace(there.test, table=there.test.table.assign(boxes=np.where(LABEL == 1, "0.3 0.4 0.7 0.6", "")))
    report = external.judge(loaded, replace(there, test=boxed), CONFIG, accelerator)
    assert report.metrics["external/xray/pointing_game_chance"] == pytest.approx(0.08)
    assert {"external/gallery.png", "external/places.png", "external/froc.png"} <= set(report.figures)
    assert "where, on external, of 12 X-rays with boxes: the hottest patch lies in a box in" in external.digest(report)


def test_nothing_is_fitted_or_chosen_on_them(loaded, own_test, dataset, accelerator):
    """Other labels for the same pictures change no threshold, no probability and no reference."""
    kept = []
    for label in (LABEL, 1 - LABEL):
        there = abroad(dataset, LABEL)
        there = replace(there, test=replace(there.test, table=there.test.table.assign(label=label)))
        report = external.judge(loaded, there, CONFIG, accelerator)
        points = report.tables["external/xray/operating_points.csv"]
        kept.append((points["name"].tolist(), points["threshold"].tolist(), report))
    assert kept[0][:2] == kept[1][:2]
    assert "sensitivity 0.95" in kept[0][0]
    first, second = (report.tables["external/predictions.csv"] for *_, report in kept)
    assert first["probability"].equals(second["probability"])
    # With every label turned a reference that was fitted elsewhere is as wrong as it was right.
    sums = sum(report.tables["external/comparison.csv"].query("source == 'all'")["estimate"] for *_, report in kept)
    np.testing.assert_allclose(sums, 1)


@pytest.mark.parametrize(("label", "rate"), [(0, "specificity"), (1, "sensitivity")])
def test_one_class_alone_is_judged(store, loaded, own_test, dataset, accelerator, label, rate):
    there = abroad(dataset, np.full(8, label))
    report = external.judge(loaded, there, CONFIG, accelerator)
    assert f"external/xray/{rate}" in report.metrics
    assert "external/xray/auroc" not in report.metrics
    assert f"external/fall/{rate}" in report.metrics
    printed = external.digest(report)
    assert "nan" not in printed.replace("PPV", "").lower().split("operating points")[0]
    assert "calibration slope (1): undefined" in printed
    found = page_of(loaded, there, report)
    assert "Is it of use?" not in found.of("h2")  # what flags none is not of less use where nothing is fractured
    assert "nan" not in found.of("td")
    assert any(text.startswith(f"On 8 X-rays of another collection, {8 * label} of them") for text in found.of("p"))


def page_of(loaded, there, report):
    text = evaluation_page.page(Facts(loaded, there, report, "a" * 32, ""), CONFIG, "# Card\n\nWords")
    assert fetched(text) == []
    return Elements(text)


def test_what_is_not_at_hand_is_said(store, loaded, dataset, accelerator, monkeypatch):
    monkeypatch.setattr(promote, "judged_in", lambda _: None)
    (loaded.folder / "own_data.npz").unlink()
    there = abroad(dataset, LABEL)
    report = external.judge(loaded, there, CONFIG, accelerator)
    assert "external/comparison.csv" not in report.tables
    assert "external/drift.csv" not in report.tables
    assert report.tables["external/xray/operating_points.csv"]["name"].tolist() == ["own", "default"]
    printed = external.digest(report)
    assert "not at hand: this classifier keeps nothing of its own data" in printed
    assert "fall from its own test: not at hand" in printed
    found = page_of(loaded, there, report)
    assert "What came out" in found.of("h2")
    assert not [text for text in found.of("p") if "its own test to here" in text]
