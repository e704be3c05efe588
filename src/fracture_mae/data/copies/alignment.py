"""Lay one picture on another, and judge whether both were made from one X-ray."""

from typing import NamedTuple

import cv2
import numpy as np

from fracture_mae.data.copies.keypoints import Features, content_mask, root_sift

MIN_INLIERS = 6
_TOLERANCE = 3.0  # pixels of the thumbnail within which a match agrees with an alignment
_MIN_INLIER_RATIO = 0.2  # found copies had 0.3 or more: below this, correlating is a waste of time
_SEARCH_RADIUS = 8.0  # pixels of the thumbnail around a keypoint's expected place
_MAX_STRETCH = 2.0  # of one axis against the other, when a picture was squeezed
_MAX_SCALE = 5.0
_MIN_OVERLAP_PIXELS = 400

# Measured on hands, wrists, legs, hips and spines of public sets and some thousand changed copies of them. X-rays of different
# people in the same pose correlate at 0.77 at most, two exposures of one hip with its metal at 0.79; copies at 0.8 or more, unless
# several changes add up. Copies that lost detail (dark, at half size, re-encoded) correlate less, but their matches still agree.
MIN_CORRELATION = 0.8
MIN_CORRELATION_IF_MATCHED = 0.7
MATCHED_INLIER_RATIO = 0.5
MIN_OVERLAP = 0.4


class Alignment(NamedTuple):
    """How picture b lies on picture a."""

    transform: np.ndarray  # (2, 3) float64, from thumbnail pixels of b to those of a
    inliers: int  # keypoints of b that are found again in their place in a
    inlier_ratio: float  # share of the mutual nearest descriptors that agree with the transform
    correlation: float  # of the local contrast of both where they overlap, -1 to 1
    overlap: float  # share of the smaller picture's content that lies on the larger one's

    @property
    def same_xray(self) -> bool:
        """Whether both pictures were made from one X-ray.

        The whole overlap must agree, not only the keypoints: two X-rays that share a lead marker, a border or a banner have
        many matching keypoints there, but other bones.
        """
        matched = self.inlier_ratio >= MATCHED_INLIER_RATIO
        needed = MIN_CORRELATION_IF_MATCHED if matched else MIN_CORRELATION
        return self.correlation >= needed and self.overlap >= MIN_OVERLAP


def align(a: Features, b: Features) -> Alignment | None:
    """Lay b on a by an affine map: turned, scaled, cropped, squeezed, but not mirrored.

    Returns:
        None where no plausible map brings enough keypoints together.
    """
    similarity = root_sift(a.descriptors) @ root_sift(b.descriptors).T
    matches = _mutual_matches(similarity)
    transform = _fit(a, b, matches)
    if transform is None:
        return None
    # Again, each keypoint's partner now looked for around its expected place alone: more matches, and a better fit far from them.
    offset = np.linalg.norm(a.xy[:, None] - cv2.transform(b.xy[None], transform), axis=2)
    nearby = _mutual_matches(np.where(offset < _SEARCH_RADIUS, similarity, 0))
    transform = _fit(a, b, nearby)
    if transform is None:
        return None
    inlier_ratio = float(_agree(a, b, matches, transform).mean())
    if inlier_ratio < _MIN_INLIER_RATIO:
        return None
    correlation, overlap = correlate(a.thumbnail, b.thumbnail, transform)
    return Alignment(transform, int(_agree(a, b, nearby, transform).sum()), inlier_ratio, correlation, overlap)


def _mutual_matches(similarity: np.ndarray) -> np.ndarray:
    """Pairs (row, column) (n, 2) that are each other's most similar; a similarity of 0 is none."""
    if 0 in similarity.shape:
        return np.zeros((0, 2), np.int64)
    rows, best = np.arange(len(similarity)), similarity.argmax(axis=1)
    mutual = (similarity.argmax(axis=0)[best] == rows) & (similarity[rows, best] > 0)
    return np.column_stack([rows, best])[mutual]


