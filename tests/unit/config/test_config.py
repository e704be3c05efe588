import pytest
from pydantic import ValidationError

from fracture_mae import config
from fracture_mae.config import (
    BENCHMARK_PARTS,
    Benchmark,
    Config,
    DataOptions,
    Evaluate,
    FinetuneMae,
    Main,
    TrainClassifier,
)
from fracture_mae.config.options import ByStart

ENTRY_POINTS = [config.ReconstructBaseline, FinetuneMae, TrainClassifier, Evaluate, Main, Benchmark]
TRAININGS = [FinetuneMae, TrainClassifier]
# What auto means is not told by a recipe.
OWN_MEANING = {"resume", "prevalence", "attention", "compile", "norm_pix_loss"}


@pytest.mark.parametrize("kind", ENTRY_POINTS)
def test_configs_are_frozen_and_know_no_other_names(kind):
    with pytest.raises(ValidationError, match="frozen"):
        kind().seed = 1
    with pytest.raises(ValidationError, match="batch_sise"):
        kind(batch_sise=8)


@pytest.mark.parametrize("kind", ENTRY_POINTS)
def test_every_field_is_explained(kind):
    assert kind.__doc__
    assert all(field.description for field in kind.model_fields.values())


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("recipe", ["default", "original"])
@pytest.mark.parametrize("start", ["random", "weights"])
def test_recipes_leave_nothing_at_auto(kind, recipe, start):
    settled = kind(recipe=recipe).settled(start)
    assert not settled.unsettled
    assert settled.settled("weights") == settled
    values = settled.model_dump(exclude={*DataOptions.model_fields, *OWN_MEANING})
    assert "auto" not in values.values()
    fixed = {name: value for name, value in kind.recipes[recipe].items() if not isinstance(value, ByStart)}
    assert values | fixed == values
    # What a recipe gives is checked like what a user gives.
    assert kind(**values).model_dump(exclude={*DataOptions.model_fields, *OWN_MEANING}) == values


@pytest.mark.parametrize("kind", TRAININGS)
def test_recipes_set_exactly_the_fields_at_auto(kind):
    at_auto = {name for name, field in kind.model_fields.items() if field.default == "auto"}
    assert (
        at_auto - {"image_size", "preprocess", "precision", "device", "boxes", *OWN_MEANING}
        == set(kind.recipes["default"])
        == set(kind.recipes["original"])
    )


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_variant_is_the_default_but_for_its_own_values(kind):
    usual, robust = kind().model_dump(), kind(recipe="robust").model_dump()
    assert robust == usual | {"recipe": "robust", "source_augmentation": 0.5}
    assert kind(recipe="robust", source_augmentation=0.2).source_augmentation == 0.2
    assert usual["source_augmentation"] == kind(recipe="original").source_augmentation == 0


def test_the_preprocessing_is_the_one_asked_for_or_the_models_own_or_that_of_the_recipe():
    assert TrainClassifier(preprocess="film").preprocess_for("film_equalised") == "film"
    assert TrainClassifier().preprocess_for("film") == "film"
    for asked in (TrainClassifier(), TrainClassifier(recipe="robust"), config.ReconstructBaseline()):
        assert asked.preprocess_for(None) == "film_squares"
    assert TrainClassifier(recipe="original").preprocess_for(None) == "letterbox"
    assert config.Benchmark().preprocess_for(None) == "letterbox"
    with pytest.raises(ValidationError, match="preprocess"):
        TrainClassifier(preprocess="stretch")


def test_what_is_given_beats_the_recipe():
    found = TrainClassifier(recipe="original", learning_rate="3e-5", epochs="auto")
    assert (found.learning_rate, found.epochs, found.optimizer) == (3e-5, 10, "adam")
    given = TrainClassifier(learning_rate="3e-5", layer_decay=0.9, batch_size=64).settled("weights")
    assert (given.learning_rate, given.layer_decay) == (3e-5, 0.9)


@pytest.mark.parametrize(
    ("kind", "start", "batch_size", "rate", "beta2"),
    [
        (FinetuneMae, "random", 32, 1e-3, 0.999),
        (FinetuneMae, "random", 16, 5e-4, 0.999),
        (FinetuneMae, "weights", 32, 1.875e-5, 0.95),  # 1.5e-4 · 32/256
        (FinetuneMae, "weights", 4096, 2.4e-3, 0.95),  # what He et al. pre-train with
        (FinetuneMae, "random", 4096, 2.4e-3, 0.999),  # no more than that
        (TrainClassifier, "random", 32, 1e-3, 0.999),
        (TrainClassifier, "weights", 32, 6.25e-5, 0.999),  # 5e-4 · 32/256
        (TrainClassifier, "weights", 256, 5e-4, 0.999),
    ],
)
def test_learning_rates_by_start_and_batch(kind, start, batch_size, rate, beta2):
    config = kind(batch_size=batch_size)
    assert (config.learning_rate, config.settled(start).beta2) == ("auto", beta2)
    assert config.settled(start).learning_rate == pytest.approx(rate, rel=1e-12)
    assert kind(recipe="original", batch_size=batch_size).settled(start).learning_rate == 1e-4


