import copy
import dataclasses
import math
from math import log
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from fracture_mae.config import TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import place
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.matching import Matching
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics import bagged_thresholds, calibration
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import encoders
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages.classifier import (
    decide,
    loss_weights,
    positive_weight,
    smoothed_cross_entropy,
    validation_metrics,
)
from fracture_mae.training.batches import batch_of
from fracture_mae.training.checkpoints import Checkpoints, training_name
from fracture_mae.training.loss_weights import loss_weight
from fracture_mae.training.patch_labels import patch_labels
from fracture_mae.training.trainer import visiting_order
from tests import builders
from tests.unit.models.networks import save_network


@pytest.fixture
def as_they_are(monkeypatch):
    """Thresholds chosen on the X-rays themselves, so that the answer can be worked out by hand."""
    monkeypatch.setattr(bagged_thresholds, "N_DRAWS", 0)


@pytest.mark.parametrize(("class_weight", "expected"), [("none", 1.0), ("balanced", 5 / 4), (3.0, 3.0)])
def test_positive_weight(xrays, class_weight, expected):
    assert positive_weight(xrays, class_weight, np.ones(9), "file") == expected


@pytest.mark.parametrize("weight_by", ["file", "group"])
@pytest.mark.parametrize("sampler", ["file", "class", "xray", "xray_class"])
def test_balanced_classes_weigh_the_same_whatever_the_sampler_draws(sampler, weight_by):
    """200 files of broken bones, two of each X-ray, and 20 of others: what a long row of epochs adds up to is the same of both."""
    if weight_by == "group" and sampler.startswith("xray"):
        return  # refused: to draw X-rays equally and weigh them too would correct twice
    xrays = builders.xrays(
        "train", np.repeat([1, 0], [200, 20]), group=[*np.repeat(np.arange(100), 2), *range(100, 120)]
    )
    weights = loss_weights(xrays, "balanced", loss_weight(xrays, weight_by, sampler), sampler)
    order, rng = visiting_order(xrays, sampler), np.random.default_rng(0)
    visits = np.concatenate([order(rng) for _ in range(200)])
    mass = np.bincount(xrays.label[visits], weights.weight[visits])
    assert mass[1] / mass[0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sampler", ["class", "xray_class"])
def test_balanced_beside_a_balanced_sampler_weighs_one_to_one(sampler):
    xrays = builders.xrays("train", np.repeat([1, 0], [200, 20]))
    assert positive_weight(xrays, "balanced", np.ones(220), sampler) == pytest.approx(1)
    assert positive_weight(xrays, "balanced", np.ones(220), "file") == pytest.approx(0.1)
    assert positive_weight(xrays, 3.0, np.ones(220), sampler) == 3  # a number is taken as it is


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        (0.0, [log(2), log(4)]),
        # Labels become 0.9 and 0.1; at probability 1/2 that changes nothing.
        (0.2, [log(2), -0.1 * log(3 / 4) - 0.9 * log(1 / 4)]),
    ],
)
def test_cross_entropy_by_hand(smoothing, expected):
    logit, label = torch.tensor([0.0, log(3)]), torch.tensor([1.0, 0.0])  # probabilities 1/2 and 3/4
    assert smoothed_cross_entropy(logit, label, smoothing).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_steps_loss_is_weighed_by_class_and_by_file(xrays):
    # Labels are 1, 1, 1, 1, 0, 0, 0, 0, 0; the sum is divided by the class weights of the step alone.
    weights = loss_weights(xrays, 2.0, file_weight=np.array([1.5, 1, 1, 1, 0.25, 1, 1, 1, 1]), sampler="file")
    np.testing.assert_allclose(weights.within(np.array([0, 4])), [1.5 * 2 / (2 + 1), 0.25 / (2 + 1)])
    np.testing.assert_allclose(loss_weights(xrays, "none", np.ones(9), "file").within(np.arange(9)), np.full(9, 1 / 9))
    balanced = loss_weights(xrays, "balanced", np.ones(9), "file").within(np.arange(9))
    assert balanced[:4].sum() == pytest.approx(0.5)


def predictions(*xrays):
    """A row per file of X-rays given as (label, probabilities of its files)."""
    rows = [
        {"group": f"xray-{number}", "label": label, "logit": log(p / (1 - p))}
        for number, (label, probabilities) in enumerate(xrays)
        for p in probabilities
    ]
    return pd.DataFrame(rows)


