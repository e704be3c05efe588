"""Which pictures may show the same X-ray: those that share many local features, found without comparing all pairs."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from itertools import pairwise, product
from typing import NamedTuple

import cv2
import numpy as np
from sklearn.decomposition import PCA

from fracture_mae.data.copies.keypoints import Features, mirror_descriptors, negate_descriptors, root_sift

_KEYPOINTS = 128  # of each picture, the strongest, that are found
_QUERIES = 96  # of them that are looked for
_DIMENSIONS = 32  # of a descriptor after PCA, which keeps 87 % of the variance
_PCA_PICTURES = 1000  # that PCA is fitted on
_CELL = 256  # vectors in a cell, on average
# Of 500 strongly changed copies among 20,000 files, 492 are candidates; with 3 cells and 32 leaves 446, with 12 and 128 499.
_PROBED = 6  # cells that are looked into for each query
_FEW_CELLS = 4000  # whose centres are all compared, which takes less time than trees
# FLANN's randomised k-d trees, over the centres of more cells; among a handful of centres they do not find as many as are asked for.
_FOREST = {"algorithm": 1, "trees": 4}
_SEARCH = {"checks": 64}  # leaves visited for each vector
_NEIGHBOURS = 10
_MIN_VOTES = 3.0  # found copies had 3.5 or more of the queries
_CANDIDATES = 10  # for each picture, as it is and mirrored
_NEGATIVES = 2  # for its negative: there, hardly any stranger is like it
_BLOCK = 1024  # pictures that are looked for at once: their queries are sorted by cell, so that each is read once
_WAYS = list(product((False, True), repeat=2))  # mirrored or not, as a negative or not
_VECTORS, _CELLS = 4096, 64  # that a thread looks up at once
_NOTHING = np.iinfo(np.int64).max


class Candidate(NamedTuple):
    """Two pictures, by their positions, that share features."""

    votes: float
    a: int
    b: int
    flipped: bool  # b is to be mirrored left to right
    negative: bool  # b is to be negated


class Index:
    """An inverted file over the descriptors of pictures: each is kept as _DIMENSIONS bytes in the cell of the nearest of many centres.

    A query is compared with what lies in the few cells nearest to it (H. Jégou, M. Douze and C. Schmid, "Product quantization for
    nearest neighbor search", PAMI 2011, section IV; bytes of projected values instead of product codes). A picture takes 5 kB.

    Args:
        features: of the pictures, each with some keypoints; read again whenever they are needed.
        pool: for all of the work; the result does not depend on its size.
    """

    def __init__(self, features: Sequence[Features], pool: Executor):
        self._features, self._pool = features, pool
        rng = np.random.default_rng(0)
        sample = rng.permutation(len(features))[:_PCA_PICTURES].tolist()
        roots = root_sift(np.concatenate([features[i].descriptors[:_KEYPOINTS] for i in sample]))
        pca = PCA(min(_DIMENSIONS, len(roots))).fit(roots)
        self._mean, self._axes, self._step = pca.mean_, pca.components_.T, 1.0
        self._step = np.abs(self._projected(roots)).max() / 127
        codes, owner = self._encode_all()
        self._centres = codes[rng.choice(len(codes), max(1, len(codes) // _CELL), replace=False)]
        self._forest = None
        if len(self._centres) > _FEW_CELLS:
            cv2.setRNGSeed(0)
            self._planted = self._centres.astype(np.float32)
            self._forest = cv2.flann_Index(self._planted, _FOREST)  # it only points into them
        cells = self._nearest_cells(codes, 1)[:, 0]
        by_cell = np.argsort(cells, kind="stable")
        for column in codes.T:  # in place: a second array of all codes would double the memory
            column[:] = column[by_cell]
        self._codes, self._owner = codes, owner[by_cell]
        self._starts = np.searchsorted(cells[by_cell], np.arange(len(self._centres) + 1))

    def candidates(self, positions: Sequence[int]) -> Iterator[list[Candidate]]:
        """Of each of these pictures, those that share most with it: as it is, mirrored, as its negative, and both."""
        for part in _parts(len(positions), _BLOCK):
            block = positions[part]
            queries = list(self._pool.map(self._queries, block))
            ends = np.cumsum([0, *map(len, queries)])
            nearest = self._nearest(np.concatenate(queries))
            yield from self._pool.map(self._ranked, block, (nearest[a:b] for a, b in pairwise(ends)))

    def _projected(self, roots: np.ndarray) -> np.ndarray:
        return (roots - self._mean) @ self._axes

    def _encode(self, descriptors: np.ndarray) -> np.ndarray:
        """Descriptors (n, 128) as bytes (n, _DIMENSIONS), as far from each other as they are, in steps."""
        steps = np.round(self._projected(root_sift(descriptors)) / self._step)
        return np.clip(steps + 128, 0, 255).astype(np.uint8)

    def _encode_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes of all keypoints that are found, and the position of the picture that each is of."""
        n = len(self._features)
        codes = np.empty((n * _KEYPOINTS, self._axes.shape[1]), np.uint8)  # what is not filled takes no memory
        n_codes, filled = np.empty(n, np.int64), 0

        def encode(position: int) -> np.ndarray:
            return self._encode(self._features[position].descriptors[:_KEYPOINTS])

        for part in _parts(n, _BLOCK):
            for position, mine in enumerate(self._pool.map(encode, range(n)[part]), part.start):
                codes[filled : filled + len(mine)] = mine
                n_codes[position], filled = len(mine), filled + len(mine)
        return codes[:filled], np.repeat(np.arange(n, dtype=np.int32), n_codes)

    def _nearest_cells(self, codes: np.ndarray, n: int) -> np.ndarray:
        """The cells of the centres nearest to each code, (len(codes), n) int32, or fewer columns where there are fewer."""
        n = min(n, len(self._centres))

        def look(part: slice) -> np.ndarray:
            if self._forest is None:
                return cv2.batchDistance(codes[part], self._centres, cv2.CV_32S, normType=cv2.NORM_L2SQR, K=n)[1]
            return self._forest.knnSearch(codes[part].astype(np.float32), n, params=_SEARCH)[0]

        return np.concatenate(list(self._pool.map(look, _parts(len(codes), _VECTORS))))

    def _queries(self, position: int) -> np.ndarray:
        """Codes of what is looked for, of each way in turn."""
        descriptors = self._features[position].descriptors[:_QUERIES]
        ways = []
        for flipped, negative in _WAYS:
            way = mirror_descriptors(descriptors) if flipped else descriptors
            ways.append(negate_descriptors(way) if negative else way)
        return self._encode(np.concatenate(ways))

    def _nearest(self, queries: np.ndarray) -> np.ndarray:
        """The nearest codes of each query, (n, _NEIGHBOURS) int64: the squared distance · 2³² + the place of the code."""
        cells = self._nearest_cells(queries, _PROBED)
        found = np.full((cells.size, _NEIGHBOURS), _NOTHING)
        by_cell = np.argsort(cells, axis=None, kind="stable")
        asked, first = np.unique(cells.ravel()[by_cell], return_index=True)
        ends = np.append(first, cells.size)

        def look(part: slice) -> None:
            for cell, a, b in zip(asked[part], ends[:-1][part], ends[1:][part], strict=True):
                start, end = self._starts[cell : cell + 2].tolist()
                rows, k = by_cell[a:b], min(_NEIGHBOURS, end - start)
                if k:
                    mine = queries[rows // cells.shape[1]]
                    squared, place = cv2.batchDistance(
                        mine, self._codes[start:end], cv2.CV_32S, normType=cv2.NORM_L2SQR, K=k
                    )
                    found[rows, :k] = (squared.astype(np.int64) << 32) + (place + start)

        deque(self._pool.map(look, _parts(len(asked), _CELLS)), maxlen=0)
        return np.sort(found.reshape(len(queries), -1), axis=1)[:, :_NEIGHBOURS]

    def _ranked(self, position: int, nearest: np.ndarray) -> list[Candidate]:
        there = nearest < _NOTHING
        squared = np.where(there, nearest >> 32, 0)
        owner = self._owner[np.where(there, nearest & 0xFFFFFFFF, 0)]
        # A neighbour counts by how much nearer it is than the last one, which stands for what any X-ray would give.
        weight = there * (1 - squared / np.maximum(squared.max(axis=1, keepdims=True), 1))
        candidates = []
        for (flipped, negative), mine, by in zip(
            _WAYS, np.split(owner, len(_WAYS)), np.split(weight, len(_WAYS)), strict=True
        ):
            others, of = np.unique(mine, return_inverse=True)
            votes = np.bincount(of.ravel(), by.ravel())
            for i in np.argsort(-votes, kind="stable")[: (_NEGATIVES if negative else _CANDIDATES) + 1]:
                if votes[i] >= _MIN_VOTES and others[i] != position:
                    candidates.append(Candidate(float(votes[i]), position, int(others[i]), flipped, negative))
        return candidates


def _parts(n: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover 0 to n."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
