"""Find the files that were made from one X-ray, by their content alone.

1. `features` describes each picture once, by local features.
2. `candidates` finds for each picture those that share many of them, mirrored or not.
3. `alignment` lays one on the other; only if they correlate over the whole overlap, they are linked.

A link joins two groups, and pairs within a group need no further test: the work grows with the number of pictures, not of pairs.
So that one wrong link cannot join many X-rays, groups of three or more are joined only if a second pair of pictures, neither of
them in the first, shows the same X-ray too.

Two pictures that differ in a fracture alone, retouched or simulated, are linked: one X-ray under two labels, which is for the
caller to notice. Two exposures of one patient stay apart unless the second repeats the first almost to the pixel.
"""

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from fracture_mae.data.copies.alignment import MIN_INLIERS, Alignment, align
from fracture_mae.data.copies.candidates import Candidate, Index
from fracture_mae.data.copies.keypoints import Described, Features, KeypointStore, mirror, negate
from fracture_mae.data.copies.links import Link, Searched, as_table, groups

__all__ = ["Link", "Searched", "find", "groups"]

_LONG = 1.5  # ratio of sides from which a picture is also looked for squeezed into a square
_BATCH = 64  # pairs aligned between two looks at what is joined already
_MAX_ROUNDS = 3
_FOUND = np.dtype([("votes", float), ("a", np.int32), ("b", np.int32), ("flipped", bool), ("negative", bool)])
_WAY = ["a", "b", "flipped", "negative"]


def find(
    load: Callable[[str], np.ndarray],
    ids: Sequence[str],
    *,
    searched: Searched | None = None,
    store: KeypointStore | None = None,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Find pictures made from one X-ray: enough pairs of them to join each group, not all pairs.

    Copies may be exact, or turned by any angle, mirrored, scaled, squeezed, cropped to half of the area, brighter, darker,
    negative, noisy, equalised, written on, re-encoded, or several of these.

    Args:
        load: from an id to its grey picture (height, width) uint8; called in several threads.
        ids: of the pictures, at most 70 ASCII characters each. For a `store` that is kept they must name contents, as a SHA-256
            does: what it holds already is not loaded again.
        searched: what is known of some of the pictures. Then only the others are looked for, among all. Where candidates are
            borderline, that can miss or find a pair of which a search of all at once would have said otherwise.
        store: where features are kept; None: in a temporary file.
        num_workers: threads, None: a few more than cores. The result does not depend on it.

    Returns:
        A row for each pair, with the columns of `Link`.
    """
    ids = sorted(set(ids))
    searched = Searched([], as_table()) if searched is None else searched.restrict(ids)
    if len(searched.ids) == len(ids):
        return searched.links
    with ThreadPoolExecutor(num_workers) as pool, single_threaded_libraries(), tempfile.TemporaryDirectory() as folder:
        store = store or KeypointStore(Path(folder) / "features.bin")
        search = _Search(ids, *_describe(load, ids, store, pool), searched, pool)
        search.join_identical()
        for _ in range(_MAX_ROUNDS):
            if not search.join_aligned():
                break
    return as_table(search.links)


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """The pool's threads use the cores already; products this small take twice as long with threads that wait for each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def _describe(
    load: Callable[[str], np.ndarray], ids: list[str], store: KeypointStore, pool: Executor
) -> tuple[Described, np.ndarray]:
    """Features of views, and which picture each view shows: first each picture itself, then long ones squeezed into a square.

    Many pipelines squeeze what they train on. More than about 1:1.5 of it is more than SIFT's features survive.
    """
    shape = store.add(load, ids, pool).shape
    long = np.flatnonzero(shape.max(axis=1) > _LONG * shape.min(axis=1)).tolist()
    original = {ids[i] + "/square": ids[i] for i in long}
    store.add(lambda id_: squeeze(load(original[id_])), list(original), pool)
    return store.of([*ids, *original]), np.array([*range(len(ids)), *long], np.int64)


def squeeze(image: np.ndarray) -> np.ndarray:
    side = max(1, round(np.sqrt(image.size)))  # the same area, so that a link's scale stays right
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


