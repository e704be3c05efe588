"""Burnt-in lettering that two different X-rays share, such as the name and date of one examination seen from two sides.

A marker is lettering of sharp edges, or metal, that takes a small part of the picture. Two exposures of one examination carry the
same, while their bones differ; so do X-rays of strangers, where a hospital stamps all of them alike. The latter is told by how many
carry it, for which less evidence is asked, as labels of one make may differ in a digit.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from fracture_mae.data.copies.alignment import MIN_DETAIL, MIN_SHAPES, agreement, local_contrast, mutual_matches
from fracture_mae.data.copies.candidates import Index
from fracture_mae.data.copies.keypoints import Features, KeypointStore, root_sift
from fracture_mae.data.copies.search import single_threaded_libraries

MIN_INLIERS = 20  # two different words that share a letter have 13 at most, ends of bones 12
MIN_INLIERS_IF_COMMON = 12  # for a marker to be told on further X-rays
MIN_LENGTH = 24  # pixels of the thumbnail: longer side of a box; shorter is a plain L
MAX_AREA = 0.15  # of a picture, that a marker's box takes
MIN_CORRELATION = 0.8
MAX_SHARING = 5  # X-rays with one marker; more of them are no examination
_KEYPOINTS = 128  # of each picture, those of the sharpest edges
_ENLARGED = 2  # times the thumbnail, for letters of a few pixels
_TOLERANCE = 1.5  # pixels of the thumbnail
_MAX_SCALE = 2.0
_MARGIN = 3  # pixels of the thumbnail around the outermost keypoints
_FINE = 0.7, 3.0  # pixels: blur, and size of the neighbourhood that contrast is judged in

Box = tuple[int, int, int, int]  # left, top, right and bottom, in pixels of the thumbnail, the latter two outside


@dataclass(frozen=True)
class Marker:
    """What two pictures of different X-rays share."""

    a: str
    b: str  # a < b
    inliers: int  # keypoints that lie alike in both
    correlation: float  # of fine detail within the box in a
    box_a: Box
    box_b: Box


def find(
    load: Callable[[str], np.ndarray], contents: Sequence[str], *, store: KeypointStore, num_workers: int | None = None
) -> tuple[list[Marker], int]:
    """Pairs of X-rays that carry the same marker, upright or turned, but neither mirrored nor as a negative.

    Each picture is compared with the few that share most of its sharpest keypoints: where all carry a hospital's stamp too, a
    marker of two can be missed.

    Args:
        load: from a content to its grey picture (height, width) uint8; called in several threads where `store` lacks it.
        contents: SHA-256 of one picture of each X-ray.
        store: of features by content; only the thumbnails are used.

    Returns:
        The pairs by a and b, and how many markers were left out because more than MAX_SHARING X-rays carry them.
    """
    contents = sorted(set(contents))
    with ThreadPoolExecutor(num_workers) as pool, single_threaded_libraries(), tempfile.TemporaryDirectory() as folder:
        whole = dict(zip(contents, range(len(contents)), strict=True))
        described = store.add(load, contents, pool)
        lettered = KeypointStore(Path(folder) / "lettering.bin")  # on the disk, as the whole pictures' are
        lettering = lettered.add(lambda content: described[whole[content]], contents, pool, describe)
        rich = np.flatnonzero(lettering.n_keypoints >= MIN_INLIERS_IF_COMMON).tolist()
        if len(rich) < 2:
            return [], 0
        index = Index(lettering.take(rich), pool)
        upright = (c for found in index.candidates(range(len(rich))) for c in found)
        pairs = sorted({tuple(sorted((rich[c.a], rich[c.b]))) for c in upright if not (c.flipped or c.negative)})
        shared = pool.map(lambda pair: shared_marker(*(lettering[i] for i in pair)), pairs)
        found = [Marker(contents[a], contents[b], *each) for (a, b), each in zip(pairs, shared, strict=True) if each]
    return _of_few(found)


def describe(features: Features) -> Features:
    """The same picture with the keypoints of its sharpest edges, wherever they are: a marker often stands in black air.

    `keypoints.describe` passes over air, spreads what it keeps over the picture, and evens contrast out.
    """
    thumbnail = features.thumbnail
    size = [_ENLARGED * side for side in thumbnail.shape[::-1]]
    large = cv2.resize(thumbnail, size, interpolation=cv2.INTER_CUBIC)
    keypoints, descriptors = cv2.SIFT_create(_KEYPOINTS, contrastThreshold=0.04).detectAndCompute(large, None)
    if not keypoints:
        return features._replace(xy=np.zeros((0, 2), np.float32), descriptors=np.zeros((0, 128), np.uint8))
    xy = (np.float32([point.pt for point in keypoints]) + 0.5) / _ENLARGED - 0.5
    return features._replace(xy=xy, descriptors=descriptors.astype(np.uint8))


def shared_marker(a: Features, b: Features) -> tuple[int, float, Box, Box] | None:
    """Inliers, correlation and the boxes in a and b of what two pictures share in a small part, if they differ elsewhere."""
    matches = mutual_matches(root_sift(a.descriptors) @ root_sift(b.descriptors).T)
    if len(matches) < MIN_INLIERS_IF_COMMON:
        return None
    at_a, at_b = a.xy[matches[:, 0]], b.xy[matches[:, 1]]
    transform, agree = cv2.estimateAffinePartial2D(at_b, at_a, ransacReprojThreshold=_TOLERANCE, confidence=0.999)
    if transform is None or agree.sum() < MIN_INLIERS_IF_COMMON:
        return None
    scale = np.sqrt(np.linalg.det(transform[:, :2]))
    boxes = [_box(xy[agree.ravel() > 0], picture.thumbnail) for xy, picture in ((at_a, a), (at_b, b))]
    small = all(_area(box) <= MAX_AREA * x.thumbnail.size for box, x in zip(boxes, (a, b), strict=True))
    left, top, right, bottom = boxes[0]
    long = max(right - left, bottom - top) >= MIN_LENGTH
    if not small or not long or not 1 / _MAX_SCALE <= scale <= _MAX_SCALE:
        return None
    correlation = _correlation(a.thumbnail, b.thumbnail, transform, boxes[0])
    if correlation < MIN_CORRELATION:
        return None
    whole = agreement(a.thumbnail, b.thumbnail, transform)
    if whole.detail >= MIN_DETAIL or whole.shapes >= MIN_SHAPES:
        return None
    return int(agree.sum()), correlation, *boxes


def _box(xy: np.ndarray, thumbnail: np.ndarray) -> Box:
    low = np.maximum(np.floor(xy.min(axis=0)) - _MARGIN, 0).astype(int)
    high = np.minimum(np.ceil(xy.max(axis=0)) + 1 + _MARGIN, thumbnail.shape[::-1]).astype(int)
    return *low.tolist(), *high.tolist()


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return max(right - left, 0) * max(bottom - top, 0)


def _correlation(a: np.ndarray, b: np.ndarray, transform: np.ndarray, box: Box) -> float:
    """Of the local contrast of a (h, w) uint8 and of b laid on it, within a box in a: -1 to 1."""
    left, top, right, bottom = box
    everywhere = np.ones(a.shape, bool)
    laid = cv2.warpAffine(b, transform, a.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    x, y = (local_contrast(p.astype(np.float32), everywhere, *_FINE)[top:bottom, left:right] for p in (a, laid))
    return float((x * y).sum() / max(np.sqrt((x * x).sum() * (y * y).sum()), 1e-6))


def _of_few(found: list[Marker]) -> tuple[list[Marker], int]:
    """The sure pairs whose marker at most MAX_SHARING pictures carry, and how many of their markers more carry."""
    sure = {pair for pair, marker in enumerate(found) if marker.inliers >= MIN_INLIERS}
    places = [(marker.a, marker.box_a) for marker in found] + [(marker.b, marker.box_b) for marker in found]
    same = DisjointSet(range(len(places)))
    for pair in range(len(found)):
        same.merge(pair, pair + len(found))
    at = pd.Series(range(len(places)), dtype=int).groupby([content for content, _ in places])
    for _, rows in at:
        for one, other in combinations(rows.tolist(), 2):
            if _overlap(places[one][1], places[other][1]):
                same.merge(one, other)
    carried = [each for each in same.subsets() if len({places[place][0] for place in each}) > MAX_SHARING]
    common = [each for each in carried if each & sure]
    return [found[pair] for pair in sorted(sure.difference(*common))], len(common)


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a third of what they cover together: a letter that a word has is not the word."""
    both = _area((*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:])))
    return 3 * both >= _area(one) + _area(other) - both