def test_a_frozen_encoder_leaves_a_head_that_starts_at_random():
    frozen = TrainClassifier(freeze=True).settled("weights")
    assert frozen.learning_rate == 1e-3
    assert TrainClassifier(freeze=True).rate_in_words("weights") == "learning_rate 0.001 = 0.008 · 32/256"
    assert (TrainClassifier().settled("weights").layer_decay, TrainClassifier().settled("random").layer_decay) == (
        0.65,
        0.75,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "learning_rate 1.9e-05 = 0.00015 · 32/256"),
        ({"batch_size": 8192}, "learning_rate 0.0024 = 0.00015 · 8192/256, at most 0.0024"),
        ({"learning_rate": 3e-5}, "learning_rate 3e-05, as given"),
        ({"recipe": "original"}, "learning_rate 0.0001, as recipe original says"),
    ],
)
def test_where_the_learning_rate_comes_from_is_said(options, words):
    batch_size = options.pop("batch_size", 32)
    assert FinetuneMae(**options).model_copy(update={"batch_size": batch_size}).rate_in_words("weights") == words


@pytest.mark.parametrize(
    ("given", "model", "expected"),
    [("auto", True, True), ("auto", False, False), ("true", False, True), ("False", True, False)],
)
def test_the_loss_is_that_of_the_model_unless_it_is_given(given, model, expected):
    assert FinetuneMae(norm_pix_loss=given).settled("weights", norm_pix_loss=model).norm_pix_loss is expected


@pytest.mark.parametrize("wrong", ["0", "1.5", "fast", "-1e-3"])
def test_learning_rates_are_auto_or_a_number_up_to_1(wrong):
    for kind in TRAININGS:
        with pytest.raises(ValidationError, match="learning_rate"):
            kind(learning_rate=wrong)


def test_the_original_recipe_is_the_notebooks():
    mae, classifier = FinetuneMae(recipe="original"), TrainClassifier(recipe="original")
    for training in (mae, classifier):
        assert (training.optimizer, training.learning_rate, training.epochs) == ("adam", 1e-4, 10)
        assert (training.crop_scale, training.rotation, training.flip, training.intensity) == (1, 0, False, 0)
    assert (mae.loss_region, mae.train_mask_ratio) == ("all", 0.75)
    assert (classifier.class_weight, classifier.threshold, classifier.calibrate) == ("none", 0.5, "none")


@pytest.mark.parametrize(("given", "expected"), [("balanced", "balanced"), ("2", 2.0), ("none", "none")])
def test_words_or_numbers(given, expected):
    assert TrainClassifier(class_weight=given).class_weight == expected


def test_numbers_must_be_finite():
    with pytest.raises(ValidationError):
        TrainClassifier(class_weight="inf")
    with pytest.raises(ValidationError):
        FinetuneMae(learning_rate="nan")


def test_the_chain_restates_the_steps_parameters():
    for step, renamed in (
        (FinetuneMae, {"model": "model", "recipe": "recipe"}),
        (TrainClassifier, {"recipe": "recipe"}),
        (Evaluate, {"n_draws": "n_draws"}),
    ):
        for ours, theirs in renamed.items():
            assert Main.model_fields[ours].default == step.model_fields[theirs].default
    assert issubclass(Main, DataOptions)
    assert all(issubclass(kind, Config) for kind in ENTRY_POINTS)


@pytest.mark.parametrize(("recipe", "sampler"), [("default", "class"), ("robust", "class"), ("original", "file")])
def test_where_xrays_are_weighed_auto_draws_no_xrays_equally(recipe, sampler):
    assert TrainClassifier(recipe=recipe, weight_by="group").sampler == sampler
    assert TrainClassifier(weight_by="file").sampler == "xray_class"


@pytest.mark.parametrize(
    ("kind", "sampler"), [(TrainClassifier, "xray"), (TrainClassifier, "xray_class"), (FinetuneMae, "xray")]
)
def test_copies_are_corrected_for_once(kind, sampler):
    assert kind(sampler=sampler).sampler == sampler
    with pytest.raises(ValidationError, match=f"found '{sampler}' beside --weight-by group.* twice"):
        kind(sampler=sampler, weight_by="group")


@pytest.mark.parametrize(
    ("given", "expected"), [("0", 0), ("2", 2), ("5.0", 5), (20, 20), ("1", None), ("21", None), ("2.5", None)]
)
def test_folds_are_none_or_two_to_twenty(given, expected):
    if expected is None:
        with pytest.raises(ValidationError):
            TrainClassifier(cross_validate=given)
    else:
        assert TrainClassifier(cross_validate=given).cross_validate == expected


@pytest.mark.parametrize(
    ("given", "n_folds", "sources"),
    [("0", 0, False), (5, 5, False), ("sources", 0, True), ("5,sources", 5, True), (" sources, 20", 20, True)],
)
def test_folds_sources_or_both(given, n_folds, sources):
    found = TrainClassifier(cross_validate=given)
    assert (found.n_folds, found.holds_out_sources) == (n_folds, sources)


