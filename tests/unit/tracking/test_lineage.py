import pytest

from fracture_mae.tracking import lineage, registry


@pytest.fixture
def made(store):
    """Make a version of a model by a run with these tags; its URI."""
    experiment = store.create_experiment("made")

    def make(name, **tags):
        run = store.create_run(experiment)
        for key, value in tags.items():
            store.set_tag(run.info.run_id, key, value)
        if not store.search_registered_models(f"name = '{name}'"):
            store.create_registered_model(name)
        version = store.create_model_version(name, source="/nowhere", run_id=run.info.run_id)
        return f"models:/{name}/{version.version}", run.info.run_id

    return make


def test_a_classifier_is_followed_back_to_its_first_weights(made):
    first, run = made("xray-mae", model="facebook/vit-mae-base", entry_point="finetune_mae")
    second, _ = made("xray-mae", model=first, entry_point="finetune_mae")
    classifier, _ = made("fracture-classifier", encoder=second, entry_point="train_classifier")
    steps = lineage.lineage(classifier)
    assert [step.name for step in steps] == [classifier, second, first, "facebook/vit-mae-base"]
    assert [step.run and step.run.entry_point for step in steps] == [
        "train_classifier",
        "finetune_mae",
        "finetune_mae",
        None,
    ]
    assert [step.name for step in lineage.lineage(f"runs:/{run}/xray-mae")] == [
        f"runs:/{run}/xray-mae",
        "facebook/vit-mae-base",
    ]


def test_where_a_run_is_gone_the_way_ends(made, store):
    first, _ = made("xray-mae", model="preset vit-mae-nano, random weights")
    classifier, _ = made("fracture-classifier", encoder=first)
    assert [step.name for step in lineage.lineage(classifier)][-1] == "preset vit-mae-nano, random weights"
    store.create_model_version("xray-mae", source="/nowhere")
    other, _ = made("fracture-classifier", encoder="models:/xray-mae/2")
    found = lineage.lineage(other)
    assert [(step.name, step.run is None) for step in found] == [(other, False), ("models:/xray-mae/2", True)]
    assert lineage.logged("0" * 32) is None


def test_a_model_that_started_from_itself_ends_too(made, store):
    first, run = made("xray-mae")
    store.set_tag(run, "model", first)
    assert len(lineage.lineage(first)) == 20


def test_no_description_is_longer_than_stores_take(made):
    made("fracture-classifier")
    registry.describe("fracture-classifier", "1", "x" * registry.LONGEST_DESCRIPTION)
    assert registry.description("fracture-classifier", "1") == "x" * 5000
    with pytest.raises(ValueError, match="5,001 characters; at most 5,000"):
        registry.describe("fracture-classifier", "1", "x" * 5001)