def test_metrics_of_files_and_of_xrays_by_hand():
    # Mean logits of the X-rays: 0, log 3, -log 3.
    table = predictions((1, [0.75, 0.25]), (0, [0.75]), (0, [0.25]))
    metrics = validation_metrics(table)
    # Of the pairs of a fractured and another file, one is right, one is wrong, two are ties.
    assert metrics["validation/image/auroc"] == pytest.approx(0.5)
    assert metrics["validation/xray/auroc"] == pytest.approx(1 / 2)  # one right, one wrong
    assert metrics["validation/image/log_loss"] == pytest.approx((2 * log(4 / 3) + 2 * log(4)) / 4)
    assert metrics["validation/xray/log_loss"] == pytest.approx((log(2) + log(4) + log(4 / 3)) / 3)
    assert metrics["validation/xray/average_precision"] == pytest.approx(1 / 2)


# By files, 0.2 is best: sensitivity 1 and specificity 8/10, against 1/9 and 1 at 0.625. By X-rays it is 0.625: sensitivity 1/2 and
# specificity 1, against 1 and 1/3 at 0.2.
UNEVEN = [(1, [0.8]), (1, [0.3] * 8), (0, [0.4]), (0, [0.1] * 8), (0, [0.45])]


@pytest.mark.usefixtures("as_they_are")
def test_the_threshold_weighs_every_xray_the_same(dataset):
    config = TrainClassifier(calibrate="none", threshold="balanced_accuracy")
    decision = decide(predictions(*UNEVEN), config, dataset)
    assert decision.threshold == pytest.approx((0.45 + 0.8) / 2)
    assert not decision.calibrated
    assert decision.prevalence is None


def test_the_calibration_weighs_every_xray_the_same(dataset):
    config = TrainClassifier(calibrate="platt", threshold=0.5)
    once = predictions(*((label, files[:1]) for label, files in UNEVEN))
    expected = calibration.fit_sigmoid(once["logit"], once["label"])
    for rows in (once, predictions(*UNEVEN)):
        decision = decide(rows, config, dataset)
        assert (decision.slope, decision.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-4)
        assert decision.prevalence == pytest.approx(2 / 5)
    assert expected.slope != pytest.approx(1, abs=0.1)


def test_a_temperature_is_a_slope_alone_and_knows_no_prevalence(dataset):
    rows = predictions(*UNEVEN)
    decision = decide(rows, TrainClassifier(calibrate="temperature", threshold=0.5), dataset)
    assert decision.slope != pytest.approx(1, abs=0.1)
    assert (decision.intercept, decision.prevalence) == (0.0, None)


