from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fracture_mae.config import TrainClassifier
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.types import PREDICTED
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import cross_validate
from fracture_mae.stages.classifier import Choice
from fracture_mae.tracking import runs
from fracture_mae.training import learning_curves
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.training.schedule import Progress
from tests import builders

K = 3
CONFIG = TrainClassifier(cross_validate=K, epochs=1, batch_size=8).settled("random")
N_XRAYS = 24


@pytest.fixture
def dataset():
    """24 X-rays with two files each; eight files are for test."""
    group = np.repeat(np.arange(N_XRAYS), 2)
    whole = builders.xrays("all", group % 2, group)
    return builders.split_dataset(whole, validation=range(8), test=range(40, 48))


@pytest.fixture
def quick(monkeypatch):
    """What it is done with takes long and is tested elsewhere."""
    monkeypatch.setattr(cross_validate, "N_DRAWS", 10)
    monkeypatch.setattr(cross_validate.judging, "judge_split", lambda *args: cross_validate.Report())
    monkeypatch.setattr(learning_curves.plots, "learning_curves", lambda *args: Figure(figsize=(1, 1)))


class Memoriser:
    """Stands for training and prediction: certain of every X-ray that it was shown, and of no other."""

    def __init__(self):
        self.known = {}

    def train_and_choose(self, classifier, dataset, config, *, accelerator, checkpoints, log):
        self.known = {}
        for side in (dataset.train, dataset.validation):
            self.known |= dict(zip(side.group, side.label, strict=True))
        assert self.known
        row = {"train/loss": 0.0, "validation/xray/auroc": 1.0}
        predictions = self.predict(classifier, dataset.validation)
        return Choice(Progress([row], 1, [checkpoints.run_id]), predictions, Decision(dataset.label_names))

    def predict(self, classifier, xrays, **options):
        logit = [{None: 0.0, 0: -9.0, 1: 9.0}[self.known.get(group)] for group in xrays.group]
        return xrays.table[PREDICTED].assign(logit=logit)


def run_folds(dataset, tiny_encoder, accelerator, config=CONFIG):
    with runs.run("train_classifier", config) as run:
        folds = cross_validate.train_folds(tiny_encoder, dataset, config, accelerator=accelerator, run=run)
    return folds, run


def children(store, parent):
    runs = store.search_runs([store.get_run(parent.id).info.experiment_id], order_by=["attributes.start_time ASC"])
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.id]


@pytest.mark.usefixtures("quick", "store")
def test_no_xray_is_judged_by_a_model_that_saw_it(dataset, tiny_encoder, accelerator, monkeypatch):
    memoriser = Memoriser()
    monkeypatch.setattr(classifier_stage, "train_and_choose", memoriser.train_and_choose)
    monkeypatch.setattr(cross_validate, "predict", memoriser.predict)
    folds, _ = run_folds(dataset, tiny_encoder, accelerator)
    pooled = cross_validate.judge(folds, CONFIG, "")
    table = pooled.tables["cross_validation/predictions.csv"]
    assert sorted(table["path"]) == sorted([*dataset.train.table["path"], *dataset.validation.table["path"]])
    assert set(table["logit"]) == {0.0}
    assert pooled.metrics["cross_validation/xray/auroc"] == pytest.approx(0.5)
    # It would have known them all had it been shown them.
    assert set(memoriser.predict(None, folds_data(dataset)[-1].train)["logit"]) == {-9.0, 9.0}


def folds_data(dataset):
    return cross_validate.cross_validation_sets(dataset, K, CONFIG.split_seed)


