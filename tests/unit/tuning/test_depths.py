import dataclasses

import numpy as np
import optuna
import pandas as pd
import pytest

from fracture_mae.config import TrainClassifier, Tune
from fracture_mae.data import folds
from fracture_mae.errors import NonFiniteError
from fracture_mae.evaluation.matching import Matching
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.tuning import depths, heads
from fracture_mae.tuning.depths import FinetuneDepth, HeadDepth
from fracture_mae.tuning.results import command
from tests import builders

HEAD = {"head": "logistic", "pool": "mean", "regularisation": 0.1, "class_weight": 2.0}
FINETUNE = {
    "class_weight": 2.0,
    "sampler": "class",
    "learning_rate": 1e-3,
    "layer_decay": 0.9,
    "drop_path": 0.1,
    "augmentation": 0.5,
    "source_augmentation": 0.4,
    "label_smoothing": 0.1,
    "epochs": 3,
}


@pytest.fixture
def head(tiny_encoder, dataset, accelerator):
    return HeadDepth(tiny_encoder, dataset, Tune(n_folds=2), accelerator)


@pytest.fixture
def finetune(tiny_encoder, dataset, accelerator):
    config = Tune(n_folds=2, depth="finetune", batch_size=4)
    return FinetuneDepth(tiny_encoder, dataset, config, accelerator)


def test_an_xray_is_predicted_by_a_head_that_never_saw_it(head):
    before = head.predict(HEAD)
    fold = before["fold"].to_numpy()
    head.xrays.table.loc[fold == 0, "label"] = 1 - head.xrays.table.loc[fold == 0, "label"]
    after = head.predict(HEAD)
    np.testing.assert_array_equal(after["logit"][fold == 0], before["logit"][fold == 0])  # fitted on fold 1 alone
    assert (after["logit"][fold == 1] != before["logit"][fold == 1]).all()


def test_the_refitted_head_is_fitted_on_all_and_classifies_pixels(head, accelerator):
    from fracture_mae.evaluation.prediction import predict

    logits = predict(head.refit(HEAD), head.xrays, batch_size=4, accelerator=accelerator)["logit"]
    expected = head._fit(HEAD, np.full(len(head.xrays), True)).logit(head.normed["mean"])
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_numbers_that_are_not_finite_are_told_apart(head, monkeypatch):
    broken = heads.Head(np.zeros(16), np.ones(16), ((np.full((1, 16), np.nan), np.zeros(1)),))
    monkeypatch.setattr(heads, "fit", lambda *args, **options: broken)
    with pytest.raises(NonFiniteError, match="15 of 15 logits are not finite"):
        head.predict(HEAD)


def test_a_head_names_the_training_that_comes_nearest(head):
    training = head.training(HEAD)
    expected = {"freeze": True, "pool": "mean", "class_weight": 2, "sampler": "xray", "rotation": 0, "crop_scale": 1}
    expected |= {"source_augmentation": 0, "intensity": 0, "flip": False}  # the features are of unchanged pictures
    assert {name: getattr(training, name) for name in expected} == expected
    words = command(training, 0.25).split(" -P ")[1:]
    again = TrainClassifier(**dict(word.split("=", 1) for word in words))
    assert again.model_copy(update={"threshold": training.threshold}) == training


def test_a_training_is_what_train_classifier_would_do(finetune):
    training = finetune.training(FINETUNE)
    expected = {
        "class_weight": 2,
        "sampler": "class",
        "layer_decay": 0.9,
        "epochs": 3,
        "selection": "last",
        "rotation": 15,
        "source_augmentation": 0.4,
    }
    assert {name: getattr(training, name) for name in expected} == expected
    line = command(training, 0.25)
    assert line.startswith("mlflow run . -e train_classifier -P ")
    words = line.split(" -P ")[1:]
    assert "threshold=0.25" in words
    again = TrainClassifier(**dict(word.split("=", 1) for word in words))
    assert again.model_copy(update={"threshold": training.threshold}) == training


def test_a_trial_is_judged_on_validation_reports_each_epoch_and_can_be_stopped(finetune):
    reported = []
    table = finetune.predict(FINETUNE, lambda epoch, value: reported.append((epoch, value)))
    assert list(table["sha256"]) == list(finetune.dataset.validation.table["sha256"])
    assert [epoch for epoch, _ in reported] == [1, 2, 3]

    def stop(epoch, value):
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        finetune.predict(FINETUNE, stop)
    assert finetune.accelerator._models == []  # nothing is left of it


