import hashlib

import cv2
import numpy as np
import pytest

from fracture_mae.data.reading import streaming
from fracture_mae.data.reading.decoding import decode
from fracture_mae.data.reading.preprocessing import preprocess


@pytest.fixture
def paths(tmp_path):
    """Seven pictures, a text in the place of the third and nothing in that of the fifth."""
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for file in files:
        cv2.imwrite(str(file), rng.integers(0, 256, (40, 30), np.uint8))
    files[2].write_text("no picture")
    files[4].unlink()
    return [str(file) for file in files]


@pytest.mark.parametrize("num_processes", [0, 2])
def test_files_come_in_their_order_each_with_its_squares_or_its_reason(paths, num_processes):
    batches = list(streaming.read(paths, 32, "film_squares", batch_size=3, num_processes=num_processes))
    assert [len(batch.sha256) for batch in batches] == [3, 3, 1]
    reason = [text for batch in batches for text in batch.reason]
    assert [bool(text) for text in reason] == [number in (2, 4) for number in range(7)]
    assert reason[4] == "it cannot be read: No such file or directory"
    sha256 = [text for batch in batches for text in batch.sha256]
    assert sha256[4] == ""
    read = [number for number in range(7) if number not in (2, 4)]
    squares = np.concatenate([batch.squares.numpy() for batch in batches])
    for number, found in zip(read, squares, strict=True):
        with open(paths[number], "rb") as file:
            content = file.read()
        assert sha256[number] == hashlib.sha256(content).hexdigest()
        assert np.array_equal(found, preprocess(decode(content), 32, "film_squares")[0])


def test_no_files_are_no_batches():
    assert list(streaming.read([], 32, "letterbox", batch_size=4)) == []
