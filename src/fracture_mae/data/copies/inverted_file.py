"""Nearest neighbours among very many short vectors of bytes, of which only a few are compared with each query."""

from collections import deque
from concurrent.futures import Executor

import cv2
import numpy as np

NOTHING = np.iinfo(np.int64).max  # in place of a neighbour that is not there
_CELL = 256  # vectors in a cell, on average
_FEW = 2048  # vectors that are all compared
_PROBED_CENTRES = 8  # coarser cells that are looked into for the nearest centres
_AT_ONCE = 2**16  # vectors whose nearest centres are looked for at once
_VECTORS, _CELLS = 4096, 64  # that a thread looks up at once


class InvertedFile:
    """Vectors in the cells of the nearest of some of them, the centres; a query is compared with what lies in the nearest cells.

    Where there are many centres, the nearest of these are found in the same way, in coarser cells (H. Jégou, M. Douze and C. Schmid,
    "Product quantization for nearest neighbor search", PAMI 2011, section IV; the vectors themselves instead of product codes).

    Args:
        vectors: uint8 [n, d]; kept, and sorted by cell in place, as a second array of all would double the memory.
        pool: for all of the work; the result does not depend on its size.
        rng: draws the centres.
        along: [n], sorted as the vectors are, in place.
    """

    def __init__(self, vectors: np.ndarray, pool: Executor, rng: np.random.Generator, along: np.ndarray | None = None):
        self._vectors, self._pool = vectors, pool
        centres = vectors[rng.choice(len(vectors), max(1, len(vectors) // _CELL), replace=False)]
        self._centres = np.unique(centres, axis=0)  # of equal ones all but one would have empty cells
        self._coarser = InvertedFile(self._centres, pool, rng) if len(self._centres) > _FEW else None
        cells = self.nearest_cells(vectors, 1)[:, 0]
        by_cell = np.argsort(cells, kind="stable")
        for column in (*vectors.T, *([] if along is None else [along])):
            column[:] = column[by_cell]
        # The cell after the last one is empty: it stands for a centre that is not there.
        self._starts = np.searchsorted(cells[by_cell], np.arange(self.n_cells + 2))

    @property
    def n_cells(self) -> int:
        return len(self._centres)

    def nearest(self, queries: np.ndarray, n: int, probed: int) -> np.ndarray:
        """The nearest vectors of each query, the nearest first.

        Args:
            queries: uint8 [m, d]; sorted by cell, so that each cell is read once for all of them.
            probed: cells that are looked into for each query.

        Returns:
            int64 [m, n], the squared distance · 2³² + the place of the vector in sorted order; NOTHING where fewer are in these cells.
        """
        cells = self.nearest_cells(queries, probed)
        found = np.full((cells.size, n), NOTHING)
        by_cell = np.argsort(cells, axis=None, kind="stable")
        asked, first = np.unique(cells.ravel()[by_cell], return_index=True)
        ends = np.append(first[1:], cells.size)

        def look(part: slice) -> None:
            for cell, a, b in zip(asked[part], first[part], ends[part], strict=True):
                start, end = self._starts[cell : cell + 2].tolist()
                rows, k = by_cell[a:b], min(n, end - start)
                if k:
                    mine = queries[rows // cells.shape[1]]
                    found[rows, :k] = _all_compared(mine, self._vectors[start:end], k) + start

        deque(self._pool.map(look, parts(len(asked), _CELLS)), maxlen=0)
        found = found.reshape(len(queries), -1)
        found.sort(axis=1)
        return found[:, :n]

    def nearest_cells(self, queries: np.ndarray, n: int) -> np.ndarray:
        """The cells of the centres nearest to each query, int32 [m, n], or fewer columns where there are fewer."""
        n = min(n, self.n_cells)
        if self._coarser is None:
            look = parts(len(queries), _VECTORS)
            found = self._pool.map(lambda part: places(_all_compared(queries[part], self._centres, n)), look)
        else:
            look = parts(len(queries), _AT_ONCE)
            found = (places(self._coarser.nearest(queries[part], n, _PROBED_CENTRES)) for part in look)
        return np.concatenate([np.where(each < 0, self.n_cells, each).astype(np.int32) for each in found])


def places(found: np.ndarray) -> np.ndarray:
    """Of neighbours as `InvertedFile.nearest` gives them, where they are in sorted order; -1: there is none."""
    return np.where(found < NOTHING, found & 0xFFFFFFFF, -1)


def parts(n: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover 0 to n."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _all_compared(queries: np.ndarray, vectors: np.ndarray, n: int) -> np.ndarray:
    squared, place = cv2.batchDistance(queries, vectors, cv2.CV_32S, normType=cv2.NORM_L2SQR, K=n)
    return (squared.astype(np.int64) << 32) + place
