"""Lay one picture on another, and judge whether both were made from one X-ray."""

from typing import NamedTuple

import cv2
import numpy as np

from fracture_mae.data.copies.keypoints import Features, content_mask, root_sift

MIN_INLIERS = 6
_TOLERANCE = 3.0  # pixels of the thumbnail within which a match agrees with an alignment
_EXACT = 1.0  # pixels within which it does so exactly
_MIN_INLIER_RATIO = 0.12  # below this, correlating is a waste of time
_SEARCH_RADIUS = 8.0  # pixels of the thumbnail around a keypoint's expected place
_MAX_STRETCH = 2.0  # of one axis against the other, when a picture was squeezed
_MAX_SCALE = 5.0
_MIN_OVERLAP_PIXELS = 400
_BLOCK = 20  # pixels of the thumbnail: side of the squares that are correlated each for itself
_FINE, _COARSE = (
    (0.7, 3.0),
    (2.5, 6.0),
)  # pixels of the thumbnail: blur, and size of the neighbourhood, for detail and for shapes
_WORTH_REFINING = 0.6  # correlation of shapes from which a better fit may show a copy
_ECC = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 1e-4)

# Measured on hands, wrists, legs, hips and spines of public sets, on built-in X-rays, and some thousand changed copies of them.
# Detail of different X-rays in the same pose correlates at 0.7 at most, of two exposures of one hip with its metal at 0.78; of copies
# at 0.8 or more, unless detail was lost or covered. What a text, a frame or an equalised background leaves of a copy lies where it
# was, 0.7 of the keypoints to a pixel; of two exposures 0.6 at most. Noise, strong JPEG and small size take the detail away and leave
# the shapes: of copies at 0.92 or more, of different X-rays at 0.9, but for two knees at 0.945 and pairs that had to be stretched.
MIN_DETAIL = 0.8
MIN_DETAIL_IF_EXACT, MIN_EXACT, MIN_INLIER_RATIO_IF_EXACT = 0.7, 0.7, 0.4
MIN_SHAPES = 0.92
MIN_OVERLAP = 0.4
LIKELY_DETAIL, LIKELY_EXACT, LIKELY_SHAPES = 0.65, 0.65, 0.88  # where names say so too
# Two shafts, or two hands, can be squeezed until they agree: by 1.1 or more, mostly with a ratio of inliers of 0.3 at most. Shapes
# alone are no evidence then: two hands, squeezed by 1.3, came to 0.93 with a ratio of 0.4.
MAX_UNSUSPICIOUS_STRETCH, MIN_INLIER_RATIO_IF_STRETCHED = 1.06, 0.35


class Agreement(NamedTuple):
    """How much two pictures agree where one lies on the other: correlations of the local contrast, -1 to 1.

    Each square of _BLOCK pixels is correlated for itself and counts by what both show there: a part that was covered, or where noise
    was made visible, spoils itself alone.
    """

    detail: float  # of fine detail
    shapes: float  # of coarse shapes
    overlap: float  # share of the smaller picture's content that lies on the larger one's


