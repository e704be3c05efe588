from dataclasses import replace

import pytest
import torch
from torch import nn

from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.data.reading import preprocessing
from fracture_mae.training.checkpoints import open_checkpoints, training_name


def named(kind="Stage", weight=1.0, **settings):
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(weight)
    return training_name(kind, model, {"epochs": 3, "seed": 0} | settings)


def test_a_name_stands_for_kind_settings_and_initial_weights():
    assert named() == named()
    assert len({named(), named("Other"), named(weight=1.0 + 1e-6), named(seed=1), named(flip=True)}) == 5


def test_a_classifier_learns_from_boxes_and_an_autoencoder_does_not(dataset):
    """Other boxes are another training of the one; where they were read from and how they are called is the same for both."""

    def folder(config, texts, **options):
        table = dataset.train.table.assign(boxes=texts)
        boxed = replace(dataset, train=replace(dataset.train, table=table))
        torch.manual_seed(0)
        return open_checkpoints(nn.Linear(1, 1), boxed, config(**options), "run").folder

    none, some, others = [""] * 9, ["0 0 1 1", *[""] * 8], ["0 0 1 0.5", *[""] * 8]
    assert len({folder(TrainClassifier, texts) for texts in (none, some, others)}) == 3
    assert folder(TrainClassifier, some) == folder(TrainClassifier, some, boxes="/data/boxes.csv")
    assert len({folder(FinetuneMae, texts) for texts in (none, some, others)}) == 1


def test_another_wish_for_the_threshold_is_the_same_training(dataset):
    def folder(**options):
        torch.manual_seed(0)
        return open_checkpoints(nn.Linear(1, 1), dataset, TrainClassifier(**options), "run").folder

    wish = {"threshold": "specificity_at_sensitivity", "min_sensitivity": 0.9, "assurance": 0.95, "prevalence": 0.05}
    assert folder() == folder(**wish) != folder(epochs=3)


@pytest.mark.parametrize(("how", "n_folders"), [("letterbox", 1), ("film_squares", 2)])
def test_pixels_made_by_another_version_are_another_training(dataset, monkeypatch, how, n_folders):
    """A training that was killed before an update must not go on with other pixels after it."""

    def folder(version):
        monkeypatch.setattr(preprocessing, "VERSION", version)
        torch.manual_seed(0)
        data = replace(dataset, index=dataset.index.assign(preprocess=how))
        return open_checkpoints(nn.Linear(1, 1), data, TrainClassifier(), "run").folder

    assert len({folder(1), folder(2)}) == n_folders
