from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from transformers import ViTConfig, ViTModel

from fracture_mae.config import Compare
from fracture_mae.data.folds import assign, joined
from fracture_mae.data.held_out_sources import HeldOutSources
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import differences, references
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
    features = compare.features_of(candidate, pool, Compare(), accelerator)
    found, told = compare.probe(features, pool, fold, Compare())
    assert found["sha256"].tolist() == pool.table["sha256"].tolist()
    assert np.isfinite(found["logit"]).all()
    assert found["fold"].tolist() == fold.tolist()
    assert (told["n_features"], len(told["inverse_penalties"].split())) == (16, 3)
    assert compare.told_of(candidate)["image_size"] == 32


def test_matched_heads_weigh_the_training_xrays_alone(large, tiny_mae, accelerator, monkeypatch):
    pool = joined(large)
    fold = assign(pool.table, 4, seed=0)
    candidate = ComparedEncoder("tiny", PooledEncoder(MaeEncoder.of(tiny_mae)), 32, "letterbox")
    features = compare.features_of(candidate, pool, Compare(), accelerator)
    seen = []

    def match(xrays, seed):
        seen.append(frozenset(xrays.table["sha256"]))
        return SimpleNamespace(weight=np.where(xrays.label == 1, 1.0, 2.0))

    monkeypatch.setattr(compare, "match_properties", match)
    matched = compare._matched(Compare(match="properties"))
    for _ in range(2):  # of two encoders the second asks for nothing new
        compare.probe(features, pool, fold, Compare(), matched)
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
FOLD = np.arange(40) // 8  # eight X-rays each


def answers(logit):
    group = [f"x{i}" for i in range(40)]
    columns = {"path": group, "sha256": group, "label": LABEL, "group": group, "source": "made", "fold": FOLD}
    return pd.DataFrame(columns | {"logit": np.float64(logit)})


def judge(tables, **options):
    aurocs = {name: [differences.of_folds(files)] for name, files in tables.items()}
    return compare.judge(tables, compare.in_one_table(aurocs), "Title", CERTAINTY, **options)


KNOWS, GUESSES = 2.0 * LABEL - 1, np.tile([1, 1, -1, -1], 10)
# Of the four fractured X-rays of the first fold one is ranked last: the AUROC of that fold is 12 / 16.
NEARLY = KNOWS - 9.0 * (np.arange(40) == 1)


@pytest.fixture(scope="module")
def judged():
    return judge({"nearly": answers(NEARLY), "a/guesses": answers(GUESSES)})


