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
from fracture_mae.models import encoders
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages.classifier import (
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
