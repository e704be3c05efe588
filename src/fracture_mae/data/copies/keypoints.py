"""What is kept of a picture to recognise it by: local features that survive turning, mirroring, scaling, cropping and negating.

The keypoints are SIFT's (D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004), compared as RootSIFT
(R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

SIDE = 256  # longest side of the thumbnail, in pixels
MAX_KEYPOINTS = 256
_PADDING_MARGIN = 4  # pixels of the thumbnail: a keypoint this close to padding describes the padding's edge
_DETECTION_SIDE = (
    160  # longest side of the picture that keypoints are looked for in; their places are in pixels of the thumbnail
)
_NEIGHBOURHOOD = 5.0  # pixels of that picture, of a Gaussian, within which contrast is evened out
_FLAT = 20.0  # grey levels: parts with less contrast than that are not made up to the others
_PART = 32  # pixels of the thumbnail: side of the squares over which keypoints are spread
_EXTREME = 10  # grey levels from black or white that count as padding where they reach the border
_CHUNK = 64  # pictures described between two writes


class Features(NamedTuple):
    """What is kept of one picture."""

    xy: np.ndarray  # (n, 2) float32, keypoints in pixels of the thumbnail, the strongest of each part of it first
    descriptors: np.ndarray  # (n, 128) uint8, SIFT
    thumbnail: np.ndarray  # (h, w) uint8, longest side SIDE
    shape: tuple[int, int]  # height and width of the picture itself, in pixels


def describe(image: np.ndarray) -> Features:
    """Find MAX_KEYPOINTS keypoints of a grey picture (height, width) uint8; a blank one has none.

    They are looked for in a smaller picture of even contrast, where noise and the blocks of a strong JPEG are averaged out, and what
    equalising a picture changes is undone. The strongest of each part of the picture come first, so that a text burnt in, with the
    sharpest edges of all, cannot take all the places.
    """
    thumbnail = shrink(image)
    inner = cv2.erode(content_mask(thumbnail), np.ones((2 * _PADDING_MARGIN + 1,) * 2, np.uint8))
    size = [max(1, round(side * _DETECTION_SIDE / SIDE)) for side in thumbnail.shape[::-1]]
    small = _even_contrast(cv2.resize(_stretch(thumbnail), size, interpolation=cv2.INTER_AREA))
    # X-rays have little contrast: OpenCV's default of 0.04 would lose half of the keypoints.
    sift = cv2.SIFT_create(contrastThreshold=0.005)
    keypoints, descriptors = sift.detectAndCompute(small, cv2.resize(inner, size, interpolation=cv2.INTER_NEAREST))
    if not keypoints:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), thumbnail, image.shape)
    xy = (np.float32([point.pt for point in keypoints]) + 0.5) * np.divide(thumbnail.shape[::-1], size) - 0.5
    # A large keypoint says more than an equally strong small one, which may be noise.
    strength = np.array([point.response * point.size for point in keypoints])
    first = _spread(xy, strength)[:MAX_KEYPOINTS]
    return Features(xy[first].astype(np.float32), descriptors[first].astype(np.uint8), thumbnail, image.shape)


def _even_contrast(picture: np.ndarray) -> np.ndarray:
    """Each pixel's difference from its neighbourhood over the neighbourhood's standard deviation, as uint8 around 128."""
    grey = picture.astype(np.float32)
    difference = grey - cv2.GaussianBlur(grey, (0, 0), _NEIGHBOURHOOD)
    deviation = np.sqrt(cv2.GaussianBlur(difference**2, (0, 0), _NEIGHBOURHOOD))
    return np.clip(np.round(128 + 60 * difference / (deviation + _FLAT)), 0, 255).astype(np.uint8)


def _spread(xy: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """The order in which the strongest of each square of _PART pixels come first, then the second of each, and so on."""
    part = pd.MultiIndex.from_arrays((xy // _PART).astype(np.int64).T)
    rank = pd.Series(-strength).groupby(part.to_flat_index()).rank(method="first")
    return np.lexsort([-strength, rank])


def shrink(image: np.ndarray) -> np.ndarray:
    """A grey picture (height, width) uint8 with SIDE pixels along its longest side."""
    scale = SIDE / max(image.shape)
    size = [max(1, round(scale * side)) for side in image.shape[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _stretch(thumbnail: np.ndarray) -> np.ndarray:
    """Contrast from the darkest to the brightest percent, in full: so a dim copy has the keypoints of a bright one."""
    low, high = np.percentile(thumbnail, [1, 99])
    return np.clip((thumbnail - low) * (255 / max(high - low, 20)), 0, 255).astype(np.uint8)


def content_mask(thumbnail: np.ndarray) -> np.ndarray:
    """1 where a picture shows something, 0 in black or white that reaches its border: corners of a rotation, air around a limb.

    The mask of a negative is the same.

    Args:
        thumbnail: (h, w) uint8.

    Returns:
        (h, w) uint8.
    """
    stretched = _stretch(thumbnail)
    padding = _reaches_border(stretched <= _EXTREME) | _reaches_border(stretched >= 255 - _EXTREME)
    return (~padding).astype(np.uint8)


def _reaches_border(mask: np.ndarray) -> np.ndarray:
    """The parts (h, w) bool of a mask that hang together with its border."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] == 2


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) uint8 as unit vectors (n, 128) float32 whose dot product is their similarity, 0 to 1."""
    histogram = descriptors.astype(np.float32)
    return np.sqrt(histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1))


def mirror_descriptors(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors (n, 128) of the same keypoints in the picture flipped left to right.

    Mirrored, SIFT's 4 × 4 cells stand in reverse order across the keypoint's direction, and each cell's 8 gradient directions run
    the other way round. So one description serves both.
    """
    cells = descriptors.reshape(-1, 4, 4, 8)
    return cells[:, ::-1][..., -np.arange(8) % 8].reshape(-1, 128)


