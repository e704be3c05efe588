from dataclasses import replace

import numpy as np
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import own_data, properties, references
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import features, predict
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from tests import builders


@pytest.fixture
def network(tiny_mae):
    return classifier_model.from_mae(tiny_mae, pool="mean", seed=0)


@pytest.fixture
def made(dataset, network, accelerator):
    validation = predict(network, dataset.validation, batch_size=4, accelerator=accelerator)
    return OwnData.of(network, dataset, ChosenOn(validation), batch_size=4, accelerator=accelerator, seed=0)


def test_what_is_kept_comes_back(made, tmp_path):
    made.save(tmp_path)
    back = OwnData.load(tmp_path)
    for name in ("validation", "properties"):
        assert getattr(back, name).equals(getattr(made, name).astype(getattr(back, name).dtypes))
    for name in ("label", "group", "original", "gradients", "features", "features_of", "features_label"):
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))
    assert OwnData.load(tmp_path / "elsewhere") is None


def test_where_thresholds_were_chosen_comes_back(dataset, network, accelerator, tmp_path):
    table = predict(network, dataset.validation, batch_size=4, accelerator=accelerator)
    pooled = table.assign(probability=np.linspace(0.1, 0.9, len(table)), fold=1)
    chosen_on = ChosenOn.out_of_fold(pooled)
    OwnData.of(network, dataset, chosen_on, batch_size=4, accelerator=accelerator, seed=0).save(tmp_path)
    back = OwnData.load(tmp_path).chosen_on
    assert (back.place, back.calibrated) == ("out of fold", True)
    decision = Decision(("healthy", "broken"), slope=1 / 3)  # has no say: each fold had its own
    np.testing.assert_allclose(back.levels(decision)["image"]["probability"], pooled["probability"])
    assert back.files["patient"].tolist() == table["patient"].tolist()


def test_of_earlier_versions_validation_is_what_thresholds_were_chosen_on(made, tmp_path):
    made.save(tmp_path)
    with np.load(tmp_path / "own_data.npz") as stored:
        kept = {
            name: value
            for name, value in stored.items()
            if name not in ("place", "calibrated", "validation_patient", "features_of", "features_label")
        }
    np.savez_compressed(tmp_path / "own_data.npz", **kept)
    back = OwnData.load(tmp_path).chosen_on
    assert (back.place, back.calibrated) == ("validation", False)
    assert list(back.files) == ["group", "label", "logit"]
    assert OwnData.load(tmp_path).features_label is None


def test_spacing_is_the_median_distance_to_the_nearest_other_one(made):
    """Of 0, 1, 3 and 10 the nearest others are 1, 1, 2 and 7 away, in deviations of the four."""
    line = np.array([[0.0], [1], [3], [10]], np.float32)
    assert replace(made, features=line).spacing == pytest.approx(1.5 / line.std())
    assert np.isnan(replace(made, features=line[:1]).spacing)
    assert np.isnan(replace(made, features=line * 0).spacing)


def test_references_are_those_that_an_evaluation_fits_on_the_training_xrays(made, dataset, tmp_path):
    """Bit by bit for the forest; to rounding for the histograms, whose scaling and regression are one map here."""
    made.save(tmp_path)
    found = OwnData.load(tmp_path).reference_logits(dataset.test, seed=3)
    expected = references.fit_and_predict(dataset, 3)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found[references.FILE_PROPERTIES], expected[references.FILE_PROPERTIES]["test"])
    name = references.GRADIENT_HISTOGRAMS
    np.testing.assert_allclose(found[name], expected[name]["test"], atol=1e-5)


def test_of_each_xray_one_file_is_kept_and_of_many_xrays_some(made, dataset, network, accelerator, monkeypatch):
    assert made.original.sum() == len(set(dataset.train.group)) == len(made.features) == 6
    assert made.properties.shape == (9, len([*properties.SIZE, *properties.ENCODING, *properties.BORDER]))
    monkeypatch.setattr(own_data, "_MOST_FEATURES", 4)
    options = {"batch_size": 4, "accelerator": accelerator}
    fewer = OwnData.of(network, dataset, made.chosen_on, seed=1, **options)
    assert len(fewer.features) == 4
    assert {tuple(row) for row in fewer.features.round(4)} < {tuple(row) for row in made.features.round(4)}


def test_the_nearest_training_xrays_are_named_by_their_content(made, dataset, network, accelerator, tmp_path):
    made.save(tmp_path)
    back = OwnData.load(tmp_path)
    assert set(back.features_of) <= set(dataset.train.table["sha256"])
    rows, distance = back.nearest(made.features[[4, 2]], 3)
    assert rows[:, 0].tolist() == [4, 2]  # each is its own nearest one
    assert (np.diff(distance, axis=1) >= 0).all()
    label = dict(zip(dataset.train.table["sha256"], dataset.train.label, strict=True))
    assert back.features_label.tolist() == [label[content] for content in back.features_of]
    at = dataset.train.table["sha256"].tolist().index(back.features_of[4])
    seen = features(network, dataset.train.subset(np.array([at])), batch_size=4, accelerator=accelerator)
    np.testing.assert_allclose(seen[0], back.features[4], atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip"])
def test_damage_is_a_sentence(tmp_path, content):
    (tmp_path / "own_data.npz").write_bytes(content)
    with pytest.raises(FractureMaeError, match=r"own_data\.npz, what the classifier keeps of its own data, is damaged"):
        OwnData.load(tmp_path)


def test_a_part_that_is_missing_is_damage(made, tmp_path):
    np.savez(tmp_path / "own_data.npz", label=made.label)
    with pytest.raises(FractureMaeError, match="is damaged"):
        OwnData.load(tmp_path)


def test_features_are_what_the_head_reads(made, dataset, network, accelerator):
    """Fed to norm and head they give the logits of the same X-rays, fp32, one thread."""
    import torch

    from fracture_mae.data.copies.originals import one_of_each

    logits = predict(network, one_of_each(dataset.train), batch_size=4, accelerator=accelerator)["logit"]
    with torch.inference_mode():
        again = network.head(network.norm(torch.from_numpy(made.features))).squeeze(1)
    np.testing.assert_allclose(again.numpy(), logits, atol=1e-5)


def test_builders_train_has_copies():
    assert len(set(builders.training_xrays().group)) < len(builders.training_xrays())