def test_table_by_hand(judged):
    table = judged.tables["comparison.csv"].set_index("model")
    assert table.index.tolist() == ["nearly", "a/guesses"]
    for metric in compare.METRICS:
        assert table.loc["a/guesses", metric] == pytest.approx(0.5)
    assert np.isnan(table.loc["nearly", "auroc_difference"])
    row = table.loc["a/guesses"]
    # Guesses: 1/2 in each fold. So the differences are -1/4 and four times -1/2: mean -0.45, sd √(4 · 0.05² + 0.2²)/2 = 0.1118.
    reach = 2.776445 * 0.111803 * np.sqrt(1 / 5 + 1 / 4)  # Student's 97.5 % quantile for 4 degrees of freedom
    ends = [row[f"auroc_difference{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([-0.45, -0.45 - reach, -0.45 + reach], abs=1e-6)
    assert row["auroc_difference_verdict"] == "worse"
    assert judged.metrics["a_guesses/xray/auroc_difference"] == pytest.approx(-0.45)
    assert judged.metrics["a_guesses/xray/auroc_difference_p_holm"] == pytest.approx(0.0038, abs=1e-4)
    assert "nearly/xray/auroc_difference" not in judged.metrics
    assert set(judged.tables) == {"comparison.csv", "folds.csv", "predictions/nearly.csv", "predictions/a_guesses.csv"}
    assert judged.tables["folds.csv"]["nearly"].tolist() == pytest.approx([0.75, 1, 1, 1, 1])
    assert set(judged.figures) == {"comparison.png"}


def test_references_are_allowed_for_by_themselves():
    rng = np.random.default_rng(0)
    tables = {name: answers(KNOWS + 2 * rng.normal(size=40)) for name in ("a", "b", "file", "hog")}
    alone = judge({name: tables[name] for name in ("a", "b")}).tables["comparison.csv"].set_index("model")
    beside = judge(tables, encoders=["a", "b"]).tables["comparison.csv"].set_index("model")
    together = judge(tables).tables["comparison.csv"].set_index("model")
    p = [table.loc["b", "auroc_difference_p_holm"] for table in (alone, beside, together)]
    assert p[0] == p[1] < p[2]


def test_where_sources_are_held_out_the_difference_is_over_those_that_are_judged_alone():
    whole = builders.of_sources({"A": (6, 6), "B": (6, 6), "C": (6, 6), "D": (3, 0)})
    held = HeldOutSources.of(builders.split_dataset(whole, validation=range(0, len(whole), 5), test=[]))
    rows, label = held.xrays.table, held.xrays.table["label"].to_numpy()
    rng = np.random.default_rng(0)
    tables = {
        "first": rows.assign(fold=held.fold, logit=rng.normal(size=len(rows))),
        "knows": rows.assign(fold=held.fold, logit=2.0 * label + rng.normal(size=len(rows)) / 9),
    }
    found = compare.judge_sources(tables, tables, held, CERTAINTY)
    measured = found.tables["held_out_sources/comparison.csv"].pivot(index="source", columns="model", values="auroc")
    by_hand = (measured["knows"] - measured["first"])[["A", "B", "C"]]
    row = found.tables["held_out_sources/differences.csv"].set_index("model").loc["knows"]
    reach = 4.302653 * by_hand.std() * np.sqrt(1 / 3 + 1 / (held.n_folds - 1))  # Student's for two degrees of freedom
    assert [row["difference"], row["low"]] == pytest.approx([by_hand.mean(), by_hand.mean() - reach], abs=1e-6)
    assert found.metrics["held_out_sources/xray/auroc_difference/knows"] == row["difference"]
    assert compare.sources_digest(found).startswith("AUROC minus the first's: mean of sources held out")


def test_every_dealing_is_another_and_the_first_is_that_of_the_seed(large):
    pool = joined(large)
    first, *others = compare.dealings(pool.table, Compare(n_folds=3, n_repeats=4, seed=5))
    assert first.tolist() == assign(pool.table, 3, seed=5).tolist()
    assert len({tuple(fold) for fold in (first, *others)}) == 4


def test_xrays_of_a_patient_are_drawn_as_one(judged):
    one = {name: answers(logit) for name, logit in (("guesses", GUESSES), ("nearly", NEARLY))}
    twice = {
        name: pd.concat([files, files.assign(group=[f"y{i}" for i in range(40)])], ignore_index=True)
        for name, files in one.items()
    }
    known = {name: table.assign(patient="x" + table["group"].str[1:]) for name, table in twice.items()}
    found = {
        kind: judge(tables).tables["comparison.csv"].set_index("model")
        for kind, tables in (("one", one), ("known", known), ("unknown", twice))
    }
    pd.testing.assert_frame_equal(found["known"], found["one"])
    width = {
        kind: table.loc["guesses", "auroc_high"] - table.loc["guesses", "auroc_low"] for kind, table in found.items()
    }
    assert width["unknown"] < 0.85 * width["known"]


def test_digest_has_a_line_for_each_and_says_how_they_were_told_apart(judged):
    told, *_, last = compare.digest(judged).splitlines()
    assert told.startswith(
        "AUROC minus the first's: mean over 5 folds; interval and p by the corrected resampled t test, p by Holm"
    )
    assert last.startswith("a/guesses")
    assert "-0.450 [-0.658, -0.242]" in last
    assert last.split()[-2:] == ["0.004", "worse"]
    equal = compare.digest(judge({"a": answers(NEARLY), "b": answers(NEARLY)})).splitlines()
    assert equal[-1].endswith("+0.000 [+0.000, +0.000]    1.000  not told apart")


def test_references_are_finite(large):
    """Test X-rays cannot be read: `large` has none."""
    pool = joined(large)
    found = references.out_of_fold(pool, assign(pool.table, 2, seed=0), seed=0)
    assert set(found) == {references.FILE_PROPERTIES, references.GRADIENT_HISTOGRAMS}
    assert all(np.isfinite(predictions["logit"]).all() for predictions in found.values())
