"""Which pictures may show the same X-ray: those that share many local features, found without comparing all pairs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from fracture_mae.data.copies.inverted_file import NOTHING, InvertedFile, parts, places
from fracture_mae.data.copies.keypoints import Features, mirror_descriptors, negate_descriptors, root_sift

_KEYPOINTS = 128  # of each picture, the strongest, that are found
_QUERIES = 96  # of them that are looked for
_DIMENSIONS = 32  # of a descriptor after PCA, which keeps 87 % of the variance
_PCA_PICTURES = 1000  # that PCA is fitted on
_PROBED = 6  # cells that are looked into for each query
_NEIGHBOURS = 10
_MIN_VOTES = 3.0  # found copies had 3.5 or more of the queries
_CANDIDATES = 10  # for each picture, as it is and mirrored
_NEGATIVES = 2  # for its negative: there, hardly any stranger is like it
_BLOCK = 1024  # pictures that are looked for at once
_WAYS = list(product((False, True), repeat=2))  # mirrored or not, as a negative or not


class Candidate(NamedTuple):
    """Two pictures, by their positions, that share features."""

    votes: float
    a: int
    b: int
    flipped: bool  # b is to be mirrored left to right
    negative: bool  # b is to be negated


class Index:
    """The descriptors of pictures, each as _DIMENSIONS bytes in an inverted file. A picture takes 5 kB.

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
        codes, self._owner = self._encode_all()
        self._file = InvertedFile(codes, pool, rng, along=self._owner)

    def candidates(self, positions: Sequence[int]) -> Iterator[list[Candidate]]:
        """Of each of these pictures, those that share most with it: as it is, mirrored, as its negative, and both."""
        for part in parts(len(positions), _BLOCK):
            block = positions[part]
            queries = list(self._pool.map(self._queries, block))
            ends = np.cumsum([0, *map(len, queries)])
            nearest = self._file.nearest(np.concatenate(queries), _NEIGHBOURS, _PROBED)
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

        for part in parts(n, _BLOCK):
            for position, mine in enumerate(self._pool.map(encode, range(n)[part]), part.start):
                codes[filled : filled + len(mine)] = mine
                n_codes[position], filled = len(mine), filled + len(mine)
        return codes[:filled], np.repeat(np.arange(n, dtype=np.int32), n_codes)

    def _queries(self, position: int) -> np.ndarray:
        """Codes of what is looked for, of each way in turn."""
        descriptors = self._features[position].descriptors[:_QUERIES]
        ways = []
        for flipped, negative in _WAYS:
            way = mirror_descriptors(descriptors) if flipped else descriptors
            ways.append(negate_descriptors(way) if negative else way)
        return self._encode(np.concatenate(ways))

    def _ranked(self, position: int, nearest: np.ndarray) -> list[Candidate]:
        there = nearest < NOTHING
        squared = np.where(there, nearest >> 32, 0)
        owner = self._owner[places(nearest)]  # of what is not there anyone's: it has no weight
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
