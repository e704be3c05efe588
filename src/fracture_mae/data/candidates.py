"""Which pictures may show the same X-ray: those that share many local features, found without comparing all pairs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import cv2
import numpy as np
from sklearn.decomposition import PCA

from fracture_mae.data.features import Features, mirror_descriptors, root_sift

_KEYPOINTS = 128  # of each picture, the strongest
_DIMENSIONS = 32  # of a descriptor after PCA, which keeps 87 % of the variance
_PCA_PICTURES = 1000  # that PCA is fitted on
_FOREST = {"algorithm": 1, "trees": 4}  # FLANN's randomised k-d trees
_SEARCH = {"checks": 32}  # leaves visited for each descriptor
_NEIGHBOURS = 10
_MIN_VOTES = 4.0  # found copies had 7 or more of the 128, of other pairs 95 % less than 4
_CANDIDATES = 10  # for each picture and each orientation


class Candidate(NamedTuple):
    """Two pictures, by their positions, that share features."""

    votes: float
    a: int
    b: int
    flipped: bool  # b is to be mirrored left to right


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
        vectors = list(pool.map(self._vectors, range(len(features))))
        self._owner = np.repeat(np.arange(len(features)), [len(rows) for rows in vectors])
        self._data = np.concatenate(vectors)  # kept, since the forest only points into it
        cv2.setRNGSeed(0)
        self._forest = cv2.flann_Index(self._data, _FOREST)

    def candidates(self, position: int) -> list[Candidate]:
        """The pictures that share most with one of them, as it is and mirrored."""
        return [*self._ranked(position, False), *self._ranked(position, True)]

    def _vectors(self, position: int, flipped: bool = False) -> np.ndarray:
        descriptors = self._features[position].descriptors[:_KEYPOINTS]
        return (root_sift(mirror_descriptors(descriptors) if flipped else descriptors) - self._mean) @ self._axes

    def _ranked(self, position: int, flipped: bool) -> Iterator[Candidate]:
        vectors = self._vectors(position, flipped)
        nearest, squared = self._forest.knnSearch(vectors, min(_NEIGHBOURS, len(self._owner)), params=_SEARCH)
        # A neighbour counts by how much nearer it is than the last one, which stands for what any X-ray would give.
        weight = 1 - squared / np.maximum(squared[:, -1:], 1e-9)
        others, of = np.unique(self._owner[nearest], return_inverse=True)
        votes = np.bincount(of.ravel(), weight.ravel())
        for i in np.argsort(-votes, kind="stable")[: _CANDIDATES + 1]:
            if votes[i] >= _MIN_VOTES and others[i] != position:
                yield Candidate(float(votes[i]), position, int(others[i]), flipped)
