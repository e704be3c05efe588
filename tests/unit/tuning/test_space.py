import optuna
import pytest

from fracture_mae.config import TrainClassifier, Tune
from fracture_mae.tuning.space import augmentation, described, space_of, suggest


@pytest.mark.parametrize("depth", ["head", "finetune"])
@pytest.mark.parametrize("objective", ["f1", "pareto"])
def test_every_parameter_is_suggested_within_its_range(depth, objective):
    space = space_of(Tune(depth=depth, objective=objective, max_epochs=7), "random")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        params = suggest(study.ask(), space)
        assert list(params) == list(space)
        assert all(space[name]._contains(space[name].to_internal_repr(value)) for name, value in params.items())
    assert ("aimed_sensitivity" in space) == (objective == "pareto")


def test_equal_spaces_and_no_others_are_described_alike():
    one, same, other = (space_of(Tune(depth="finetune", max_epochs=epochs), "random") for epochs in (12, 12, 24))
    assert described(one) == described(same) != described(other)


@pytest.mark.parametrize(
    ("start", "batch_size", "lowest", "highest"),
    [
        ("random", 32, 1e-4, 5e-3),  # about 8e-3 · 32/256
        ("random", 16, 5e-5, 2.5e-3),
        ("weights", 32, 6.25e-6, 3.13e-4),  # about 5e-4 · 32/256
    ],
)
def test_learning_rates_are_searched_about_that_of_the_recipe(start, batch_size, lowest, highest):
    space = space_of(Tune(depth="finetune", batch_size=batch_size), start)
    assert (space["learning_rate"].low, space["learning_rate"].high) == (lowest, highest)
    assert "learning_rate" not in space_of(Tune(depth="head", batch_size=batch_size), start)


def test_every_value_that_source_augmentation_may_have_is_searched():
    searched = space_of(Tune(depth="finetune"), "random")["source_augmentation"]
    assert (searched.low, searched.high) == (0, 1)
    # Its features are computed once, of unchanged pictures.
    assert "source_augmentation" not in space_of(Tune(depth="head"), "random")


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_augmentation_is_what_train_classifier_takes(strength):
    TrainClassifier(**augmentation(strength))
    assert augmentation(0) == {"crop_scale": 1, "rotation": 0, "intensity": 0}


def test_what_was_asked_for_is_the_same_in_all_trials():
    assert space_of(Tune(pool="cls"), "random")["pool"].choices == ("cls",)
    space = space_of(Tune(depth="finetune", pool="lse", place_weight=0.5), "random")
    trial = optuna.create_study().ask()
    assert {name: suggest(trial, space)[name] for name in ("pool", "place_weight")} == {
        "pool": "lse",
        "place_weight": 0.5,
    }
    assert not {"pool", "place_weight"} & set(space_of(Tune(depth="finetune"), "random"))