def mirror(features: Features) -> Features:
    """The features of the picture flipped left to right."""
    x = features.thumbnail.shape[1] - 1 - features.xy[:, 0]
    return features._replace(
        xy=np.column_stack([x, features.xy[:, 1]]),
        descriptors=mirror_descriptors(features.descriptors),
        thumbnail=features.thumbnail[:, ::-1],
    )


def negate_descriptors(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors (n, 128) of the same keypoints in the picture's negative, where bone is dark.

    There all gradients point the other way, the keypoint's own direction too: the 4 × 4 cells are seen turned by half a circle, and
    the gradients within them, which are relative to that direction, stay as they are.
    """
    return descriptors.reshape(-1, 4, 4, 8)[:, ::-1, ::-1].reshape(-1, 128)


def negate(features: Features) -> Features:
    """The features of the picture's negative."""
    return features._replace(descriptors=negate_descriptors(features.descriptors), thumbnail=255 - features.thumbnail)


_HEADER = np.dtype([("id", "S80"), ("shape", np.int32, 2), ("thumbnail_shape", np.int32, 2), ("n_keypoints", np.int32)])
RECORD = np.dtype(
    [
        *_HEADER.descr,
        ("xy", np.float32, (MAX_KEYPOINTS, 2)),
        ("descriptors", np.uint8, (MAX_KEYPOINTS, 128)),
        ("thumbnail", np.uint8, SIDE * SIDE),
    ]
)


@dataclass(frozen=True, eq=False)
class Described(Sequence[Features]):
    """Features of pictures, each read from a `KeypointStore`'s file when it is asked for: memory does not grow with the pictures.

    Attributes:
        file: of records.
        rows: (n,) int64, which record each picture has.
        shape: (n, 2) int32, height and width of the pictures themselves, in pixels.
        n_keypoints: (n,) int32.
    """

    file: Path
    rows: np.ndarray
    shape: np.ndarray
    n_keypoints: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Features:
        offset = int(self.rows[position]) * RECORD.itemsize
        (record,) = np.fromfile(self.file, RECORD, 1, offset=offset)
        n, (height, width) = record["n_keypoints"], record["thumbnail_shape"]
        thumbnail = record["thumbnail"][: height * width].reshape(height, width)
        return Features(record["xy"][:n], record["descriptors"][:n], thumbnail, tuple(record["shape"].tolist()))

    def take(self, positions: Sequence[int]) -> "Described":
        """Some of them."""
        positions = np.asarray(positions, np.int64)
        return Described(self.file, self.rows[positions], self.shape[positions], self.n_keypoints[positions])


class KeypointStore:
    """Features by content in one file of records of one size.

    Only whole records count, and they are only ever appended, under a lock: what a killed writer left is cut off by the next.

    Args:
        file: made when the first features are added.
    """

    def __init__(self, file: Path):
        self.file = file
        self.lock = FileLock(file.with_suffix(".lock"))
        file.parent.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        load: Callable[[str], np.ndarray],
        ids: Sequence[str],
        pool: Executor,
        describe: Callable[[np.ndarray], Features] = describe,
    ) -> Described:
        """Describe the pictures that are missing.

        Args:
            load: from an id to its grey picture (height, width) uint8, or what else `describe` takes; called in the pool's threads.
            ids: at most 80 ASCII characters each, such as the SHA-256 of the content.

        Returns:
            The features of `ids`, in their order.
        """
        with self.lock:
            known, _ = self._known()
            self._describe(lambda id_: describe(load(id_)), [id_ for id_ in ids if id_ not in known], pool)
        return self.of(ids)

    def of(self, ids: Sequence[str]) -> Described:
        """The features of pictures that were added before."""
        row, headers = self._known()
        rows = np.array([row[id_] for id_ in ids], np.int64)
        return Described(self.file, rows, headers["shape"][rows], headers["n_keypoints"][rows])

    def _describe(self, described: Callable[[str], Features], ids: list[str], pool: Executor) -> None:
        if not ids:
            return
        with tqdm(total=len(ids), desc="Describing X-rays", unit="file") as bar:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                self._append(list(pool.map(lambda id_: _pack(id_, described(id_)), chunk)))
                bar.update(len(chunk))

    def _n_whole(self) -> int:
        return self.file.stat().st_size // RECORD.itemsize if self.file.exists() else 0

    def _known(self) -> tuple[dict[str, int], np.ndarray]:
        """Where the features of each id stand, and what all records begin with.

        Records that cannot have been written so are passed over.
        """
        n = self._n_whole()
        headers = np.zeros(n, _HEADER)
        if n:
            with open(self.file, "rb", buffering=0) as file:
                for row in range(n):
                    file.seek(row * RECORD.itemsize)
                    file.readinto(headers[row : row + 1])
        height, width = headers["thumbnail_shape"].T
        sound = (height > 0) & (width > 0) & (np.maximum(height, width) == SIDE)
        sound &= (headers["n_keypoints"] >= 0) & (headers["n_keypoints"] <= MAX_KEYPOINTS)
        return {headers["id"][row].decode("latin-1"): row for row in np.flatnonzero(sound).tolist()}, headers

    def _append(self, records: list[np.ndarray]) -> None:
        whole = self._n_whole() * RECORD.itemsize
        with open(self.file, "ab") as file:
            file.truncate(whole)
            file.write(np.concatenate(records).tobytes())


def _pack(id_: str, features: Features) -> np.ndarray:
    record = np.zeros(1, RECORD)
    n = len(features.xy)
    record["id"], record["shape"], record["thumbnail_shape"] = id_, features.shape, features.thumbnail.shape
    record["n_keypoints"], record["xy"][0, :n], record["descriptors"][0, :n] = n, features.xy, features.descriptors
    record["thumbnail"][0, : features.thumbnail.size] = features.thumbnail.ravel()
    return record
