import copy
import dataclasses
from math import log

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fracture_mae.config import TrainClassifier
from fracture_mae.evaluation import linear_probe
from fracture_mae.evaluation.prediction import predict
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import head_init
from fracture_mae.stages.head_init import start_from_probe
from fracture_mae.training.checkpoints import Checkpoints
from tests import builders


@pytest.fixture
def train():
    """Forty X-rays of noise with a bright square in every second one, which a line does not tell wholly."""
    return builders.squares("train", 40)


def started(mae, train, accelerator, loss_weight=None, **options):
    config = TrainClassifier(head_init="probe", **options).settled("random")
    classifier = classifier_stage.build(MaeEncoder.of(copy.deepcopy(mae)), config)
    weight = np.ones(len(train)) if loss_weight is None else loss_weight
    return classifier, start_from_probe(classifier, train, weight, config, accelerator=accelerator)


@torch.no_grad()
def normed(classifier, xrays):
    """What the head reads of each X-ray, float32 [n, d], in fp32."""
    pixels = torch.from_numpy(xrays.pixels)[:, None] / 255
    return classifier.norm(classifier.eval().features(pixels)).numpy()


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_head_answers_as_the_logistic_regression_does(tiny_mae, train, accelerator, pool):
    classifier, line = started(tiny_mae, train, accelerator, pool=pool)
    found = linear_probe.fit(normed(classifier, train), train.table, seed=0, by_source=True)
    assert line.inverse_penalty == found.inverse_penalty
    answers = predict(classifier, train, batch_size=8, accelerator=accelerator)["logit"]
    np.testing.assert_allclose(answers, found.logit(normed(classifier, train)), atol=1e-4)
    assert answers.std() > 0.01  # a head that says the same of all would pass anything


def test_the_intercept_is_that_of_the_odds_under_which_the_head_is_trained(tiny_mae, train, accelerator):
    """Three times the weight on fractured X-rays is log 3 on every logit."""
    even, _ = started(tiny_mae, train, accelerator)
    tilted, _ = started(tiny_mae, train, accelerator, loss_weight=np.where(train.label == 1, 3.0, 1.0))
    assert tilted.head.bias.item() == pytest.approx(even.head.bias.item() + log(3), abs=1e-5)
    assert tilted.head.weight.equal(even.head.weight)


def test_training_begins_there(tiny_mae, dataset, train, accelerator, tmp_path):
    """At a rate of next to nothing an epoch leaves what the head began as."""
    dataset = dataclasses.replace(dataset, train=train)
    config = TrainClassifier(head_init="probe", epochs=1, learning_rate=1e-12, batch_size=8, seed=0).settled("random")
    classifier = classifier_stage.build(MaeEncoder.of(copy.deepcopy(tiny_mae)), config)
    with Checkpoints(tmp_path, "training", resume=True) as checkpoints:
        options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": lambda row, epoch: None}
        classifier_stage.train(classifier, dataset, config, **options)
    expected, _ = started(tiny_mae, train, accelerator)
    np.testing.assert_allclose(classifier.head.weight.detach(), expected.head.weight.detach(), atol=1e-6)
    random = classifier_stage.build(MaeEncoder.of(copy.deepcopy(tiny_mae)), config)
    assert not np.allclose(random.head.weight.detach(), expected.head.weight.detach(), atol=1e-3)


def test_it_hangs_on_the_seed_alone(tiny_mae, train, accelerator):
    one, two = (started(tiny_mae, train, accelerator)[0] for _ in range(2))
    assert one.head.weight.equal(two.head.weight)


@pytest.mark.parametrize("pool", ["lse", "topk", "attention"])
def test_a_head_on_patches_begins_at_random(pool):
    assert TrainClassifier(pool=pool).settled("weights").head_init == "random"
    with pytest.raises(ValidationError, match="expected random, or --pool mean or cls"):
        TrainClassifier(pool=pool, head_init="probe")


def test_with_too_few_xrays_for_inner_folds_the_head_stays_random_and_it_is_told(tiny_mae, accelerator, caplog):
    config = TrainClassifier().settled("random")
    random = classifier_stage.build(MaeEncoder.of(copy.deepcopy(tiny_mae)), config)
    classifier, line = started(tiny_mae, builders.xrays("train", [1, 0, 0, 0]), accelerator)
    assert line is None
    assert classifier.head.weight.equal(random.head.weight)
    assert "The head begins at random" in caplog.text
    assert "one has 1" in caplog.text


def test_of_many_files_some_are_read(tiny_mae, train, accelerator, monkeypatch):
    read = []
    fit = linear_probe.fit

    def watched(features, table, **options):
        read.append(list(table["path"]))
        return fit(features, table, **options)

    monkeypatch.setattr(linear_probe, "fit", watched)
    monkeypatch.setattr(head_init, "_MOST", 30)
    started(tiny_mae, train, accelerator)
    assert len(set(read[0])) == 30
    assert set(read[0]) < set(train.table["path"])


@pytest.mark.parametrize(
    ("start", "options", "expected"),
    [
        ("weights", {}, "probe"),
        ("random", {}, "random"),
        ("weights", {"recipe": "original"}, "random"),
        ("weights", {"head_init": "random"}, "random"),
        ("weights", {"pool": "lse"}, "random"),
        ("random", {"head_init": "probe"}, "probe"),
    ],
)
def test_what_a_head_begins_as_hangs_on_what_the_encoder_began_as(start, options, expected):
    assert TrainClassifier(**options).settled(start).head_init == expected
