import shutil
import sys
from importlib.metadata import version

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from fracture_mae.config import DataOptions, TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import classifier as classifier_model
from fracture_mae.tracking import registered_models, registry, stores
from tests import builders
from tests.unit.serving.test_predict import PICTURES, as_base64

DECISION = Decision(("healthy", "broken"), threshold=0.25, slope=0.5, prevalence=0.6, split_fingerprint="5" * 16)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_mae):
    """A saved classifier, in the folder that `register_classifier` takes; models go to an experiment below `tmp_path`."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # a loaded model puts its own copy of the code there
    folder = tmp_path / "saved" / registry.NETWORK
    classifier = classifier_model.from_mae(tiny_mae, pool="mean", drop_path=0.0, seed=0)
    classifier_model.save(classifier, DECISION, folder)
    return folder


@pytest.fixture
def experiment(store):
    return mlflow.set_experiment("models")


def listed(store, *names):
    """Registered versions without files behind them."""
    for name in names:
        if name not in {model.name for model in store.search_registered_models()}:
            store.create_registered_model(name)
        store.create_model_version(name, source="/nowhere")


def test_a_registered_classifier_comes_back_and_answers(experiment, store, folder):
    number = registry.register_classifier(folder, {"leakage": "0%", "seed": 3})
    assert registry.version_tags("models:/fracture-classifier@challenger") == {"leakage": "0%", "seed": "3"}
    _, decision = classifier_model.load(registry.fetch(f"models:/fracture-classifier/{number}"))
    assert decision == DECISION

    model = mlflow.pyfunc.load_model("models:/fracture-classifier@challenger")
    images = pd.DataFrame({"image": [as_base64(picture) for picture in PICTURES[:2]]})
    answers = model.predict(images)
    assert answers["threshold"].tolist() == [0.25, 0.25]
    assert answers["model_id"].tolist() == [model.metadata.model_id] * 2
    assert set(model.predict(images, params={"threshold": 1.0})["label"]) == {"healthy"}
    rare = model.predict(images, params={"prevalence": 0.05})
    assert (rare["probability"] < answers["probability"]).all()
    assert rare["label"].tolist() == answers["label"].tolist()
    odds = 1 / 3 * (1 / 19) / (3 / 2)  # of the threshold, times those of 0.05 over those of 0.6
    assert rare["threshold"].tolist() == pytest.approx([odds / (1 + odds)] * 2)
    with pytest.raises(mlflow.MlflowException, match=r"prevalence: found 2\.0, expected a share"):
        model.predict(images, params={"prevalence": 2})
    with pytest.raises(mlflow.MlflowException, match="Can not safely convert"):
        model.predict(images, params={"prevalence": "rare"})
    with pytest.raises(mlflow.MlflowException, match="row 1: not base64"):
        model.predict(pd.DataFrame({"image": [images["image"][0], "%%%"]}))
    with pytest.raises(mlflow.MlflowException, match="Model is missing inputs"):
        model.predict(pd.DataFrame({"picture": ["x"]}))


@pytest.mark.parametrize(
    ("found", "precision", "expected"),
    [(True, "auto", True), (False, "auto", False), (False, "bf16", True), (True, "fp32", True)],
)
def test_a_classifier_answers_in_bf16_where_that_was_found_to_change_nothing(store, folder, found, precision, expected):
    """Or where it is asked for; what is computed in fp32 throughout does not ask."""
    classifier, decision = classifier_model.load(folder)
    classifier.bf16 = found
    classifier_model.save(classifier, decision, folder)
    assert registered_models.open_classifier(str(folder), precision).classifier.bf16 is expected


def test_a_registered_model_says_what_it_needs(experiment, folder):
    number = registry.register_classifier(folder, {})
    root = registry.fetch(f"models:/fracture-classifier/{number}").parents[1]
    requirements = (root / "requirements.txt").read_text(encoding="utf-8").split()
    assert (
        f"torch=={version('torch').partition('+')[0]}" in requirements
    )  # without the build's name: +cpu is on no index
    assert all(requirement.count("==") == 1 for requirement in requirements)
    described = yaml.safe_load((root / "MLmodel").read_text(encoding="utf-8"))
    for name in ("threshold", "prevalence"):
        assert f'"name": "{name}"' in described["signature"]["params"]
    assert (root / "code" / "fracture_mae" / "serving" / "models.py").is_file()


def test_the_newest_classifier_is_the_challenger(experiment, store, folder):
    listed(store, "fracture-classifier")
    assert registry.register_classifier(folder, {}) == "2"
    assert registry.exact("models:/fracture-classifier@challenger") == "models:/fracture-classifier/2"


def test_a_registered_mae_answers_with_features(experiment, tmp_path, folder, tiny_mae):
    saved = tmp_path / "mae" / registry.NETWORK
    mae_model.save(tiny_mae, saved)
    number = registry.register_mae(saved, {})
    assert mae_model.load(str(registry.fetch("models:/xray-mae/latest"))).image_size == 32
    features = mlflow.pyfunc.load_model(f"models:/xray-mae/{number}").predict(
        pd.DataFrame({"image": [as_base64(PICTURES[0])]})
    )
    assert np.shape(features["features"][0]) == (16,)
    source = registry.MlflowClient().get_model_version_download_uri("xray-mae", number)
    place = stores.local_folder(source)
    shutil.rmtree(place)
    with pytest.raises(FractureMaeError, match=f"were looked for in {place}, and that folder is gone"):
        registry.fetch("models:/xray-mae/latest")


def run_with(store, **tags):
    return store.create_run("0", tags=tags).info.run_id


@pytest.mark.parametrize(
    ("version_tags", "run_tags", "expected"),
    [
        ({"start": "random"}, {}, "random"),
        ({"start": "weights"}, {"model": "preset vit-mae-nano, random weights"}, "weights"),
        ({}, {"model": "preset vit-mae-nano, random weights"}, "random"),  # of versions that told no more
        ({}, {"model": "facebook/vit-mae-base"}, "weights"),
        ({}, {}, "weights"),
    ],
)
def test_a_registered_model_says_what_it_began_as(store, version_tags, run_tags, expected):
    store.create_registered_model("xray-mae")
    run_id = run_with(store, **run_tags)
    store.create_model_version("xray-mae", source="/nowhere", run_id=run_id, tags=version_tags)
    assert registered_models._start_of("models:/xray-mae/1") == expected


def test_a_model_of_a_run_began_as_the_run_says(store):
    assert registered_models._start_of(f"runs:/{run_with(store, start='random')}/xray-mae") == "random"
    assert registered_models._start_of(f"runs:/{run_with(store, start='weights')}/xray-mae") == "weights"
    assert registered_models._start_of("runs:/0123456789/xray-mae") == "weights"


def test_what_a_model_began_as_stays_with_it(experiment, store, tmp_path, tiny_mae):
    saved = tmp_path / "mae" / registry.NETWORK
    mae_model.save(tiny_mae, saved)
    registry.register_mae(saved, {"start": "random"})
    assert mae_model.load(str(saved)).start == "weights"  # a folder is taken for what somebody pretrained
    mae = registered_models.load_mae("models:/xray-mae/1", DataOptions())
    assert (mae.start, mae.preprocess) == ("random", "letterbox")


def test_find_by_version_alias_and_latest(store):
    listed(store, *["xray-mae"] * 11, "fracture-classifier")
    store.set_registered_model_alias("xray-mae", "best", "3")
    assert registry.exact("models:/xray-mae/2") == "models:/xray-mae/2"
    assert registry.exact("models:/xray-mae@best") == "models:/xray-mae/3"
    assert registry.exact("models:/xray-mae/latest") == "models:/xray-mae/11"  # by number: as text, 9 is the last


@pytest.mark.parametrize(
    "uri",
    ["models:/xray-mae/12", "models:/xray-mae@none", "models:/nothing/latest", "models:/nothing", "/tmp", "runs:/1/x"],
)
def test_what_is_not_registered_is_not_found(store, uri):
    listed(store, "xray-mae")
    assert registry.find(uri) is None
    assert registry.version_tags(uri) == {}
    assert registry.exact(uri) == uri


@pytest.mark.parametrize("uri", ["models:/xray-mae/2", "models:/nothing@best", "models:/nothing", "runs:/0123/model"])
def test_fetching_what_is_not_there_says_what_is(store, uri):
    listed(store, "xray-mae", "fracture-classifier")
    with pytest.raises(FractureMaeError, match=f"^{uri} is not to be had from sqlite:") as refused:
        registry.fetch(uri)
    assert "Registered there: fracture-classifier, xray-mae." in str(refused.value)


def test_fetching_from_an_empty_store(store):
    with pytest.raises(FractureMaeError, match="Registered there: nothing yet"):
        registry.fetch("models:/xray-mae/latest")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models:/x/1", True),
        ("runs:/1/x", True),
        ("facebook/vit-mae-base", False),
        ("/models:/x", False),
        ("models", False),
    ],
)
def test_model_uris(name, expected):
    assert registry.is_model_uri(name) == expected


def test_promote_moves_the_champion(store):
    listed(store, "fracture-classifier", "fracture-classifier")
    for number in ("1", "2"):
        registry.promote(number)
        assert registry.exact("models:/fracture-classifier@champion") == f"models:/fracture-classifier/{number}"


def test_a_registry_that_does_not_answer_is_no_registry_without_a_champion(store, monkeypatch):
    store.create_registered_model(registry.CLASSIFIER)
    champion = f"models:/{registry.CLASSIFIER}@{registry.CHAMPION}"
    assert registry.find(champion) is None
    assert registry.find("models:/never-registered/1") is None

    def busy(*args, **options):
        raise MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE)

    for name in ("get_model_version_by_alias", "get_model_version"):
        monkeypatch.setattr(registry.MlflowClient, name, busy)
    for uri in (champion, "models:/never-registered/1"):
        with pytest.raises(FractureMaeError, match=r"does not say whether there is .*database is locked"):
            registry.find(uri)


def test_an_encoder_that_does_not_say_what_it_was_shown_is_warned_of(store, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(registry, "fetch", lambda uri: tmp_path)
    assert registered_models.shown_by("models:/xray-mae/1").contents.empty
    assert "models:/xray-mae/1 does not say what it was shown" in caplog.text
    caplog.clear()
    assert registered_models.shown_by(str(tmp_path)).contents.empty
    builders.shown(["aa"]).save(tmp_path)
    assert registered_models.shown_by("models:/xray-mae/1").contents.index.tolist() == ["aa"]
    assert caplog.text == ""


def test_a_picture_that_is_gone_ends_a_training_before_it_begins(dataset):
    with pytest.raises(FractureMaeError, match=r"/train/0.png cannot be read any more: .* Run again"):
        registered_models.made_from("vit-mae-nano", dataset, "with label")


@pytest.mark.parametrize(
    ("own", "asked", "expected"), [(None, "film", "film"), ("film", "auto", "film"), (None, "auto", "film_squares")]
)
def test_an_encoder_is_given_what_it_was_made_with(tmp_path, tiny_mae, caplog, own, asked, expected):
    tiny_mae.preprocess = own
    mae_model.save(tiny_mae, tmp_path)
    assert registered_models.load_mae(str(tmp_path), TrainClassifier(preprocess=asked)).preprocess == expected
    assert caplog.text == ""


def test_another_preprocessing_than_the_encoders_own_is_warned_of(tmp_path, tiny_mae, caplog):
    tiny_mae.preprocess = "film"
    mae_model.save(tiny_mae, tmp_path)
    assert registered_models.load_mae(str(tmp_path), TrainClassifier(preprocess="letterbox")).preprocess == "letterbox"
    assert "was made with X-rays preprocessed by film, and is now given letterbox" in caplog.text
