import cv2
import numpy as np
import pytest

from fracture_mae.data.reading.decoding import letterbox
from fracture_mae.data.types import XRays
from fracture_mae.evaluation import properties
from tests import builders


def pictures(images, **columns):
    """X-rays that are these pictures [n, side, side], with columns of the table replaced."""
    xrays = builders.xrays("train", np.arange(len(images)) % 2)
    return XRays("train", xrays.table.assign(**columns), np.stack(images).astype(np.uint8), xrays.rows)


def test_file_and_border_by_hand():
    tall = np.zeros((32, 32))
    tall[:, 8:24] = 255  # a white picture of 64 × 32 pixels, between black bars that letterboxing added
    framed = np.full((32, 32), 4)  # grey in a nearly black frame whose top is white
    framed[1:-1, 1:-1] = 100
    framed[0] = 255
    found = properties.of_files(pictures([tall, framed], bytes=4096, height=[64, 32], width=32))
    assert list(found) == [*properties.SIZE, *properties.ENCODING, *properties.BORDER]
    found = found[[*properties.SIZE, *properties.BORDER]].to_numpy()
    np.testing.assert_allclose(found[0], [4096, 64, 32, 0.5, 2, 1, 0, 1, 0])
    edge = np.repeat([255, 4], [32 + 2, 3 * 32 - 2]) / 255  # corners count twice
    corners = (2 * (3 * 255 + 2 * 4 + 4 * 100) + 2 * (5 * 4 + 4 * 100)) / 4 / 9 / 255
    assert found[1] == pytest.approx([4096, 32, 32, 1, 4, edge.mean(), edge.std(), corners, (2 * 31 + 30) / 32**2])


def test_encoding_as_numbers():
    columns = {"format": ["JPEG", "GIF"], "channels": [3, 1], "bit_depth": [8, 16], "jpeg_quality": [75.0, 101.0]}
    found = properties.of_files(pictures(np.zeros((2, 32, 32)), **columns))
    assert found[list(properties.ENCODING)].to_numpy().tolist() == [[0, 3, 8, 75, 0], [5, 1, 16, 101, 0]]


def test_proportions_can_be_seen_though_the_file_is_not_told():
    noise = np.random.default_rng(0).integers(20, 200, (60, 30), dtype=np.uint8)
    found = properties.visible(pictures([letterbox(noise, 32)[0], letterbox(noise.T, 32)[0]]))
    assert list(found) == list(properties.VISIBLE)
    assert found["visible aspect ratio"].tolist() == [0.5, 2]
    assert found["black share"].tolist() == [0, 0]  # bars are no part of the picture


def test_small_pictures_have_less_detail():
    sharp = np.random.default_rng(0).integers(20, 200, (32, 32), dtype=np.uint8)
    coarse = cv2.resize(sharp[:8, :8], (32, 32), interpolation=cv2.INTER_LINEAR)
    found = properties.visible(pictures([sharp, coarse]))
    assert found.loc[0, "fine detail"] > 4 * found.loc[1, "fine detail"]
    assert found.loc[0, "sharpness"] > found.loc[1, "sharpness"]


def test_a_black_picture_has_properties_too():
    found = properties.visible(pictures(np.zeros((2, 32, 32))))
    assert found.iloc[0].tolist() == [1, 0, 0, 0, 1, 0, 0]