@pytest.mark.parametrize(
    "wrong", ["source", "1,sources", "0,sources", "21,sources", "5,5", "sources,sources", "5,", ","]
)
def test_other_words_for_folds_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainClassifier(cross_validate=wrong)


def test_compare_and_tune_hold_out_sources_too():
    assert config.Compare(cross_validate="sources").cross_validate == "sources"
    assert config.Tune(cross_validate="sources", depth="head").cross_validate == "sources"
    with pytest.raises(ValidationError, match=r"found 'sources' beside --depth finetune.* expected --depth head"):
        config.Tune(cross_validate="sources", depth="finetune")


def test_heads_on_features_that_were_pooled_before_know_no_patches():
    assert config.Tune(pool="cls", place_weight=0).pool == "cls"
    assert config.Tune(pool="topk", depth="finetune", place_weight="2").place_weight == 2
    with pytest.raises(
        ValidationError, match=r"found 'lse' beside --depth head.* expected mean or cls, or --depth finetune"
    ):
        config.Tune(pool="lse")
    with pytest.raises(ValidationError, match=r"found 1 beside --depth head.* expected 0 or auto, or --depth finetune"):
        config.Tune(place_weight=1)


@pytest.mark.parametrize("recipe", ["default", "original"])
def test_boxes_and_patches_are_left_aside_unless_asked_for(recipe):
    trained = config.TrainClassifier(recipe=recipe)
    assert trained.place_weight == 0
    assert trained.pool in ("mean", "cls")


@pytest.mark.parametrize("quick", ["true", True, "1"])
def test_a_quick_benchmark_is_small_but_for_what_is_given(quick):
    small, full = Benchmark(quick=quick, repeats="4"), Benchmark(quick="false")
    assert (small.repeats, small.n_images, small.n_trials, small.sizes) == (4, 24, 4, (25, 50))
    assert (full.repeats, full.n_images, full.n_trials, full.sizes) == (5, 200, 20, (1000, 4000))


def test_parts_are_named_and_run_in_their_own_order():
    assert Benchmark().parts == BENCHMARK_PARTS
    assert Benchmark(only="growth, step").parts == ("step", "growth")
    for wrong in ("speed", "step,", "all,step"):
        with pytest.raises(ValidationError, match=f"found '{wrong}', expected all, or any of fine_tuning, step"):
            Benchmark(only=wrong)


@pytest.mark.parametrize("wrong", ["1000", "200,50", "50,50", "50,many", "10,100", "50,,100", "-50,100"])
def test_growth_sizes_rise(wrong):
    assert Benchmark(growth_sizes="50, 100,1000").sizes == (50, 100, 1000)
    with pytest.raises(ValidationError, match=f"found '{wrong}', expected two or more whole numbers"):
        Benchmark(growth_sizes=wrong)


@pytest.mark.parametrize(
    ("given", "expected"), [("auto", "auto"), ("true", True), ("False", False), ("yes please", None)]
)
def test_compile_is_auto_or_a_truth_value(given, expected):
    if expected is None:
        with pytest.raises(ValidationError):
            FinetuneMae(compile=given)
    else:
        assert FinetuneMae(compile=given).compile == expected


def test_what_the_recipe_filled_is_told_from_what_was_asked_for():
    config = TrainClassifier(drop_path="0.2", patch_dropout="auto")
    assert {"patch_dropout", "epochs"} <= config.from_recipe
    assert "drop_path" not in config.from_recipe
    same = TrainClassifier(drop_path=0.2, patch_dropout=config.patch_dropout)
    assert "patch_dropout" not in same.from_recipe
    assert config == same
    assert hash(config) == hash(same)
    assert config != TrainClassifier()
    assert config.model_copy(update={"patch_dropout": 0.0}).from_recipe == config.from_recipe


@pytest.mark.parametrize("kind", [TrainClassifier, Evaluate, config.Tune])
def test_an_assurance_is_none_or_a_confidence(kind):
    assert kind().assurance == "none"
    options = {"objective": "specificity_at_sensitivity"} if kind is config.Tune else {}
    assert kind(assurance="0.95", **options).assurance == 0.95
    for wrong in (0.05, 1, "high"):
        with pytest.raises(ValidationError, match="assurance"):
            kind(assurance=wrong, **options)


def test_an_assurance_is_for_a_wanted_sensitivity_below_one():
    with pytest.raises(
        ValidationError, match=r"found 0\.95 beside --objective f1, which wants no sensitivity; expected none, or"
    ):
        config.Tune(objective="f1", assurance=0.95)
    for kind, options in ((TrainClassifier, {}), (config.Tune, {"objective": "specificity_at_sensitivity"})):
        with pytest.raises(
            ValidationError,
            match=r"found 1 beside --assurance 0\.95, and no number of X-rays assures that none is missed",
        ):
            kind(assurance=0.95, min_sensitivity=1, **options)
        assert kind(min_sensitivity=1, **options).min_sensitivity == 1