def test_platt_is_the_default_and_its_mean_is_the_share_of_fractured(dataset):
    """Logits all too high, as after a class weight of 10: a temperature would put every probability near one half."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [80, 20])
    rows = pd.DataFrame({"group": range(100), "label": label, "logit": 2 + label + 0.5 * rng.normal(size=100)})
    decision = decide(rows, TrainClassifier(threshold=0.5), dataset)
    probability = decision.probability(rows["logit"])
    assert probability.mean() == pytest.approx(0.2, abs=0.01)
    assert probability[label == 1].mean() > 0.5


def test_a_network_that_learnt_nothing_is_said_and_answers_with_the_share_of_fractured(dataset, caplog):
    rows = predictions((1, [0.2]), (1, [0.3]), (0, [0.7]), (0, [0.8]), (0, [0.6]))
    decision = decide(rows, TrainClassifier(threshold=0.5), dataset)
    assert "learnt nothing that holds on the 5 X-rays" in caplog.text
    assert "the share of fractured there, 0.400" in caplog.text
    np.testing.assert_allclose(decision.probability(rows["logit"]), 0.4, atol=0.01)
    caplog.clear()
    decide(predictions(*UNEVEN), TrainClassifier(threshold=0.5), dataset)
    assert not caplog.text


@pytest.mark.usefixtures("as_they_are")
def test_isotonic_is_fitted_on_equal_xrays_and_the_threshold_after_it(dataset):
    table = predictions(*UNEVEN)
    decision = decide(table, TrainClassifier(calibrate="isotonic", threshold="balanced_accuracy"), dataset)
    # From below 8 x 0.1 (healthy), 8 x 0.3 (broken), 0.4 and 0.45 (healthy), 0.8 (broken), each X-ray 1: 0 | 1/3 | 1 in steps,
    # and no probability beyond 1/7 and 6/7, as there are five X-rays.
    steps = decision.probability([log(p / (1 - p)) for p in (0.1, 0.3, 0.4, 0.45, 0.8)])
    np.testing.assert_allclose(steps, [1 / 7, 1 / 3, 1 / 3, 1 / 3, 6 / 7])
    assert decision.threshold == pytest.approx((1 / 3 + 6 / 7) / 2)
    assert decision.prevalence == pytest.approx(2 / 5)


@pytest.mark.usefixtures("as_they_are")
def test_the_threshold_is_chosen_after_the_calibration(dataset):
    table = predictions(*UNEVEN)
    decision = decide(table, TrainClassifier(calibrate="platt", threshold="balanced_accuracy"), dataset)
    low, high = decision.probability([log(0.45 / 0.55), log(0.8 / 0.2)])
    assert decision.threshold == pytest.approx((low + high) / 2)


def overlapping(n=40, seed=0):
    """Predictions of which the classes overlap, two files of each X-ray, two X-rays of each patient."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.tile([0, 0, 1, 1], n // 4), 2)
    group = np.repeat(np.arange(n), 2)
    logit = rng.normal(1.5 * label - 0.5, 1)
    return pd.DataFrame({"group": group, "patient": group // 2, "label": label, "logit": logit})


def test_the_default_leans_to_sensitivity_and_says_how_it_was_chosen(dataset):
    rows = overlapping(seed=6)
    default = decide(rows, TrainClassifier(), dataset)
    even = decide(rows, TrainClassifier(threshold="balanced_accuracy"), dataset)
    assert 0 < default.threshold < even.threshold
    assert str(default) == (
        f"threshold {default.threshold:.3f}: weighted_youden (sensitivity counts 1.5 times as much as specificity), "
        "mean over 500 bootstrap draws of 40 validation X-rays by their 80 files one by one, as a server answers"
    )
    assert decide(rows, TrainClassifier(), dataset) == default  # the same seed, the same threshold
    assert decide(rows, TrainClassifier(seed=1), dataset).threshold != default.threshold
    assert decide(rows.drop(columns="patient"), TrainClassifier(), dataset).threshold != default.threshold


def test_where_there_are_out_of_fold_predictions_the_threshold_is_chosen_on_them(dataset):
    """As they are calibrated by their own folds: their logits are not looked at."""
    rows, other = overlapping(), overlapping(120, seed=1)
    other = other.assign(probability=calibration.apply(other["logit"] - 1, 1.0), logit=0.0)
    decision = decide(rows, TrainClassifier(), dataset, other)
    plain = decide(rows, TrainClassifier(), dataset)
    assert (decision.slope, decision.intercept) == (plain.slope, plain.intercept)
    expected = bagged_thresholds.choose(other["label"], other["probability"], "weighted_youden", other["patient"])
    assert decision.threshold == pytest.approx(expected)
    assert decision.chosen_on.startswith("mean over 500 bootstrap draws of 120 out-of-fold X-rays by their 240 files")


def test_a_sensitivity_is_assured_where_that_is_asked_for(dataset):
    rows = overlapping(160)  # 40 patients with a fracture
    config = TrainClassifier(threshold="specificity_at_sensitivity", min_sensitivity=0.9, assurance=0.95)
    sure = decide(rows, config, dataset)
    ordinary = decide(rows, config.model_copy(update={"assurance": "none"}), dataset)
    assert sure.threshold < ordinary.threshold
    lowest = rows[rows["label"] == 1].groupby("patient")["logit"].min()
    assert (sure.probability(lowest) >= sure.threshold).all()  # of 40 none may be missed
    assert sure.objective == "specificity_at_sensitivity (min_sensitivity 0.9, assurance 0.95)"
    assert sure.chosen_on.startswith(
        "assured on 160 validation X-rays by their 320 files one by one, as a server answers: 0 of 40 pat"
    )
    with pytest.raises(FractureMaeError, match="needs 59 patients with a fracture, none of them missed; found 40"):
        decide(rows, config.model_copy(update={"min_sensitivity": 0.95}), dataset)


def test_what_cannot_be_assured_ends_before_the_training_but_not_a_fold(dataset):
    config = TrainClassifier(threshold="specificity_at_sensitivity", min_sensitivity=0.5, assurance=0.95)
    refused = r"needs 5 patients with a fracture, none of them missed; found 3 on validation\. Choose on more of them with --cross-val"
    with pytest.raises(FractureMaeError, match=refused):
        classifier_stage.check_assurance(config, dataset)
    classifier_stage.check_assurance(config.model_copy(update={"cross_validate": 5}), dataset)  # 3 and 4 of training
    with pytest.raises(FractureMaeError, match=r"found 5 in training and validation\. Take more X-rays"):
        classifier_stage.check_assurance(
            config.model_copy(update={"min_sensitivity": 0.9, "cross_validate": 5}), dataset
        )
    assert classifier_stage.as_can_be_assured(config, dataset.validation).assurance == "none"
    enough = config.model_copy(update={"min_sensitivity": 0.3})
    assert classifier_stage.as_can_be_assured(enough, dataset.validation) == enough
    classifier_stage.check_assurance(TrainClassifier(assurance=0.95), dataset)  # for operating points alone


def test_a_given_threshold_is_taken_and_the_data_is_named(dataset):
    decision = decide(predictions(*UNEVEN), TrainClassifier(recipe="original"), dataset)
    named = {"split_fingerprint": dataset.split_fingerprint, "data_fingerprint": dataset.fingerprint}
    assert decision == Decision(("not fractured", "fractured"), threshold=0.5, slope=1.0, intercept=0.0, **named)
    assert dataset.split_fingerprint != dataset.fingerprint


def train(mae, dataset, accelerator, root, **settings):
    config = TrainClassifier(**{"batch_size": 3, "epochs": 4} | settings).settled("random")
    classifier = classifier_stage.build(MaeEncoder.of(mae), config)
    with Checkpoints(root, "training", resume=True) as checkpoints:
        progress = classifier_stage.train(
            classifier, dataset, config, accelerator=accelerator, checkpoints=checkpoints, log=lambda row, epoch: None
        )
    return classifier, progress


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        ({"monitor": "log_loss"}, min),
        ({"monitor": "auroc"}, max),
        ({"selection": "last"}, lambda history: history[-1]),
    ],
)
def test_the_weights_that_are_kept_are_those_that_are_reported(
    tiny_mae, dataset, accelerator, tmp_path, settings, best
):
    unseen = dataclasses.replace(dataset, test=None)  # nothing is chosen on test
    classifier, progress = train(tiny_mae, unseen, accelerator, tmp_path, learning_rate=0.1, **settings)
    monitor = f"validation/xray/{settings.get('monitor', 'auroc')}"
    assert progress.kept[monitor] == best([row[monitor] for row in progress.history])
    again = validation_metrics(predict(classifier, dataset.validation, batch_size=6, accelerator=accelerator))
    assert {name: progress.kept[name] for name in again} == pytest.approx(again, abs=1e-6)


