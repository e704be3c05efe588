from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fracture_mae.config import Evaluate
from fracture_mae.data.shown import WITH_LABEL
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import gate_fitting, judging, reconstruction
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import predict
from fracture_mae.evaluation.reconstruction import Masks
from fracture_mae.evaluation.references import FILE_PROPERTIES
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder
from fracture_mae.models import classifier as classifier_model
from fracture_mae.stages import evaluate, reconstruct
from fracture_mae.tracking import registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report
from tests import builders

DECISION = Decision(("not fractured", "fractured"))
NAME = registry.CLASSIFIER


def subject(version="1", seen=(), decision=DECISION):
    return LoadedClassifier(f"models:/{NAME}/{version}", version, None, decision, builders.shown(seen), Path())


def test_leakage_counts_test_xrays_that_the_classifier_was_shown(dataset):
    test = dataset.test.table["sha256"]
    assert subject().leakage(dataset) == Leakage()
    assert subject(seen=[test[0], test[3], "elsewhere"]).leakage(dataset) == Leakage(with_label=2 / 6)
    # Two files of one X-ray: one that was shown is enough.
    groups = dict(zip(test, ["a", "a", "b", "c", "d", "e"], strict=True))
    dataset.test.table["group"] = test.map(groups)
    dataset.index["group"] = dataset.index["sha256"].map(groups).fillna(dataset.index["group"])
    assert subject(seen=[test[1]]).leakage(dataset) == Leakage(with_label=1 / 5)
    assert subject(seen=[test[1]]).leakage(replace(dataset, leakage=Leakage(validation=0.5))) == Leakage(1 / 5, 0, 0.5)


def test_other_classes_are_refused(dataset):
    subject().check(dataset)
    other = subject(decision=Decision(("benign", "malignant")))
    with pytest.raises(
        FractureMaeError, match="tells benign from malignant, but the data hold not fractured and fractured"
    ):
        other.check(dataset)
    subject(decision=Decision(("Healthy", "Broken"))).check(dataset)  # other words for the same
    with pytest.raises(FractureMaeError, match="tells fractured from healthy"):
        subject(decision=Decision(("fractured", "healthy"))).check(dataset)


@pytest.fixture
def folder(tmp_path, tiny_mae):
    network = classifier_model.from_mae(tiny_mae, pool="cls", drop_path=0.0, seed=0)
    classifier_model.save(network, DECISION, tmp_path / "saved")
    return tmp_path / "saved"


def test_load_from_a_folder(store, folder):
    (folder / "seen.txt").write_text("aa\nbb\n")
    found = evaluate.load(Evaluate(classifier=str(folder), image_size=32))
    assert (found.name, found.version) == (str(folder), None)
    assert found.shown.contents.to_dict() == {"aa": WITH_LABEL, "bb": WITH_LABEL}
    assert found.decision == DECISION


def test_load_refuses_another_image_size(store, folder):
    with pytest.raises(FractureMaeError, match=r"--image-size 64: .* takes 32 pixels"):
        evaluate.load(Evaluate(classifier=str(folder), image_size=64))


def test_load_refuses_another_preprocessing(store, folder):
    assert evaluate.load(Evaluate(classifier=str(folder), preprocess="letterbox")).classifier.preprocess == "letterbox"
    with pytest.raises(FractureMaeError, match=r"--preprocess film: .* takes X-rays preprocessed by letterbox"):
        evaluate.load(Evaluate(classifier=str(folder), preprocess="film"))


@pytest.mark.parametrize("name", ["/nowhere", "models:/fracture-classifier@challenger"])
def test_load_says_what_is_missing(store, name):
    with pytest.raises(FractureMaeError, match=r"holds no classifier|Registered there: nothing yet"):
        evaluate.load(Evaluate(classifier=name))


def test_only_versions_of_the_classifier_can_be_champion(store, folder, monkeypatch):
    store.create_registered_model("a copy")
    store.create_model_version("a copy", source=str(folder))
    monkeypatch.setattr(registry, "fetch", lambda uri: folder)
    found = evaluate.load(Evaluate(classifier="models:/a copy/1"))
    assert (found.name, found.version) == ("models:/a copy/1", None)


@pytest.mark.parametrize("references", [True, False])
def test_every_split_is_judged_and_compared_if_asked(folder, dataset, accelerator, references):
    network, decision = classifier_model.load(folder)
    config = Evaluate(n_draws=100, references=references)
    found = evaluate.judge(
        LoadedClassifier(str(folder), None, network, decision, builders.shown([]), folder), dataset, config, accelerator
    )
    for split in ("train", "validation", "test"):
        assert f"{split}/xray/auroc" in found.metrics
        assert len(found.tables[f"{split}/predictions.csv"]) == len(getattr(dataset, split))
        assert (f"{split}/comparison.csv" in found.tables) == references
    assert found.metrics["train/xray/accuracy"] <= 1
    why = found.tags["within_strata.test"]
    assert why.startswith(
        "no AUROC within strata: found " if references else "no AUROC within strata: references=false"
    )
    assert why in judging.strata_digest(found, ["validation", "test"])
    assert "train/xray/auroc_within_strata" not in found.metrics
    assert {path for path in found.figures if "gallery" in path} == {"validation/gallery.png", "test/gallery.png"}
    assert not any("pointing_game" in name for name in found.metrics)  # no boxes are there
    printed = evaluate.digest(found)
    assert "where, on" not in printed
    assert "gate: none: this classifier was made before there was one" in printed
    if references:
        compared = found.tables["test/comparison.csv"].set_index("model")
        assert compared.loc["classifier", "estimate"] == pytest.approx(found.metrics["test/xray/auroc"])
        assert np.isfinite(compared["estimate"]).all()
        assert {Path(path).name for path in found.figures} >= {"comparison.png", "comparison_roc.png"}