class _Search:
    """Joins pictures into groups, link by link.

    Args:
        ids: of the pictures, sorted.
        features: of the views.
        picture: (number of views,) int64, position in `ids` of what each view shows; the first views are the pictures themselves.
        searched: some of the pictures, which need not be compared with each other any more.
    """

    def __init__(self, ids: list[str], features: Described, picture: np.ndarray, searched: Searched, pool: Executor):
        self.links = [Link(*link) for link in searched.links.itertuples(index=False)]
        self._ids, self._features, self._picture, self._pool = ids, features, picture, pool
        self._views = pd.Series(range(len(picture))).groupby(picture).agg(list)
        self._tested: set[tuple[int, int, bool, bool]] = set()
        position = pd.Index(ids, dtype=object).get_indexer
        self._new = np.ones(len(ids), bool)
        self._new[position(searched.ids)] = False
        self._groups = DisjointSet(range(len(ids)))
        for a, b in zip(position(searched.links["a"]), position(searched.links["b"]), strict=True):
            self._groups.merge(int(a), int(b))
        self._chosen = list(range(len(ids)))  # the pictures to search among
        self._asked = set(np.flatnonzero(self._new).tolist())  # those of them that are looked for
        self._grown: list[int] = []  # a picture of each group that a link has enlarged

    def join_identical(self) -> None:
        """Join pictures that are the same pixel by pixel, blank ones too."""
        first: dict[tuple, int] = {}
        for b in range(len(self._ids)):
            features = self._features[b]
            a = first.setdefault((features.shape, hashlib.sha256(features.thumbnail.tobytes()).digest()), b)
            if self._groups.merge(a, b):
                same = (len(features.xy), 1.0, 1.0, 0.0, False, False, 1.0, 1.0, 1.0)
                self.links.append(Link(self._ids[a], self._ids[b], "identical", *same))
        self._chosen = list(first.values())

    def join_aligned(self) -> bool:
        """Search among the chosen pictures, and join those that show the same X-ray.

        Returns:
            Whether there were any. Then another round may find more: the many copies of an X-ray, now one picture in the index,
            no longer take all the places among each other's nearest neighbours. Only these are looked for again.
        """
        found = self._candidates()
        queue = deque(range(len(found)))
        self._grown = []
        with tqdm(total=len(queue), desc="Comparing X-rays", unit="pair") as bar:
            while batch := self._next_batch(found, queue):
                for candidate, alignment in zip(batch, self._pool.map(self._align, batch), strict=True):
                    self._join(candidate, alignment)
                bar.update(bar.total - len(queue) - bar.n)
        chosen = {self._groups[picture]: picture for picture in sorted(range(len(self._ids)), key=self._worth)}
        self._chosen = sorted(chosen.values())
        self._asked = {chosen[self._groups[picture]] for picture in self._grown}
        return bool(self._grown)

    def _candidates(self) -> np.ndarray:
        """Pairs of which one is looked for, the best first: (n,) with the fields of `Candidate`, a tenth of its memory."""
        views = [view for picture in self._chosen for view in self._views[picture]]
        views = [view for view in views if self._features.n_keypoints[view] >= MIN_INLIERS]
        asked = [position for position, view in enumerate(views) if self._picture[view] in self._asked]
        if not asked:
            return np.zeros(0, _FOUND)
        index = Index(self._features.take(views), self._pool)
        found = tqdm(index.candidates(asked), "Searching copies", len(asked), unit="file")
        pairs = np.fromiter((self._in_order(each, views) for candidates in found for each in candidates), _FOUND)
        table = pd.DataFrame(pairs).sort_values(["votes", *_WAY], ascending=[False] + 4 * [True])
        return table.drop_duplicates(_WAY).to_records(index=False)

    def _in_order(self, candidate: Candidate, views: list[int]) -> Candidate:
        """A candidate among these views as one among all, its pictures in their order."""
        a, b = sorted((views[candidate.a], views[candidate.b]), key=lambda view: (self._picture[view], view))
        return candidate._replace(a=a, b=b)

    def _n_keypoints(self, picture: int) -> int:
        return int(self._features.n_keypoints[picture])

    def _worth(self, picture: int) -> tuple[bool, int]:
        """By which one picture stands for its group: what is new is to be compared, and keypoints are what is found."""
        return bool(self._new[picture]), self._n_keypoints(picture)

    def _next_batch(self, found: np.ndarray, queue: deque[int]) -> list[Candidate]:
        """The best candidates in the queue between groups that are apart, one for each two groups; the others wait."""
        batch, waiting, chosen = [], [], set()
        while queue and len(batch) < _BATCH:
            row = queue.popleft()
            candidate = Candidate(*found[row].item())
            pair = frozenset(self._groups[self._picture[view]] for view in (candidate.a, candidate.b))
            if len(pair) == 1 or candidate[1:] in self._tested:
                continue
            if pair in chosen:
                waiting.append(row)
                continue
            chosen.add(pair)
            self._tested.add(candidate[1:])
            batch.append(candidate)
        queue.extendleft(reversed(waiting))
        return batch

    def _align(self, candidate: Candidate) -> Alignment | None:
        a, b = self._features[candidate.a], self._features[candidate.b]
        b = mirror(b) if candidate.flipped else b
        return align(a, negate(b) if candidate.negative else b)

    def _join(self, candidate: Candidate, alignment: Alignment | None) -> None:
        a, b = self._picture[[candidate.a, candidate.b]].tolist()
        if alignment is None or not alignment.same_xray or self._groups.connected(a, b) or not self._supported(a, b):
            return
        self._groups.merge(a, b)
        self._grown.append(a)
        self.links.append(self._link(candidate, alignment))

    def _supported(self, a: int, b: int) -> bool:
        """Whether groups of three or more, about to be joined by a and b, are linked by two other pictures as well."""
        left, right = (sorted(self._groups.subset(x) - {x}, key=self._n_keypoints)[-2:] for x in (a, b))
        if len(left) < 2 or len(right) < 2:
            return True
        ways = product(product(left, right), (False, True), (False, True))
        pairs = [Candidate(0, *pair, flipped, negative) for pair, flipped, negative in ways]
        return any(alignment is not None and alignment.same_xray for alignment in self._pool.map(self._align, pairs))

    def _link(self, candidate: Candidate, alignment: Alignment) -> Link:
        ids = [self._ids[self._picture[view]] for view in (candidate.a, candidate.b)]
        features = self._features[candidate.a], self._features[candidate.b]
        return link_of(ids, features, alignment, "aligned", candidate.flipped, candidate.negative)


def link_of(
    ids: Sequence[str],
    features: tuple[Features, Features],
    alignment: Alignment,
    method: str,
    flipped: bool,
    negative: bool,
) -> Link:
    """How the second of two pictures lies on the first, in pixels of both as they are."""
    (xx, xy, _), (yx, yy, _) = alignment.transform
    zoom = max(features[0].shape) / max(features[1].shape)
    scale = float(np.sqrt(xx * yy - xy * yx) * zoom)
    angle = float(np.degrees(np.arctan2(yx - xy, xx + yy)))
    how = (alignment.inliers, alignment.inlier_ratio, scale, angle, flipped, negative)
    return Link(*ids, method, *how, *alignment.agreement)