class Alignment(NamedTuple):
    """How picture b lies on picture a."""

    transform: np.ndarray  # (2, 3) float64, from thumbnail pixels of b to those of a
    inliers: int  # keypoints of b that are found again in their place in a
    inlier_ratio: float  # share of the mutual nearest descriptors that agree with the transform
    exact: float  # share of these that agree to _EXACT pixels
    agreement: Agreement

    @property
    def same_xray(self) -> bool:
        """Whether both pictures were made from one X-ray.

        The whole overlap must agree, not only the keypoints: two X-rays that share a lead marker, a border or a banner have
        many matching keypoints there, but other bones.
        """
        detail, shapes, overlap = self.agreement
        covered = detail >= MIN_DETAIL_IF_EXACT and self.exact >= MIN_EXACT
        covered = covered and self.inlier_ratio >= MIN_INLIER_RATIO_IF_EXACT
        found = overlap >= MIN_OVERLAP and (
            detail >= MIN_DETAIL or covered or (shapes >= MIN_SHAPES and not self._stretched)
        )
        return found and not self._suspicious

    @property
    def likely_copy(self) -> bool:
        """Whether the pictures are enough like each other for names to be believed that say so."""
        detail, shapes, overlap = self.agreement
        detailed = (
            detail >= LIKELY_DETAIL
            and self.exact >= LIKELY_EXACT
            and self.inlier_ratio >= MIN_INLIER_RATIO_IF_STRETCHED
        )
        return overlap >= MIN_OVERLAP and not self._suspicious and (detailed or shapes >= LIKELY_SHAPES)

    @property
    def _stretched(self) -> bool:
        longest, shortest = np.linalg.svd(self.transform[:, :2], compute_uv=False)
        return bool(longest > MAX_UNSUSPICIOUS_STRETCH * shortest)

    @property
    def _suspicious(self) -> bool:
        return self._stretched and self.inlier_ratio < MIN_INLIER_RATIO_IF_STRETCHED


def align(a: Features, b: Features) -> Alignment | None:
    """Lay b on a by an affine map: turned, scaled, cropped, squeezed, but not mirrored.

    Returns:
        None where no plausible map brings enough keypoints together.
    """
    similarity = root_sift(a.descriptors) @ root_sift(b.descriptors).T
    matches = mutual_matches(similarity)
    transform = _fit(a, b, matches)
    if transform is None:
        return None
    # Again, each keypoint's partner now looked for around its expected place alone: more matches, and a better fit far from them.
    offset = np.linalg.norm(a.xy[:, None] - cv2.transform(b.xy[None], transform), axis=2)
    nearby = mutual_matches(np.where(offset < _SEARCH_RADIUS, similarity, 0))
    transform = _fit(a, b, nearby)
    if transform is None:
        return None
    inlier_ratio = float(_agree(a, b, matches, transform).mean())
    if inlier_ratio < _MIN_INLIER_RATIO:
        return None
    inliers = int(_agree(a, b, nearby, transform).sum())
    exact = float(_agree(a, b, matches, transform, _EXACT).mean()) / inlier_ratio
    found = Alignment(transform, inliers, inlier_ratio, exact, agreement(a.thumbnail, b.thumbnail, transform))
    if found.same_xray or found.agreement.shapes < _WORTH_REFINING:
        return found
    refined = refine(a.thumbnail, b.thumbnail, transform)
    if refined is None:
        return found
    better = found._replace(transform=refined, agreement=agreement(a.thumbnail, b.thumbnail, refined))
    return better if better.agreement.shapes >= MIN_SHAPES else found


def mutual_matches(similarity: np.ndarray) -> np.ndarray:
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
    found = transform is not None and inliers.sum() >= MIN_INLIERS and _plausible(transform[:, :2])
    return transform if found else None


def _plausible(linear: np.ndarray) -> bool:
    """Whether the linear part (2, 2) of a map neither mirrors nor scales nor stretches more than what is done to X-rays."""
    longest, shortest = np.linalg.svd(linear, compute_uv=False)
    scale = np.sqrt(longest * shortest)
    return bool(
        np.linalg.det(linear) > 0 and longest <= _MAX_STRETCH * shortest and 1 / _MAX_SCALE <= scale <= _MAX_SCALE
    )


def _agree(
    a: Features, b: Features, matches: np.ndarray, transform: np.ndarray, tolerance: float = _TOLERANCE
) -> np.ndarray:
    moved = cv2.transform(b.xy[None, matches[:, 1]], transform)[0]
    return np.linalg.norm(moved - a.xy[matches[:, 0]], axis=1) <= tolerance