def test_trials_do_not_train_each_others_weights(finetune):
    first, second = finetune.predict(FINETUNE), finetune.predict(FINETUNE)
    np.testing.assert_allclose(first["logit"], second["logit"], atol=1e-5)


def test_the_refit_trains_on_training_and_validation(finetune, monkeypatch):
    seen = {}

    def train(classifier, dataset, config, **options):
        seen["sha256"] = set(dataset.train.table["sha256"])

    monkeypatch.setattr("fracture_mae.stages.classifier.train", train)
    finetune.refit(FINETUNE)
    assert seen["sha256"] == set(folds.joined(finetune.dataset).table["sha256"])


class Poisoned:
    """Test X-rays that must not be touched."""

    def __getattribute__(self, name):
        raise AssertionError(f"test X-rays were asked for their {name}")


@pytest.mark.parametrize(("kind", "params"), [(HeadDepth, HEAD), (FinetuneDepth, FINETUNE)])
def test_test_xrays_are_not_touched(kind, params, tiny_encoder, accelerator):
    dataset = dataclasses.replace(builders.dataset(), test=Poisoned())
    depth = kind(tiny_encoder, dataset, Tune(n_folds=2, batch_size=4), accelerator)
    depth.predict(params)
    depth.refit(params)


@pytest.fixture
def by_source(tiny_encoder, accelerator):
    """Heads judged on three sources, each by a head that saw the two others."""
    whole = builders.of_sources({"A": (6, 6), "B": (6, 6), "C": (5, 5)})
    dataset = builders.split_dataset(whole, validation=range(0, len(whole), 5), test=[])
    return HeadDepth(tiny_encoder, dataset, Tune(n_folds=2, cross_validate="sources"), accelerator)


def test_a_source_is_predicted_by_a_head_that_never_saw_it(by_source):
    assert by_source.judged_on == "held_out_sources"
    before = by_source.predict(HEAD)
    here = (before["source"] == "B").to_numpy()
    assert before.groupby("source")["fold"].nunique().eq(1).all()
    by_source.xrays.table.loc[here, "label"] = 1 - by_source.xrays.table.loc[here, "label"]
    after = by_source.predict(HEAD)
    np.testing.assert_array_equal(after["logit"][here], before["logit"][here])
    assert (after["logit"][~here] != before["logit"][~here]).all()


def test_the_ordinary_folds_are_there_to_be_told_beside(by_source):
    table = by_source.predict_in_folds(HEAD)
    assert set(table["fold"]) == {0, 1}
    assert table.groupby("source")["fold"].nunique().eq(2).all()


@pytest.mark.parametrize("kind", ["head", "finetune"])
def test_matching_is_made_from_what_is_fitted_on_and_weighs_it(kind, tiny_encoder, dataset, accelerator, monkeypatch):
    given = []

    def match(xrays, seed, **options):
        given.append(sorted(xrays.table["sha256"]))
        return Matching(pd.DataFrame({"weight": 1.0 + 3 * (np.arange(len(xrays)) == 0)}), pd.DataFrame(), {})

    monkeypatch.setattr(depths if kind == "head" else classifier_stage, "match_properties", match)
    config = Tune(n_folds=2, depth=kind, batch_size=4, match="properties")
    depth = depths.depth_of(tiny_encoder, dataset, config, accelerator)
    params = HEAD if kind == "head" else FINETUNE
    matched, _ = depth.predict(params), depth.predict(params)
    everything = sorted(folds.joined(dataset).table["sha256"])
    if kind == "head":
        fitted_on = [sorted(matched["sha256"][matched["fold"] != number]) for number in range(2)]
    else:
        fitted_on = [sorted(dataset.train.table["sha256"])]
    assert given == fitted_on  # once, not for each trial
    depth.refit(params)
    assert given[-1] == everything
    assert depth.matching(params).weight[0] == 4
    assert len(given) == len(fitted_on) + 1
    plain = depths.depth_of(tiny_encoder, dataset, config.model_copy(update={"match": "none"}), accelerator)
    assert plain.matching(params) is None
    assert not np.allclose(plain.predict(params)["logit"], matched["logit"], atol=1e-6)
    assert plain.training(params).match == "none"
    assert depth.training(params).match == "properties"
