"""X-rays of which each became three squares: where they stand, what of the boxes each shows, and who looks at which."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from fracture_mae.data import loading
from fracture_mae.data.types import XRays
from fracture_mae.evaluation import frozen_features
from fracture_mae.evaluation.prediction import features, predict
from fracture_mae.models.classifier import from_mae
from fracture_mae.models.encoders import MaeEncoder
from fracture_mae.training.batches import gather, pixels_of
from fracture_mae.training.loss_weights import LossWeights
from fracture_mae.training.trainer import drawn_square
from tests import builders

CPU = torch.device("cpu")


@pytest.fixture
def two():
    """Two files of 32 × 96 pixels, the first with a box in its lower end; each square is of one grey, 0 to 5."""
    pixels = np.repeat(np.arange(6, dtype=np.uint8), 32 * 32).reshape(6, 32, 32)
    table = builders.xrays("two", [1, 1]).table.assign(
        preprocess="film_squares", height=96, width=32, top=-32.0, step_x=0.0, step_y=-32.0, boxes=["0 0.75 0.5 1", ""]
    )
    return XRays("train", table, pixels, np.array([1, 4]))


def test_a_file_is_shown_by_its_middle_square_and_told_apart_into_all(two):
    assert two.n_squares == 3
    assert two.images(np.array([0, 1]))[:, 0, 0].tolist() == [1, 4]
    apart = two.squares()
    assert (len(apart), apart.n_squares) == (6, 1)
    assert apart.images(np.arange(6))[:, 0, 0].tolist() == list(range(6))
    assert apart.table["path"].tolist() == [path for path in two.table["path"] for _ in range(3)]
    assert apart.squares() is apart
    plain = builders.xrays("plain", [0, 1])
    assert plain.squares() is plain


def test_boxes_follow_into_the_square_that_shows_them(two):
    """Pixels 72 to 96 of 96 are 8 to 32 of 32 in the last square."""
    apart = two.squares()
    assert_allclose(apart.boxes[2, 0], [0, 0.25, 0.5, 1], atol=1e-6)
    assert apart.has_boxes.tolist() == [False, False, True, False, False, False]
    assert two.has_boxes.tolist() == [False, False]


def test_a_square_without_the_fracture_is_not_labelled_as_broken(two):
    """Where nothing is known of the second file's fracture, each of its squares may show it."""
    apart = two.squares()
    assert apart.shown_label.tolist() == [0, 0, 1, 1, 1, 1]
    assert two.shown_label.tolist() == [1, 1]
    batch = gather(apart, pixels_of(apart, CPU), np.array([1, 2, 3])).batch()
    assert batch.label.tolist() == [0, 1, 1]


def test_each_visit_shows_a_square_that_is_drawn():
    order = drawn_square(lambda rng: np.repeat([4, 7], 600), 3)
    visits = order(np.random.default_rng(0))
    assert (visits // 3).tolist() == [4] * 600 + [7] * 600
    assert np.bincount(visits - 12)[:3].min() > 150
    assert LossWeights(np.array([1.0, 2.0]), np.array([1.0, 4.0])).repeated(3).weight.tolist() == [1, 1, 1, 2, 2, 2]


def test_answers_are_the_mean_over_squares(tiny_mae, two, accelerator):
    options = {"batch_size": 4, "accelerator": accelerator}
    noise = np.random.default_rng(0).integers(0, 255, two.pixels.shape, dtype=np.uint8)
    two = XRays("train", two.table, noise, two.rows)
    classifier = from_mae(tiny_mae, pool="mean").eval()
    answers = predict(classifier, two, **options)
    alone = predict(classifier, two.squares(), **options)["logit"].to_numpy().reshape(2, 3)
    assert answers["path"].tolist() == two.table["path"].tolist()
    assert_allclose(answers["logit"], alone.mean(axis=1), atol=1e-6)
    assert np.ptp(alone) > 1e-4
    found = features(classifier, two, **options)
    assert_allclose(found, features(classifier, two.squares(), **options).reshape(2, 3, -1).mean(axis=1), atol=1e-6)


def test_frozen_features_are_means_too(tiny_mae, two, accelerator, tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 255, two.pixels.shape, dtype=np.uint8)
    two = XRays("train", two.table, noise, two.rows)
    encoder = frozen_features.PooledEncoder(MaeEncoder.of(tiny_mae))
    found = frozen_features.features(encoder, two, batch_size=4, accelerator=accelerator)["mean"]
    with torch.inference_mode():
        alone = encoder.eval()(torch.from_numpy(noise)[:, None].float() / 255)["mean"].numpy()
    assert_allclose(found, alone.reshape(2, 3, -1).mean(axis=1), atol=1e-5)


def test_files_become_squares_on_their_way_through_the_cache(tmp_path, monkeypatch):
    """Three squares of each, also when files are added later; the box of a marked spot follows to where the spot is seen."""
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        picture = rng.normal(110, 12, (240, 80)).clip(0, 255).astype(np.uint8)
        if number % 2:
            picture[200:220, 30:50] = 255
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), picture)
        box = {"x0": 30, "y0": 200, "x1": 50, "y1": 220} if number % 2 else {}
        rows.append({"path": str(path), "label": "fractured" if number % 2 else "whole"} | box)
    for n in (12, 16):
        pd.DataFrame(rows[:n]).to_csv(tmp_path / "xrays.csv", index=False)
        dataset = loading.load(
            str(tmp_path / "xrays.csv"), image_size=32, preprocess="film_squares", group_by="names", num_workers=1
        )
        for side in dataset.sides:
            apart = side.squares()
            assert len(apart) == 3 * len(side)
            assert (apart.has_boxes == ((apart.table["label"] == 1) & (apart.table["square"] == 2))).all()
            for position in np.flatnonzero(apart.has_boxes):
                left, top, right, bottom = (apart.boxes[position, 0] * 32).round().astype(int)
                image = apart.images(np.array([position]))[0]
                assert image[top + 1 : bottom - 1, left + 1 : right - 1].mean() > image.mean() + 20


def test_a_served_classifier_answers_as_in_evaluation(tiny_mae, tmp_path, accelerator, monkeypatch):
    from fracture_mae.serving.limits import Limits
    from fracture_mae.serving.models import _answers, _pixels

    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    tiny_mae.preprocess = "film_squares"
    classifier = from_mae(tiny_mae, pool="mean").eval()
    paths = []
    for number, label in enumerate(["fractured", "whole"] * 6):
        picture = np.random.default_rng(number).normal(110, 30, (150, 60)).clip(0, 255).astype(np.uint8)
        paths.append((str(tmp_path / f"{number}.png"), label))
        cv2.imwrite(paths[-1][0], picture)
    pd.DataFrame(paths, columns=["path", "label"]).to_csv(tmp_path / "xrays.csv", index=False)
    dataset = loading.load(
        str(tmp_path / "xrays.csv"), image_size=32, preprocess="film_squares", group_by="names", num_workers=1
    )
    expected = predict(classifier, dataset.train, batch_size=4, accelerator=accelerator)
    images = pd.Series([base64.b64encode(Path(path).read_bytes()).decode() for path in expected["path"]])
    for column, logit in ((images, expected["logit"]), (images[:0], [])):
        pixels = _pixels(column, classifier, Limits.from_environment())
        assert_allclose(_answers(lambda batch: classifier(batch)[:, None], pixels)[:, 0], logit, atol=1e-5)
