from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from transformers import ViTConfig, ViTModel

from fracture_mae.config import Compare
from fracture_mae.data.folds import assign, joined
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import references
from fracture_mae.evaluation.frozen_features import PooledEncoder
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.stages import compare
from fracture_mae.stages.compare import ComparedEncoder
from tests import builders

CERTAINTY = Certainty(n_draws=200, seed=0)


@pytest.fixture
def large(dataset):
    """Twelve training X-rays, two files each, and eight for validation."""
    label = np.tile([0, 1], 12)
    train = builders.xrays("train", label, group=np.arange(24) % 12)
    return replace(dataset, train=train, validation=builders.xrays("validation", np.tile([0, 1], 4)), test=None)


def test_names_are_split_and_checked(store):
    assert compare.names_of("a/b, vit-mae-nano ,/x y/z") == ["a/b", "vit-mae-nano", "/x y/z"]
    for wrong, found in (("a,,b", "an empty name"), ("a,b,a", "a twice"), (",", "an empty name")):
        with pytest.raises(FractureMaeError, match=f"found {found}, expected different names"):
            compare.names_of(wrong)


def test_one_version_under_two_names_is_found(store):
    store.create_registered_model("xray-mae")
    store.create_model_version("xray-mae", source="/nowhere")
    with pytest.raises(FractureMaeError, match="found models:/xray-mae/1 twice"):
        compare.names_of("models:/xray-mae/1,models:/xray-mae/latest")


def test_the_pool_is_training_and_validation_each_content_once(dataset):
    pool = joined(replace(dataset, test=None))
    assert len(pool) == 9 + 6
    twice = replace(dataset, validation=dataset.train, test=None)
    assert joined(twice).table["sha256"].tolist() == dataset.train.table["sha256"].tolist()