def _fit(a: Features, b: Features, matches: np.ndarray) -> np.ndarray | None:
    if len(matches) < MIN_INLIERS:
        return None
    source, target = b.xy[matches[:, 1]], a.xy[matches[:, 0]]
    transform, inliers = cv2.estimateAffine2D(source, target, ransacReprojThreshold=_TOLERANCE, confidence=0.995)
    if transform is None or inliers.sum() < MIN_INLIERS or np.linalg.det(transform[:, :2]) <= 0:
        return None
    longest, shortest = np.linalg.svd(transform[:, :2], compute_uv=False)
    scale = np.sqrt(longest * shortest)
    plausible = longest <= _MAX_STRETCH * shortest and 1 / _MAX_SCALE <= scale <= _MAX_SCALE
    return transform if plausible else None


def _agree(a: Features, b: Features, matches: np.ndarray, transform: np.ndarray) -> np.ndarray:
    moved = cv2.transform(b.xy[None, matches[:, 1]], transform)[0]
    return np.linalg.norm(moved - a.xy[matches[:, 0]], axis=1) <= _TOLERANCE


def correlate(a: np.ndarray, b: np.ndarray, transform: np.ndarray) -> tuple[float, float]:
    """Compare two pictures where they overlap.

    Args:
        a, b: (h, w) uint8.
        transform: (2, 3), from pixels of b to pixels of a.

    Returns:
        Correlation of the local contrast, -1 to 1, and the overlap as a share of the smaller content.
    """
    scale = np.sqrt(np.linalg.det(transform[:, :2]))
    if scale > 1:  # compare at the coarser of both: the finer can be blurred, the coarser cannot be sharpened
        return correlate(b, a, cv2.invertAffineTransform(transform))
    size = a.shape[::-1]
    content_a, content_b = _informative(a), _informative(b)
    both = content_a & (cv2.warpAffine(content_b.astype(np.float32), transform, size) > 0.99)
    if both.sum() < _MIN_OVERLAP_PIXELS:
        return 0.0, 0.0
    blurred = cv2.GaussianBlur(b.astype(np.float32), (0, 0), 0.5 / scale) if scale < 0.9 else b.astype(np.float32)
    x = _local_contrast(a.astype(np.float32), both)
    y = _local_contrast(cv2.warpAffine(blurred, transform, size), both)
    correlation = (x * y).sum() / max(np.sqrt((x * x).sum() * (y * y).sum()), 1e-6)
    overlap = both.sum() / max(min(content_a.sum(), content_b.sum() * scale**2), 1)
    return float(correlation), float(overlap)


def _informative(picture: np.ndarray) -> np.ndarray:
    """Content that is neither black nor white: there, a brighter or darker copy has lost what could be compared."""
    return (content_mask(picture) > 0) & (picture > 2) & (picture < 253)


def _local_contrast(picture: np.ndarray, mask: np.ndarray, sigma: float = 3, noise: float = 4) -> np.ndarray:
    """Each pixel's difference from its neighbourhood in the mask, over the neighbourhood's standard deviation.

    Whatever brightness, contrast and gamma do to a picture, this hardly changes; `noise` (grey levels) keeps flat parts near 0.
    """
    inside = mask.astype(np.float32)
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.7)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-6
    difference = (smooth - cv2.GaussianBlur(smooth * inside, (0, 0), sigma) / weight) * inside
    deviation = np.sqrt(cv2.GaussianBlur(difference**2, (0, 0), sigma) / weight)
    return difference / (deviation + noise)


def matched_keypoints(a: Features, b: Features, transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints of a and of b, (n, 2) each in pixels of their thumbnails, that find each other and agree with the transform."""
    matches = _mutual_matches(root_sift(a.descriptors) @ root_sift(b.descriptors).T)
    rows = matches[_agree(a, b, matches, transform)]
    return a.xy[rows[:, 0]], b.xy[rows[:, 1]]