def test_it_learns_to_tell_broken_bones(tiny_mae, dataset, accelerator, tmp_path):
    _, progress = train(
        tiny_mae, dataset, accelerator, tmp_path, epochs=12, learning_rate=0.02, crop_scale=1, rotation=0
    )
    assert progress.kept["validation/xray/auroc"] == 1.0


def test_patience_ends_training(tiny_mae, dataset, accelerator, tmp_path):
    _, progress = train(tiny_mae, dataset, accelerator, tmp_path, epochs=9, patience=1, learning_rate=1e-12)
    assert progress.epochs_done == 2  # nothing changes, so nothing improves


def test_a_frozen_encoder_stays(tiny_mae, dataset, accelerator, tmp_path):
    start = {name: value.clone() for name, value in tiny_mae.network.vit.state_dict().items()}
    classifier, _ = train(tiny_mae, dataset, accelerator, tmp_path, freeze=True, epochs=2, drop_path=0.5)
    assert all(value.equal(start[name]) for name, value in classifier.encoder.network.state_dict().items())
    assert classifier.head.bias.item() != 0
    assert not any(classifier.encoder.drop_rates)  # what is not trained is not regularised


def test_predictions_name_their_files(tiny_mae, dataset, accelerator):
    classifier = classifier_stage.build(MaeEncoder.of(tiny_mae), TrainClassifier())
    tables = [predict(classifier, dataset.train, batch_size=size, accelerator=accelerator) for size in (2, 9)]
    assert tables[0].columns.tolist() == ["path", "sha256", "label", "group", "patient", "source", "logit"]
    assert tables[0]["path"].tolist() == dataset.train.table["path"].tolist()
    assert tables[0]["logit"].dtype == np.float64
    np.testing.assert_allclose(tables[0]["logit"], tables[1]["logit"], atol=1e-6)
    pixels = torch.from_numpy(dataset.train.pixels[3:4])[:, None] / 255
    assert tables[0]["logit"][3] == pytest.approx(classifier(pixels).item(), abs=1e-6)
    assert math.isfinite(tables[0]["logit"].sum())