@pytest.mark.usefixtures("quick", "store")
def test_where_boxes_are_each_is_looked_for_by_a_model_that_never_saw_it(tiny_encoder, accelerator, monkeypatch):
    boxed = builders.split_dataset(builders.squares("all", 36), validation=range(6), test=range(30, 36))
    folds, _ = run_folds(boxed, tiny_encoder, accelerator)
    found = cross_validate.judge(folds, CONFIG, "")
    table = found.tables["cross_validation/place.csv"].set_index("metric")
    assert table.loc["pointing_game", "n_xrays"] == 15  # of 30 that are not for test
    assert "cross_validation/xray/pointing_game" in found.metrics
    assert "of 15 X-rays with boxes: the hottest patch lies in a box in" in cross_validate.place.digest(
        found, "cross_validation"
    )
    # Folds that are done are not trained again, and say the same.
    monkeypatch.setattr(classifier_stage, "train_and_choose", None)
    again = cross_validate.judge(run_folds(boxed, tiny_encoder, accelerator)[0], CONFIG, "")
    pd.testing.assert_frame_equal(
        again.tables["cross_validation/place.csv"], found.tables["cross_validation/place.csv"]
    )


@pytest.mark.usefixtures("quick")
def test_every_fold_is_a_child_run_that_starts_from_the_same_encoder(dataset, tiny_encoder, accelerator, store):
    before = {name: value.clone() for name, value in tiny_encoder.state_dict().items()}
    folds, parent = run_folds(replace(dataset, test=None), tiny_encoder, accelerator)
    assert all(value.equal(before[name]) for name, value in tiny_encoder.state_dict().items())
    runs = children(store, parent)
    assert [run.info.run_name for run in runs] == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run, fold, data in zip(runs, folds, folds_data(dataset), strict=True):
        assert run.data.tags["split.fingerprint"] == data.split_fingerprint
        assert run.data.metrics["held_out/n_images"] == len(fold.predictions) == len(data.test)
        assert run.data.metrics["threshold"] == fold.decision.threshold
        assert [p.step for p in store.get_metric_history(run.info.run_id, "train/loss")] == [1]
    assert len({tuple(fold.predictions["logit"]) for fold in folds}) == K
    assert store.get_run(parent.id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_fold_is_judged_as_any_split_is(dataset, tiny_encoder, accelerator, store, monkeypatch):
    monkeypatch.setattr(cross_validate, "N_DRAWS", 10)
    _, parent = run_folds(dataset, tiny_encoder, accelerator)
    run = children(store, parent)[0]
    assert {"held_out/image/auroc", "held_out/xray/auroc", "held_out/xray/sensitivity"} <= set(run.data.metrics)
    found = {item.path for item in store.list_artifacts(run.info.run_id, "held_out")}
    assert found == {"held_out/image", "held_out/predictions.csv", "held_out/xray"}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_killed_cross_validation_goes_on_with_what_is_done(dataset, tiny_encoder, accelerator, store, monkeypatch):
    whole, _ = run_folds(dataset, tiny_encoder, accelerator)
    for fold in whole:
        fold.forget()
    trained = []
    train_and_choose = classifier_stage.train_and_choose

    def die_in_the_third(classifier, data, *args, **options):
        trained.append(data.split_fingerprint)
        if len(trained) == K:
            raise KeyboardInterrupt
        return train_and_choose(classifier, data, *args, **options)

    monkeypatch.setattr(classifier_stage, "train_and_choose", die_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_folds(dataset, tiny_encoder, accelerator)
    dead = [run for run in store.search_runs(["1"]) if run.info.status == "FAILED"]
    assert {run.info.run_name for run in dead} == {"train_classifier", "fold 3 of 3"}

    resumed, parent = run_folds(dataset, tiny_encoder, accelerator)
    assert trained[K:] == [folds_data(dataset)[-1].split_fingerprint]
    for fold, other in zip(resumed, whole, strict=True):
        pd.testing.assert_frame_equal(fold.predictions, other.predictions)
        assert fold.decision == other.decision
    runs = children(store, parent)
    assert ["resumed_from" in run.data.tags for run in runs] == [True, True, False]
    assert [p.step for p in store.get_metric_history(runs[0].info.run_id, "train/loss")] == [1]  # its curve, again


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "store")
def test_other_settings_and_resume_never_train_anew(dataset, tiny_encoder, accelerator, monkeypatch):
    run_folds(dataset, tiny_encoder, accelerator)
    memoriser = Memoriser()
    monkeypatch.setattr(classifier_stage, "train_and_choose", memoriser.train_and_choose)
    for changed in ({"resume": "never"}, {"learning_rate": 0.5}, {"seed": 1}):
        memoriser.known = {}
        run_folds(dataset, builders.tiny_encoder(), accelerator, TrainClassifier(**CONFIG.model_dump() | changed))
        assert memoriser.known, changed


@pytest.mark.usefixtures("quick", "store")
def test_a_threshold_is_chosen_anew_without_training_anew(dataset, tiny_encoder, accelerator, monkeypatch):
    config = TrainClassifier(**CONFIG.model_dump() | {"threshold": 0.3, "calibrate": "none"})
    before, _ = run_folds(dataset, tiny_encoder, accelerator)
    monkeypatch.setattr(classifier_stage, "train_and_choose", None)
    after, _ = run_folds(dataset, tiny_encoder, accelerator, config)
    assert {fold.decision.threshold for fold in after} == {0.3}
    for fold, other in zip(after, before, strict=True):
        pd.testing.assert_frame_equal(fold.predictions, other.predictions)


@pytest.mark.usefixtures("quick", "store")
def test_results_are_kept_until_they_are_forgotten(dataset, tiny_encoder, accelerator):
    folds, _ = run_folds(dataset, tiny_encoder, accelerator)
    kept = list((cache_root() / "checkpoints").glob("*/*"))
    assert [file.name for file in kept] == ["result.json"] * K  # no weights
    for fold in folds:
        fold.forget()
    assert not list((cache_root() / "checkpoints").glob("*/"))


def test_without_folds_nothing_is_done(dataset, tiny_encoder, accelerator):
    assert cross_validate.train_folds(tiny_encoder, dataset, TrainClassifier(), accelerator=accelerator, run=None) == []


@pytest.mark.usefixtures("quick", "store")
def test_the_ordinary_training_is_the_same_after_folds(dataset, tiny_encoder, accelerator, tmp_path):
    def ordinary(name):
        classifier = classifier_stage.build(builders.tiny_encoder(), CONFIG)
        with Checkpoints(tmp_path, name, resume=True) as checkpoints:
            options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": lambda row, epoch: None}
            choice = classifier_stage.train_and_choose(classifier, dataset, CONFIG, **options)
        return choice.predictions

    alone = ordinary("alone")
    accelerator.free_memory()
    run_folds(dataset, tiny_encoder, accelerator)
    pd.testing.assert_frame_equal(ordinary("after"), alone)


@pytest.mark.parametrize(
    ("encoder", "split", "tag", "remark"),
    [
        ("vit-mae-nano", "unknown", "random weights", ""),
        ("models:/xray-mae/1", "the same", "was fine-tuned, without labels", "was fine-tuned, without labels"),
        ("models:/xray-mae/1", "another", "may have been fine-tuned", "may have been fine-tuned"),
        ("facebook/vit-mae-base", "unknown", "unknown", ""),
    ],
)
def test_what_an_encoder_has_seen_is_said(encoder, split, tag, remark):
    found = cross_validate.remark_on_encoder(encoder, split)
    assert tag in found[0]
    assert remark in found[1]
    assert bool(remark) == bool(found[1])


BY_SOURCE = TrainClassifier(cross_validate="2,sources", epochs=1, batch_size=8).settled("random")
COUNTS = {"A": (8, 8), "B": (7, 7), "C": (0, 4)}


@pytest.fixture
def of_sources():
    whole = builders.of_sources(COUNTS)
    return builders.split_dataset(whole, validation=range(0, len(whole), 5), test=[])


class SourceMemoriser(Memoriser):
    """Certain of every X-ray of a source that it was shown, and of no other."""

    def train_and_choose(self, classifier, dataset, config, **options):
        choice = super().train_and_choose(classifier, dataset, config, **options)
        self.sources = {*dataset.train.table["source"], *dataset.validation.table["source"]}
        return choice

    def predict(self, classifier, xrays, **options):
        knows = xrays.table["source"].isin(getattr(self, "sources", set()))
        return xrays.table[PREDICTED].assign(logit=np.where(knows, 18.0 * xrays.label - 9, 0.0))


def run_both(dataset, tiny_encoder, accelerator):
    source_folds = cross_validate.SourceFolds.of(dataset, BY_SOURCE)
    with runs.run("train_classifier", BY_SOURCE) as run:
        options = {"accelerator": accelerator, "run": run}
        ordinary = cross_validate.train_folds(tiny_encoder, dataset, BY_SOURCE, **options)
        by_source = cross_validate.train_on_other_sources(tiny_encoder, source_folds, BY_SOURCE, **options)
    return source_folds, ordinary, by_source, run


@pytest.mark.usefixtures("quick")
def test_no_source_is_judged_by_a_model_that_saw_it(of_sources, tiny_encoder, accelerator, store, monkeypatch):
    memoriser = SourceMemoriser()
    monkeypatch.setattr(classifier_stage, "train_and_choose", memoriser.train_and_choose)
    monkeypatch.setattr(cross_validate, "predict", memoriser.predict)
    source_folds, ordinary, by_source, parent = run_both(of_sources, tiny_encoder, accelerator)
    found = cross_validate.judge_sources(by_source, ordinary, source_folds, BY_SOURCE, "seen before")
    assert set(found.tables["held_out_sources/predictions.csv"]["logit"]) == {0.0}
    # How common fractures are elsewhere hardly moves X-rays of one source against those of others.
    assert found.metrics["held_out_sources/xray/auroc"] == pytest.approx(0.5, abs=0.02)
    table = found.tables["held_out_sources/comparison.csv"].set_index(["model", "source"])
    assert list(table.index.levels[0]) == ["classifier", "file and border properties", "gradient histograms"]
    of_classifier = table.loc["classifier"]
    assert of_classifier.loc[["A", "B", "mean of sources"], "auroc"].tolist() == [0.5] * 3
    assert of_classifier.loc["all, pooled", "auroc"] == found.metrics["held_out_sources/xray/auroc"]
    assert of_classifier.loc[["A", "B", "all, pooled"], "auroc_folds"].tolist() == [1] * 3
    assert of_classifier.loc["all, pooled", "fall"] == pytest.approx(0.5, abs=0.02)
    assert np.isfinite(table.drop("C", level="source")[["auroc", "auroc_folds", "fall"]].to_numpy()).all()
    names = [run.info.run_name for run in children(store, parent)]
    assert names == ["fold 1 of 2", "fold 2 of 2", "sources 1 of 3: A", "sources 2 of 3: B", "sources 3 of 3: C"]
    assert found.tables["held_out_sources/xray/sources.csv"]["source"].tolist() == ["A", "B"]  # C has one label


@pytest.mark.usefixtures("quick", "store")
def test_sources_that_are_done_are_not_trained_again(of_sources, tiny_encoder, accelerator, monkeypatch):
    *_, before, _ = run_both(of_sources, tiny_encoder, accelerator)
    monkeypatch.setattr(classifier_stage, "train_and_choose", None)
    *_, after, _ = run_both(of_sources, tiny_encoder, accelerator)
    for fold, other in zip(after, before, strict=True):
        pd.testing.assert_frame_equal(fold.predictions, other.predictions)


def test_sources_are_looked_at_where_they_are_asked_for_alone(dataset):
    assert cross_validate.SourceFolds.of(dataset, CONFIG) is None
    with pytest.raises(FractureMaeError, match="are of one source, 'made'"):
        cross_validate.SourceFolds.of(dataset, BY_SOURCE)
