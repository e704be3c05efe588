"""Candidates do not depend on how the work is cut up, and what is held for a picture does not depend on how many there are."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fracture_mae.data.copies import candidates, inverted_file, search
from fracture_mae.data.copies.candidates import Index
from fracture_mae.data.copies.keypoints import MAX_KEYPOINTS, Features, KeypointStore
from fracture_mae.data.synthetic.xray import xray

THUMBNAIL = np.zeros((1, 1), np.uint8)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def strangers(n: int, n_keypoints: int = 128) -> list[Features]:
    """Pictures whose descriptors are random, so that no two share any."""
    rng = np.random.default_rng(0)
    xy = np.zeros((n_keypoints, 2), np.float32)
    return [
        Features(xy, rng.gamma(0.5, 60, (n_keypoints, 128)).clip(0, 255).astype(np.uint8), THUMBNAIL, (1, 1))
        for _ in range(n)
    ]


def with_copies(originals: list[Features]) -> list[Features]:
    """Each picture, then each with every gradient a little changed."""
    rng = np.random.default_rng(1)

    def changed(each: Features) -> Features:
        noise = rng.normal(0, 8, each.descriptors.shape)
        return each._replace(descriptors=(each.descriptors + noise).clip(0, 255).astype(np.uint8))

    return originals + [changed(each) for each in originals]


@pytest.mark.parametrize("few", [4, 40])
def test_a_copy_is_the_best_candidate_whether_all_centres_are_compared_or_not(pool, monkeypatch, few):
    monkeypatch.setattr(inverted_file, "_FEW", few)
    monkeypatch.setattr(inverted_file, "_CELL", 8)
    index = Index(with_copies(strangers(40)), pool)
    found = list(index.candidates(range(80)))
    best = [max(mine, key=lambda candidate: candidate.votes) for mine in found]
    assert [(c.a, c.b, c.flipped, c.negative) for c in best] == [(i, (i + 40) % 80, False, False) for i in range(80)]


@pytest.mark.parametrize(
    ("module", "name", "size"),
    [
        *((candidates, "_BLOCK", size) for size in (1, 7)),
        *((inverted_file, *each) for each in (("_VECTORS", 50), ("_CELLS", 1), ("_AT_ONCE", 50))),
    ],
)
def test_candidates_do_not_depend_on_how_many_are_looked_for_at_once(pool, monkeypatch, module, name, size):
    monkeypatch.setattr(inverted_file, "_FEW", 2)
    features = with_copies(strangers(10, n_keypoints=100))
    expected = list(Index(features, pool).candidates(range(20)))
    monkeypatch.setattr(module, name, size)
    assert list(Index(features, pool).candidates(range(20))) == expected
    with ThreadPoolExecutor(1) as one:
        assert list(Index(features, one).candidates(range(20))) == expected


def test_links_do_not_depend_on_how_many_are_looked_for_at_once(monkeypatch):
    xrays = [xray(np.random.default_rng(seed), fractured=False, size=128) for seed in range(2)]
    pictures = {f"{i} {n}": np.rot90(picture, n).copy() for i, picture in enumerate(xrays) for n in range(3)}
    whole = search.find(pictures.__getitem__, list(pictures), num_workers=2)
    for module, name in ((candidates, "_BLOCK"), (inverted_file, "_VECTORS"), (inverted_file, "_CELLS")):
        monkeypatch.setattr(module, name, 1)
    assert search.find(pictures.__getitem__, list(pictures)[::-1], num_workers=1).equals(whole)
    assert len(whole) == 4


@pytest.mark.parametrize("n", range(1, 13))
def test_among_a_handful_of_cells_a_copy_is_found_as_well(pool, n):
    """With 256 vectors in a cell there are as many as pictures in the first half."""
    index = Index(with_copies(strangers(n)), pool)
    assert index._file.n_cells == n
    for mine in index.candidates(range(2 * n)):
        best = max(mine, key=lambda candidate: candidate.votes)
        assert (best.b, best.flipped, best.negative) == ((best.a + n) % (2 * n), False, False)


def test_few_vectors_are_no_error(pool):
    (mine, *_) = Index(strangers(2, n_keypoints=1), pool).candidates([0])
    assert mine == []


def test_a_further_picture_takes_less_than_five_kilobytes_of_the_index(pool):
    """128 vectors of 32 bytes, the position of the picture beside each, and a centre of 32 bytes for 256 of them."""

    def bytes_of(owner: object) -> int:
        return sum(value.nbytes for value in vars(owner).values() if isinstance(value, np.ndarray))

    def held(n: int) -> int:
        index = Index(strangers(n), pool)
        return bytes_of(index) + bytes_of(index._file)

    assert 128 * 36 <= (held(100) - held(20)) / 80 <= 4_800


def test_described_pictures_hold_numbers_alone(tmp_path, pool):
    """Their keypoints and thumbnails, 100 kB each, stay in the file: no array of features is a member, or a view of a mapped file."""
    store = KeypointStore(tmp_path / "features.bin")
    pictures = {
        f"{seed}": cv2.resize(xray(np.random.default_rng(seed), fractured=False, size=96), (64, 64))
        for seed in range(6)
    }
    described = store.add(pictures.__getitem__, list(pictures), pool)
    held = sum(value.nbytes for value in vars(described).values() if isinstance(value, np.ndarray))
    assert held <= 20 * len(pictures)
    one = described[3]
    assert len(one.xy) == described.n_keypoints[3] <= MAX_KEYPOINTS
    assert described.take([3, 1])[0].thumbnail.tolist() == one.thumbnail.tolist()
    before = one.thumbnail.copy()
    with open(store.file, "r+b") as file:
        file.write(bytes(store.file.stat().st_size))
    np.testing.assert_array_equal(one.thumbnail, before)  # a view of the mapped file would be black by now