def test_mae_preset_and_other_vit_are_opened(tmp_path, tiny_mae):
    mae_model.save(tiny_mae, tmp_path / "mae")
    ViTModel(
        ViTConfig(image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path / "vit")
    config = Compare(image_size=64)
    for name in (str(tmp_path / "mae"), str(tmp_path / "vit"), "vit-mae-nano"):
        found = compare.open_encoder(name, config)
        assert (found.name, found.image_size, found.preprocess) == (name, 64, "film_squares")
        assert compare.open_encoder(name, Compare(image_size=64, preprocess="film")).preprocess == "film"
        assert found.n_parameters > 1000
    assert compare.open_encoder(str(tmp_path / "mae"), Compare()).image_size == 32


def test_an_encoder_alone_and_a_file_of_the_authors_are_opened(tmp_path, tiny_mae):
    tiny_mae.network.vit.save_pretrained(tmp_path / "encoder")
    opened = compare.open_encoder(str(tmp_path / "encoder"), Compare())
    assert isinstance(opened.embedder, PooledEncoder)
    assert opened.image_size == 32
    with pytest.raises(FractureMaeError, match=r"there is no file /nowhere/mae\.pth"):
        compare.open_encoder("/nowhere/mae.pth", Compare())


def test_a_classifier_is_refused(tmp_path, tiny_mae):
    classifier = classifier_model.from_mae(tiny_mae, pool="mean")
    classifier_model.save(classifier, Decision(("healthy", "broken")), tmp_path)
    with pytest.raises(FractureMaeError, match="is a classifier: it has seen labels"):
        compare.open_encoder(str(tmp_path), Compare())


def test_an_encoder_is_probed_on_every_xray_but_test(large, tiny_mae, accelerator):
    pool = joined(large)
    fold = assign(pool.table, 3, seed=0)
    candidate = ComparedEncoder("tiny", PooledEncoder(MaeEncoder.of(tiny_mae)), builders.SIDE, "letterbox")
    found, told = compare.probe(candidate, pool, fold, Compare(), accelerator)
    assert found["sha256"].tolist() == pool.table["sha256"].tolist()
    assert np.isfinite(found["logit"]).all()
    assert found["fold"].tolist() == fold.tolist()
    assert (told["n_features"], told["image_size"], len(told["inverse_penalties"].split())) == (16, 32, 3)


def test_matched_heads_weigh_the_training_xrays_alone(large, tiny_mae, accelerator, monkeypatch):
    pool = joined(large)
    fold = assign(pool.table, 4, seed=0)
    candidate = ComparedEncoder("tiny", PooledEncoder(MaeEncoder.of(tiny_mae)), 32, "letterbox")
    seen = []

    def match(xrays, seed):
        seen.append(frozenset(xrays.table["sha256"]))
        return SimpleNamespace(weight=np.where(xrays.label == 1, 1.0, 2.0))

    monkeypatch.setattr(compare, "match_properties", match)
    matched = compare._matched(Compare(match="properties"))
    for _ in range(2):  # of two encoders the second asks for nothing new
        compare.probe(candidate, pool, fold, Compare(), accelerator, matched)
    contents = pool.table["sha256"].to_numpy()
    assert seen == [frozenset(contents[fold != number]) for number in range(4)]
    assert compare._matched(Compare()) is None


def test_references_answer_in_the_same_folds(large, monkeypatch):
    pool = joined(large)
    fold = assign(pool.table, 2, seed=0)
    described, fitted = [], []

    def describe(xrays, progress):
        described.append(progress)
        return np.arange(len(xrays))[:, None]  # the features tell which X-ray it is

    def fit(model, features, label, weight):
        assert (label == pool.label[features[:, 0]]).all()
        fitted.append(set(features[:, 0]))
        return len(fitted)

    monkeypatch.setattr(references, "models", lambda seed: {"guess": references.Reference(describe, None)})
    monkeypatch.setattr(references, "fit", fit)
    monkeypatch.setattr(references, "logit", lambda model, features: np.full(len(features), float(model)))
    found = references.out_of_fold(pool, fold, seed=0)["guess"]
    assert found["logit"].tolist() == (fold + 1.0).tolist()
    assert fitted == [set(np.flatnonzero(fold != number)) for number in (0, 1)]
    assert len(described) == 1


LABEL = np.tile([0, 1], 20)


def answers(logit):
    group = [f"x{i}" for i in range(40)]
    columns = {"path": group, "sha256": group, "label": LABEL, "group": group, "source": "made", "fold": 0}
    return pd.DataFrame(columns | {"logit": np.float64(logit)})


@pytest.fixture(scope="module")
def judged():
    knows, guesses = 2.0 * LABEL - 1, np.tile([1, 1, -1, -1], 10)
    return compare.judge({"guesses": answers(guesses), "a/knows": answers(knows)}, "Title", CERTAINTY)


def test_table_by_hand(judged):
    table = judged.tables["comparison.csv"].set_index("model")
    assert table.index.tolist() == ["guesses", "a/knows"]
    for metric in compare.METRICS:
        assert table[metric].tolist() == pytest.approx([0.5, 1])
    assert np.isnan(table.loc["guesses", "auroc_difference"])
    row = table.loc["a/knows"]
    assert row["auroc_difference"] == pytest.approx(0.5)
    assert 0 < row["auroc_difference_low"] < 0.5 < row["auroc_difference_high"]
    assert judged.metrics["a_knows/xray/auroc"] == 1
    assert "guesses/xray/auroc_difference" not in judged.metrics
    assert set(judged.tables) == {"comparison.csv", "predictions/guesses.csv", "predictions/a_knows.csv"}
    assert set(judged.figures) == {"comparison.png"}


def test_xrays_of_a_patient_are_drawn_as_one(judged):
    knows, guesses = 2.0 * LABEL - 1, np.tile([1, 1, -1, -1], 10)
    twice = {
        name: pd.concat([answers(logit), answers(logit).assign(group=[f"y{i}" for i in range(40)])], ignore_index=True)
        for name, logit in (("guesses", guesses), ("a/knows", knows))
    }
    known = {name: table.assign(patient="x" + table["group"].str[1:]) for name, table in twice.items()}
    one = judged.tables["comparison.csv"].set_index("model")
    found = {
        kind: compare.judge(tables, "Title", CERTAINTY).tables["comparison.csv"].set_index("model")
        for kind, tables in (("known", known), ("unknown", twice))
    }
    pd.testing.assert_frame_equal(found["known"], one)
    for name, column in (("guesses", "auroc"), ("a/knows", "auroc_difference")):
        width = {
            kind: table.loc[name, f"{column}_high"] - table.loc[name, f"{column}_low"] for kind, table in found.items()
        }
        assert width["unknown"] < 0.85 * width["known"]


def test_digest_has_a_line_for_each(judged):
    lines = compare.digest(judged).splitlines()
    assert lines[-1].startswith("a/knows")
    assert "1.000 [0." in lines[-1]  # faultless on 20 X-rays of each class is not certain
    assert "1.000 [1.000, 1.000]" not in lines[-1]
    assert "+0.500 [+0." in lines[-1]


def test_references_are_finite(large):
    """Test X-rays cannot be read: `large` has none."""
    pool = joined(large)
    found = references.out_of_fold(pool, assign(pool.table, 2, seed=0), seed=0)
    assert set(found) == {references.FILE_PROPERTIES, references.GRADIENT_HISTOGRAMS}
    assert all(np.isfinite(predictions["logit"]).all() for predictions in found.values())
