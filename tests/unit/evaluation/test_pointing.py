"""Whether the map points at fractures: on built-in X-rays, whose fractures' places are known, after seconds of training."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import ViTMAEConfig

from fracture_mae.config import TrainClassifier
from fracture_mae.data import loading
from fracture_mae.data.types import XRays
from fracture_mae.evaluation import hiding, place
from fracture_mae.metrics import place as metrics
from fracture_mae.metrics.rates import share
from fracture_mae.models.autoencoder import Mae, random_start
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.models.pixels import Normalisation
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.training.checkpoints import Checkpoints

SIDE = 64  # pixels
REACH = 0.35  # of a side


def shifted(xrays, times, seed):
    """The X-rays moved within their squares, so that no place there is a much better guess than others; each several times.

    Built-in fractures lie in the middle: unmoved, one and the same patch is in two thirds of the boxes of training, and of test.
    """
    rng, n = np.random.default_rng(seed), times * len(xrays)
    positions, reach = np.repeat(np.arange(len(xrays)), times), int(SIDE * REACH)
    shifts = rng.integers(-reach, reach + 1, (n, 2))
    pixels = np.zeros((n, SIDE, SIDE), np.uint8)
    for moved, picture, (right, down) in zip(pixels, xrays.images(positions), shifts, strict=True):
        moved[:] = np.pad(picture, SIDE)[SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
    table = xrays.table.iloc[positions].reset_index(drop=True)
    table = table.assign(left=table["left"] + shifts[:, 0], top=table["top"] + shifts[:, 1])
    return XRays(xrays.name, table, pixels, np.arange(n))


@pytest.fixture
def data():
    made = loading.load(
        "synthetic:n_xrays=400,copies=0,size=64,boxes=true", image_size=SIDE, group_by="names", num_workers=1
    )
    held_out = made.index[made.index["split"] != "train"].reset_index(drop=True)
    both = XRays("test", held_out, made.test.pixels, held_out["row"].to_numpy())
    sides = {"train": shifted(made.train, 2, 0), "validation": shifted(made.validation, 1, 1)}
    return replace(made, **sides, test=shifted(both, 1, 2))


def network():
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 32}
    picture = {"image_size": SIDE, "patch_size": 8, "num_channels": 1}
    config = ViTMAEConfig(**picture, **sizes, **decoder, decoder_num_attention_heads=2)
    return MaeEncoder.of(Mae(random_start(config, seed=0), Normalisation(), "small"))


def trained(data, accelerator, folder):
    plain = {"crop_scale": 1, "rotation": 0, "patch_dropout": 0, "drop_path": 0, "layer_decay": 1, "selection": "last"}
    taught = {"pool": "lse", "place_weight": 5, "learning_rate": 3e-3, "batch_size": 32, "epochs": 7}
    config = TrainClassifier(**plain, **taught).settled("random")
    classifier = classifier_stage.build(network(), config)
    with Checkpoints(folder, "training", resume=True) as checkpoints:
        options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": lambda row, epoch: None}
        classifier_stage.train(classifier, data, config, **options)
    return classifier


def hits(classifier, xrays, accelerator):
    """Of each X-ray with a box whether the hottest patch lies in it, and how often a guess on the film would."""
    found = place.maps_of(classifier, xrays, batch_size=64, accelerator=accelerator)
    inside = metrics.hottest_inside(found.heat, found.xrays.boxes)
    return inside, metrics.covered(found.xrays.boxes, place.film_of(found.xrays))


def best_place(train, test, rows, columns):
    """How often the patch that is in most boxes of `train` is in those of `test`."""
    anywhere = np.eye(rows * columns).reshape(-1, 1, rows, columns)

    def shares(boxes):
        return [metrics.hottest_inside(np.repeat(each, len(boxes), axis=0), boxes).mean() for each in anywhere]

    return shares(test)[np.argmax(shares(train))]


@pytest.mark.slow
def test_it_points_at_fractures_and_with_random_weights_does_not(data, accelerator, tmp_path):
    """Above what a guess on the film hits, and above the best place of training; the same network with its weights in any order is not.

    One such network may by chance look at bones rather than at the ground, so five count together.
    """
    classifier = trained(data, accelerator, tmp_path)
    boxed = data.test.subset(np.flatnonzero(data.test.has_boxes))
    patient, weight = boxed.table["patient"], np.ones(len(boxed))
    inside, by_chance = hits(classifier, boxed, accelerator)
    chance = by_chance.mean()
    assert 0.1 < chance < 0.2
    learnt = best_place(data.train.boxes[data.train.has_boxes], boxed.boxes, *classifier.grid)
    assert share(inside, patient, weight).low > max(chance, learnt)
    shuffled = [hiding._with_random_weights(classifier, seed) for seed in range(5)]
    of_random = np.mean([hits(each, boxed, accelerator)[0] for each in shuffled], axis=0)
    low, high = share(of_random, patient, weight)[1:]
    assert low < chance < high