def matching_of(weight):
    """A matching that weighs files so."""
    return Matching(pd.DataFrame({"weight": np.float64(weight)}), pd.DataFrame(), {})


def test_matching_is_made_from_the_training_xrays_alone_and_weighs_the_loss(
    tiny_mae, dataset, accelerator, tmp_path, monkeypatch
):
    given = []

    def match(xrays, seed, *, by_file):
        given.append((xrays, seed, by_file))
        return matching_of([1, 1, 1, 0, 1, 1, 1, 1, 0])

    monkeypatch.setattr(classifier_stage, "match_properties", match)

    def trained(data, folder, **settings):
        config = TrainClassifier(batch_size=3, epochs=2, seed=3, class_weight=2.0, **settings).settled("random")
        classifier = classifier_stage.build(MaeEncoder.of(copy.deepcopy(tiny_mae)), config)
        with Checkpoints(tmp_path / folder, "training", resume=False) as checkpoints:
            options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": lambda row, epoch: None}
            choice = classifier_stage.train_and_choose(classifier, data, config, **options)
        return choice, predict(classifier, dataset.test, batch_size=6, accelerator=accelerator)["logit"].to_numpy()

    choice, matched = trained(dataset, "a", match="properties", sampler="file")
    assert [(xrays is dataset.train, seed, by_file) for xrays, seed, by_file in given] == [(True, 3, True)]
    assert choice.matching.weight[3] == 0
    # What weighs nothing may show anything.
    other = dataclasses.replace(dataset.train, pixels=dataset.train.pixels.copy())
    other.pixels[[3, 8]] = 255 - other.pixels[[3, 8]]
    np.testing.assert_allclose(
        trained(dataclasses.replace(dataset, train=other), "b", match="properties", sampler="file")[1],
        matched,
        atol=1e-6,
    )
    unmatched, plain = trained(dataset, "c", sampler="file")
    assert unmatched.matching is None
    assert np.abs(plain - matched).max() > 1e-4
    trained(dataset, "d", match="properties")
    assert not given[-1][2]  # the recipe's sampler draws X-rays, so X-rays count the same
    trained(dataset, "e", match="properties", weight_by="group")
    assert not given[-1][2]


def test_what_only_the_recipe_asks_for_gives_way_to_the_architecture(tmp_path, tiny_mae):
    save_network(tmp_path, "swin")
    swin = encoders.load(str(tmp_path), 64)
    config, said = classifier_stage.obeyable(TrainClassifier(), swin)
    assert (config.patch_dropout, config.drop_path) == (0, TrainClassifier().drop_path)
    assert said == {"patch_dropout.obeyed": f"0: SwinModel ({tmp_path}) cannot do as the recipe says"}
    assert classifier_stage.build(swin, config).encoder.patch_dropout == 0
    asked = TrainClassifier(patch_dropout=0.25)
    assert classifier_stage.obeyable(asked, swin) == (asked, {})
    with pytest.raises(FractureMaeError, match=r"--patch-dropout 0\.25: SwinModel"):
        classifier_stage.build(swin, asked)
    assert classifier_stage.obeyable(TrainClassifier(), MaeEncoder.of(tiny_mae)) == (TrainClassifier(), {})


def test_a_convolutional_encoder_is_trained_saved_and_resumed(tmp_path, dataset, accelerator):
    """Batch normalisation counts its batches in tensors without a dimension."""
    save_network(tmp_path / "network", "resnet")
    config = TrainClassifier(batch_size=3, epochs=2, patch_dropout=0).settled("weights")
    states = []
    for _ in range(2):  # the second one finds the checkpoint of the last epoch
        classifier = classifier_stage.build(encoders.load(str(tmp_path / "network"), builders.SIDE), config)
        name = training_name("TrainClassifier", classifier, {})
        with Checkpoints(tmp_path, name, resume=True) as checkpoints:
            options = {"checkpoints": checkpoints, "log": lambda row, epoch: None}
            progress = classifier_stage.train(classifier, dataset, config, accelerator=accelerator, **options)
        states.append(classifier.state_dict())
    assert progress.epochs_done == 2
    assert len(progress.run_ids) == 2
    assert all(value.equal(states[0][key]) for key, value in states[1].items())