def refine(a: np.ndarray, b: np.ndarray, transform: np.ndarray) -> np.ndarray | None:
    """A transform near the given one, under which the shapes agree best; None where the search for it leads nowhere.

    Few and blurred keypoints tell an affine map to some pixels only; the whole picture knows better (G. Evangelidis and E. Psarakis,
    "Parametric image alignment using enhanced correlation coefficient maximization", PAMI 2008).

    Args:
        a, b: (h, w) uint8.
        transform: (2, 3), from pixels of b to pixels of a.
    """
    everywhere = [np.ones(picture.shape, bool) for picture in (a, b)]
    contrast = [
        local_contrast(x.astype(np.float32), whole, 1.5, 6.0) for x, whole in zip((a, b), everywhere, strict=True)
    ]
    start = cv2.invertAffineTransform(transform).astype(np.float32)
    try:
        _, found = cv2.findTransformECC(*contrast, start, cv2.MOTION_AFFINE, _ECC, content_mask(b) * 255, 5)
    except cv2.error:  # it does not converge
        return None
    return cv2.invertAffineTransform(found.astype(np.float64)) if _plausible(found[:, :2]) else None


def agreement(a: np.ndarray, b: np.ndarray, transform: np.ndarray) -> Agreement:
    """Compare two pictures where they overlap.

    Args:
        a, b: (h, w) uint8.
        transform: (2, 3), from pixels of b to pixels of a.
    """
    scale = np.sqrt(np.linalg.det(transform[:, :2]))
    if scale > 1:  # compare at the coarser of both: the finer can be blurred, the coarser cannot be sharpened
        return agreement(b, a, cv2.invertAffineTransform(transform))
    size = a.shape[::-1]
    content_a, content_b = _informative(a), _informative(b)
    both = content_a & (cv2.warpAffine(content_b.astype(np.float32), transform, size) > 0.99)
    if both.sum() < _MIN_OVERLAP_PIXELS:
        return Agreement(0.0, 0.0, 0.0)
    x, y = a.astype(np.float32), b.astype(np.float32)
    y = cv2.warpAffine(cv2.GaussianBlur(y, (0, 0), 0.5 / scale) if scale < 0.9 else y, transform, size)
    detail, shapes = (
        _block_correlation(local_contrast(x, both, *at), local_contrast(y, both, *at)) for at in (_FINE, _COARSE)
    )
    overlap = both.sum() / max(min(content_a.sum(), content_b.sum() * scale**2), 1)
    return Agreement(detail, shapes, float(overlap))


def _block_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Mean correlation of the squares of two pictures (h, w) float32, weighed by the geometric mean of both contrasts there.

    That is the sum of the squares' covariances over the sum of their weights.
    """
    xy, xx, yy = (_block_sums(product) for product in (x * y, x * x, y * y))
    return float(xy.sum() / max(np.sqrt(xx * yy).sum(), 1e-6))


def _block_sums(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(0, side, _BLOCK) for side in picture.shape)
    return np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1).ravel()


def _informative(picture: np.ndarray) -> np.ndarray:
    """Content that is neither black nor white: there, a brighter or darker copy has lost what could be compared."""
    return (content_mask(picture) > 0) & (picture > 2) & (picture < 253)


def local_contrast(picture: np.ndarray, mask: np.ndarray, blur: float, sigma: float, noise: float = 4) -> np.ndarray:
    """Each pixel's difference from its neighbourhood in the mask, over the neighbourhood's standard deviation.

    Whatever brightness, contrast and gamma do to a picture, this hardly changes; `noise` (grey levels) keeps flat parts near 0.
    """
    inside = mask.astype(np.float32)
    smooth = cv2.GaussianBlur(picture, (0, 0), blur)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-6
    difference = (smooth - cv2.GaussianBlur(smooth * inside, (0, 0), sigma) / weight) * inside
    deviation = np.sqrt(cv2.GaussianBlur(difference**2, (0, 0), sigma) / weight)
    return difference / (deviation + noise)


def matched_keypoints(a: Features, b: Features, transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints of a and of b, (n, 2) each in pixels of their thumbnails, that find each other and agree with the transform."""
    matches = mutual_matches(root_sift(a.descriptors) @ root_sift(b.descriptors).T)
    rows = matches[_agree(a, b, matches, transform)]
    return a.xy[rows[:, 0]], b.xy[rows[:, 1]]
