"""Neighbours are those that comparing with all finds, as far as their cells are looked into; nothing is looked up twice or lost."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fracture_mae.data.copies import inverted_file
from fracture_mae.data.copies.inverted_file import NOTHING, InvertedFile, places

N = 600


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(params=[2048, 4], ids=["centres compared", "centres in coarser cells"])
def small_cells(monkeypatch, request):
    monkeypatch.setattr(inverted_file, "_CELL", 6)
    monkeypatch.setattr(inverted_file, "_FEW", request.param)
    return request.param == 4


def drawn(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4)).astype(np.uint8)


def squared_distances(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """All of them, by definition."""
    return ((queries[:, None].astype(np.int64) - vectors[None]) ** 2).sum(axis=2)


def test_with_all_cells_looked_into_neighbours_are_the_nearest_of_all(pool, monkeypatch, small_cells):
    monkeypatch.setattr(inverted_file, "_PROBED_CENTRES", N)
    vectors, queries = drawn(0), drawn(1, 50)
    made = InvertedFile(vectors.copy(), pool, np.random.default_rng(0))
    assert (made._coarser is not None) == small_cells
    found = made.nearest(queries, 5, probed=N)
    np.testing.assert_array_equal(found >> 32, np.sort(squared_distances(queries, vectors), axis=1)[:, :5])
    at = made._vectors[places(found)]
    np.testing.assert_array_equal(((queries[:, None].astype(np.int64) - at) ** 2).sum(axis=2), found >> 32)


def test_a_vector_is_its_own_nearest_neighbour_in_the_one_cell_looked_into(pool, small_cells):
    """What was put into a cell is looked for there too, also where the nearest centre is only nearly found."""
    vectors = drawn(0)
    along = np.arange(N)
    made = InvertedFile(vectors.copy(), pool, np.random.default_rng(0), along)
    found = made.nearest(vectors, 1, probed=1)
    assert (found >> 32 == 0).all()
    np.testing.assert_array_equal(vectors[along[places(found[:, 0])]], vectors)
    assert sorted(along) == list(range(N))


def test_each_vector_lies_in_the_cell_of_its_nearest_centre(pool, monkeypatch, small_cells):
    monkeypatch.setattr(inverted_file, "_PROBED_CENTRES", N)
    made = InvertedFile(drawn(0), pool, np.random.default_rng(0))
    assert made._starts[0] == 0
    assert made._starts[-2:].tolist() == [N, N]  # the last one is the empty cell of centres that are not there
    cell = np.repeat(np.arange(made.n_cells), np.diff(made._starts)[: made.n_cells])
    distance = squared_distances(made._vectors, made._centres)
    np.testing.assert_array_equal(distance[np.arange(N), cell], distance.min(axis=1))


def test_where_fewer_are_looked_at_than_asked_for_nothing_stands_in_their_place(pool, small_cells):
    """Of 600 vectors in 100 cells one cell never holds 50, nor do the coarser cells looked into hold 100 centres."""
    made = InvertedFile(drawn(0), pool, np.random.default_rng(0))
    found = made.nearest(drawn(1, 20), 50, probed=1)
    assert (found[:, -1] == NOTHING).all()
    assert (places(found)[:, -1] == -1).all()
    assert (found[:, 0] < NOTHING).all()
    np.testing.assert_array_equal(found, np.sort(found, axis=1))
    cells = made.nearest_cells(drawn(1, 20), made.n_cells)
    assert (cells == made.n_cells).any() == small_cells
    made.nearest(drawn(1, 20), 5, probed=made.n_cells)  # and to look into cells that are not there is no error


def test_equal_vectors_are_no_error(pool, small_cells):
    made = InvertedFile(np.full((N, 4), 7, np.uint8), pool, np.random.default_rng(0))
    assert made.n_cells == 1
    assert (made.nearest(np.full((1, 4), 7, np.uint8), 5, probed=6) >> 32).tolist() == [[0] * 5]
