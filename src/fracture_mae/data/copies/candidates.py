"""Which pictures may show the same X-ray: those that share many local features, found without comparing all pairs."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from sklearn.decomposition import PCA

from fracture_mae.data.copies.keypoints import Features, mirror_descriptors, negate_descriptors, root_sift

_KEYPOINTS = 128  # of each picture, the strongest, that are found
_QUERIES = 96  # of them that are looked for
_DIMENSIONS = 32  # of a descriptor after PCA, which keeps 87 % of the variance
_PCA_PICTURES = 1000  # that PCA is fitted on
# FLANN's randomised k-d trees: of 20,000 pictures, four find no more copies than two, in twice the memory.
_FOREST = {"algorithm": 1, "trees": 2}
_SEARCH = {"checks": 16}  # leaves visited for each descriptor
_NEIGHBOURS = 10
_MIN_VOTES = 3.0  # found copies had 3.5 or more of the queries
_CANDIDATES = 10  # for each picture, as it is and mirrored
_NEGATIVES = 2  # for its negative: there, hardly any stranger is like it


class Candidate(NamedTuple):
    """Two pictures, by their positions, that share features."""

    votes: float
    a: int
    b: int
    flipped: bool  # b is to be mirrored left to right
    negative: bool  # b is to be negated


class Index:
    """A forest of k-d trees over the descriptors of pictures.

    Args:
        features: of the pictures, each with some keypoints.
        pool: for the projection.
    """

    def __init__(self, features: Sequence[Features], pool: Executor):
        self._features = features
        sample = np.random.default_rng(0).permutation(len(features))[:_PCA_PICTURES]
        descriptors = np.concatenate([features[i].descriptors[:_KEYPOINTS] for i in sample])
        pca = PCA(min(_DIMENSIONS, len(descriptors))).fit(root_sift(descriptors))
        # Not PCA.transform, which takes longer to check its input than to project it.
        self._mean, self._axes = pca.mean_, pca.components_.T
        self._owner = np.repeat(np.arange(len(features)), [min(len(each.xy), _KEYPOINTS) for each in features])
        self._data = np.empty(
            (len(self._owner), self._axes.shape[1]), np.float32
        )  # kept: the forest only points into it
        ends = np.searchsorted(self._owner, np.arange(len(features) + 1))

        def fill(position: int) -> None:
            self._data[ends[position] : ends[position + 1]] = self._vectors(features[position].descriptors[:_KEYPOINTS])

        deque(pool.map(fill, range(len(features))), maxlen=0)
        cv2.setRNGSeed(0)
        self._forest = cv2.flann_Index(self._data, _FOREST)

    def candidates(self, position: int) -> list[Candidate]:
        """The pictures that share most with one of them: as it is, mirrored, as its negative, and both."""
        ways = product((False, True), repeat=2)
        return [candidate for flipped, negative in ways for candidate in self._ranked(position, flipped, negative)]

    def _vectors(self, descriptors: np.ndarray) -> np.ndarray:
        return (root_sift(descriptors) - self._mean) @ self._axes

    def _ranked(self, position: int, flipped: bool, negative: bool) -> Iterator[Candidate]:
        descriptors = self._features[position].descriptors[:_QUERIES]
        if flipped:
            descriptors = mirror_descriptors(descriptors)
        if negative:
            descriptors = negate_descriptors(descriptors)
        vectors = self._vectors(descriptors)
        nearest, squared = self._forest.knnSearch(vectors, min(_NEIGHBOURS, len(self._owner)), params=_SEARCH)
        # A neighbour counts by how much nearer it is than the last one, which stands for what any X-ray would give.
        weight = 1 - squared / np.maximum(squared[:, -1:], 1e-9)
        others, of = np.unique(self._owner[nearest], return_inverse=True)
        votes = np.bincount(of.ravel(), weight.ravel())
        for i in np.argsort(-votes, kind="stable")[: (_NEGATIVES if negative else _CANDIDATES) + 1]:
            if votes[i] >= _MIN_VOTES and others[i] != position:
                yield Candidate(float(votes[i]), position, int(others[i]), flipped, negative)