def test_where_a_classifier_keeps_predictions_out_of_fold_thresholds_are_chosen_on_them(
    folder, dataset, tiny_mae, accelerator
):
    """`tune` trains what it registers on validation too: chosen there, they would be flattered."""
    network = classifier_model.from_mae(tiny_mae, pool="cls", drop_path=0.0, seed=0)
    kept = predict(network, dataset.validation, batch_size=4, accelerator=accelerator)
    for place, expected in (("out of fold", "out of fold"), ("validation", "validation")):
        OwnData.of(network, dataset, ChosenOn(kept, place), batch_size=4, accelerator=accelerator, seed=0).save(folder)
        loaded = evaluate.load(Evaluate(classifier=str(folder)))
        report = evaluate.judge(loaded, dataset, Evaluate(n_draws=100, references=False), accelerator)
        points = report.tables["test/xray/operating_points.csv"]
        assert set(points["chosen_on"]) == {"the model", "given", expected}
        assert {"test/xray/net_benefit", "validation/xray/net_benefit"} <= set(report.metrics)
        assert "Net benefit on test, each X-ray once" in evaluate.digest(report)


def test_what_a_gate_refuses_is_told_beside_the_plain_figures(folder, dataset, accelerator, monkeypatch):
    monkeypatch.setattr(gate_fitting, "_FEWEST_FOREIGN", 24)
    monkeypatch.setattr(gate_fitting, "_MOST_FOREIGN", 24)
    network, decision = classifier_model.load(folder)
    options = {"batch_size": 4, "accelerator": accelerator}
    config = Evaluate(n_draws=100, references=False)
    loaded = LoadedClassifier(str(folder), None, network, decision, builders.shown([]), folder)
    gate_fitting.fit(network, dataset.train, dataset.validation, seed=0, **options).save(folder)
    dataset.test.pixels[0] = 255  # a white page
    found = evaluate.judge(loaded, dataset, config, accelerator)
    assert dataset.test.table["path"][0] in found.tables["test/refused.csv"]["path"].tolist()
    assert found.metrics["test/n_refused"] == len(found.tables["test/refused.csv"])
    assert "test/accepted.csv" in found.tables
    assert "validation/refused_by_source.csv" in found.tables
    assert "gate, test: " in evaluate.digest(found)
    assert "test/xray/auroc" in found.metrics


def test_boxes_that_taught_nothing_say_whether_it_looks_there(folder, accelerator):
    network, decision = classifier_model.load(folder)
    data = builders.split_dataset(builders.squares("all", 24), validation=range(6), test=range(16, 24))
    loaded = LoadedClassifier(str(folder), None, network, decision, builders.shown([]), folder)
    found = evaluate.judge(loaded, data, Evaluate(n_draws=100, references=False), accelerator)
    named = {name.partition("/")[0] for name in found.metrics if "pointing_game" in name}
    assert named == {"validation", "test"}
    assert len(found.tables["test/hottest_patch.csv"]) == 4
    lines = [line for line in evaluate.digest(found).splitlines() if line.startswith("where, on")]
    assert [line.partition(":")[0] for line in lines] == [
        "where, on validation, of 3 X-rays with boxes",
        "where, on test, of 4 X-rays with boxes",
    ]


@pytest.mark.parametrize("asked", [True, False])
def test_test_is_rebuilt_where_that_is_asked_for(store, tmp_path, tiny_mae, dataset, accelerator, asked):
    autoencoder.save(tiny_mae, tmp_path / "mae")
    config = Evaluate(mae=str(tmp_path / "mae") if asked else "none", mask_ratio=0.5, preprocess="letterbox")
    found = reconstruct.test_reconstruction(config, dataset, accelerator)
    told = reconstruct.reconstruction_digest(found, "test")
    if not asked:
        assert (found.metrics, found.tables, told) == ({}, {}, "")
        return
    options = {"batch_size": 32, "accelerator": accelerator}
    expected = reconstruction.measure(tiny_mae, dataset.test, Masks(0.5, 0), **options)
    assert found.metrics == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-5)
    assert f"masked MSE {expected['masked_mse']:.4f}" in told
    assert told.endswith("shown before: 0%")


def test_an_encoder_alone_rebuilds_no_test(store, tmp_path, tiny_mae, dataset, accelerator):
    tiny_mae.network.vit.save_pretrained(tmp_path / "encoder")
    config = Evaluate(mae=str(tmp_path / "encoder"), preprocess="letterbox")
    with pytest.raises(FractureMaeError, match=r"--mae .*encoder holds an encoder alone"):
        reconstruct.test_reconstruction(config, dataset, accelerator)


def compared(low, source="all", model=FILE_PROPERTIES):
    rows = [
        (model, 0.7, low, 0.9, source),
        (judging.CLASSIFIER, 0.9, 0.8, 1.0, "all"),
        (FILE_PROPERTIES, 0.6, 0.4, 0.8, "all"),
    ]
    return Report(
        tables={"test/comparison.csv": pd.DataFrame(rows, columns=["model", "estimate", "low", "high", "source"])}
    )


@pytest.mark.parametrize(
    ("findings", "warning"),
    [
        (compared(0.51), "the label can be guessed without looking at a bone: file and border properties alone reach"),
        (compared(0.5), "none"),
        (compared(float("nan")), "not tested (fewer than 10 patients or X-rays of a class on test)"),
        (compared(0.6, source="wrists"), "none"),  # of all X-rays 0.4
        (Report(), "not tested (--references false)"),
    ],
)
def test_an_evaluation_warns_of_a_shortcut(findings, warning):
    assert evaluate.shortcut_warning(findings, "test").startswith(warning)