def squares(n_boxed):
    """160 X-rays to train on, half of them fractured, of which the first `n_boxed` have boxes, and 100 to judge."""
    train, test = builders.squares("train", 160, n_boxed), builders.squares("test", 100)
    return dataclasses.replace(
        builders.dataset(), train=train, validation=builders.squares("validation", 20), test=test
    )


def pointing(mae, data, accelerator, root, **settings):
    plain = {"crop_scale": 1, "rotation": 0, "patch_dropout": 0, "drop_path": 0, "layer_decay": 1, "selection": "last"}
    sizes = {"batch_size": 16, "epochs": 10, "learning_rate": 5e-3}
    classifier, _ = train(mae, data, accelerator, root, **plain | sizes | settings)
    maps = place.maps_of(classifier, data.test, batch_size=50, accelerator=accelerator)
    metrics = place.judge(maps, "test", "", Certainty(100, 0)).metrics
    return [metrics[f"test/xray/pointing_game{end}"] for end in ("", "_chance")]


def test_boxes_teach_it_where_to_look(tiny_mae, accelerator, tmp_path):
    # By labels alone it answers as well, but its patches hand on what they see, and the hottest one is never in a box.
    found, chance = pointing(tiny_mae, squares(80), accelerator, tmp_path, pool="attention", place_weight=1)
    assert chance < 0.06
    assert found > 8 * chance


@pytest.mark.slow
def test_a_smooth_maximum_of_patches_finds_by_labels_alone_where_to_look(tiny_mae, accelerator, tmp_path):
    found, chance = pointing(tiny_mae, squares(0), accelerator, tmp_path, pool="lse", pool_temperature=0.02, epochs=14)
    assert found > 3 * chance


def trained_weights(mae, data, accelerator, root, **settings):
    classifier, _ = train(copy.deepcopy(mae), data, accelerator, root, epochs=1, **settings)
    return torch.cat([value.flatten() for value in classifier.state_dict().values()])


def test_where_no_boxes_are_the_loss_of_patches_changes_nothing(tiny_mae, dataset, accelerator, tmp_path):
    plain, weighed = (
        trained_weights(tiny_mae, dataset, accelerator, tmp_path / str(weight), place_weight=weight)
        for weight in (0, 2)
    )
    assert plain.equal(weighed)


@pytest.mark.parametrize("pool", ["mean", "lse"])
def test_where_boxes_are_it_changes_what_is_learnt(tiny_mae, accelerator, tmp_path, pool):
    data = builders.split_dataset(builders.squares("all", 24), validation=range(6), test=range(18, 24))
    settings = {"pool": pool, "patch_dropout": 0.5}
    plain, weighed = (
        trained_weights(tiny_mae, data, accelerator, tmp_path / str(weight), place_weight=weight, **settings)
        for weight in (0, 2)
    )
    assert not plain.equal(weighed)


def test_boxes_are_looked_at_only_on_fractured_xrays():
    some, none = (builders.squares("train", 4, n_boxed) for n_boxed in (2, 0))
    assert [classifier_stage.place_weight(each, 3.0) for each in (some, none)] == [3, 0]


def test_patches_are_labelled_where_augmentation_has_moved_them(tiny_mae):
    """With the label's loss put aside, the gradient of each patch's logit says what it was taught."""
    made = builders.squares("train", 2)
    batch = batch_of(made, np.array([1]), torch.device("cpu"))
    taught = []
    for flip_coin in (0.9, 0.1):  # below a half it is mirrored
        patches = torch.zeros(1, 16, requires_grad=True)
        model = Mock(return_value=(torch.zeros(1), patches, None))
        config = TrainClassifier(crop_scale=1, rotation=0, flip=True, intensity=0, label_smoothing=0)
        loss = classifier_stage._step_loss(
            config, classifier_stage.build(MaeEncoder.of(copy.deepcopy(tiny_mae)), config), 1.0
        )
        loss(model, batch, Coin(flip_coin)).sum().backward()
        taught.append((patches.grad < 0).view(4, 4))
    inside = patch_labels(batch.boxes, None, (4, 4)).view(4, 4) > 0
    assert taught[0].any()
    assert not (taught[0] & ~inside).any()
    assert taught[1].equal(taught[0].flip(1))


class Coin:
    """Stands for chance: always the same number."""

    def __init__(self, number):
        self.number = number

    def uniform(self, *shape):
        return torch.full((1, *shape), self.number)
