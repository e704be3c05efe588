"""Which pictures were found to show one X-ray, with the evidence, remembered between runs by the contents that were searched."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fracture_mae.data.reading.cache_folder import locked

_KEPT = 16  # sets of contents that are remembered, the last used ones


class Link(NamedTuple):
    """Two pictures made from one X-ray."""

    a: str
    b: str  # a < b
    method: str  # "identical", "aligned", "named" (aligned, less surely, and one name family), "name alone" (too blank to be aligned)
    inliers: int  # keypoints of b that are found again in their place in a
    inlier_ratio: float  # share of the matched keypoints that agree with the alignment
    scale: float  # pixels of a for each pixel of b
    angle: float  # by which b is turned clockwise to lie on a, in degrees
    flipped: bool  # b is mirrored left to right before it is turned
    negative: bool  # b's grey levels are inverted
    correlation: float  # of fine detail where both overlap, each part of it for itself
    shapes: float  # correlation of coarse shapes there
    overlap: float  # share of the smaller picture


def as_table(links: Iterable[Sequence] = ()) -> pd.DataFrame:
    """Links as a table with the columns and types of `Link`, sorted by a and b."""
    return pd.DataFrame(sorted(links), columns=list(Link._fields)).astype(Link.__annotations__)


def groups(links: pd.DataFrame, ids: Sequence[str]) -> pd.Series:
    """The group of each id: its smallest member.

    Args:
        links: pairs of ids in the columns a and b.

    Returns:
        Index ids, sorted.
    """
    ids = pd.Index(sorted(set(ids)), dtype=object)
    a, b = ids.get_indexer(links["a"]), ids.get_indexer(links["b"])
    graph = coo_array((np.ones(len(links), bool), (a, b)), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    return ids.to_series().groupby(component).transform("first").rename("group")


class Searched(NamedTuple):
    """Pictures that were searched together, and what was found."""

    ids: list[str]  # sorted
    links: pd.DataFrame  # between them alone, columns of Link

    def restrict(self, ids: Iterable[str]) -> "Searched":
        """What is still known when only `ids` are there.

        Copies that hung together through pictures that are gone count as never searched: they may be linked directly.
        """
        left = sorted(set(self.ids).intersection(ids))
        links = _between(self.links, left)
        together, before = groups(links, left), groups(self.links, self.ids)[left]
        torn = together.groupby(before).transform("nunique") > 1
        known = together.index[~torn].tolist()
        return Searched(known, _between(links, known))


def _between(links: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    return links[links["a"].isin(ids) & links["b"].isin(ids)].reset_index(drop=True)


class LinkStore:
    """The links of each set of pictures that was searched, in a file named by the set.

    A file is written beside its place and moved there, and carries its own SHA-256: what a killed writer left, or what was damaged
    since, counts as not there.

    Args:
        folder: made when the first set is stored.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, ids: Sequence[str], search: Callable[[Searched], pd.DataFrame]) -> pd.DataFrame:
        """The links among `ids`: as stored, or what `search` finds beside what is known of most of them.

        A set that was searched keeps its links. A set that is new is compared as far as no stored set knows its pictures.

        Args:
            ids: that name contents, as a SHA-256 does.
            search: from what is known of some of the pictures to the links among all; not called where all is known.
        """
        ids = sorted(set(ids))
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(ids)
        lock = FileLock(self.folder / f"{file.stem[0]}.lock")
        with locked(lock) as may_write:  # else two processes would search the same
            stored = _read(file)
            if stored is None:
                known = self._best_known(ids)
                links = known.links if len(known.ids) == len(ids) else search(known)
                stored = Searched(ids, links)
                _write(stored, file)
            if may_write:
                os.utime(file)
                self._forget_oldest()
        return stored.links

    def _file(self, ids: Sequence[str]) -> Path:
        return self.folder / f"{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:32]}.json"

    def _best_known(self, ids: Sequence[str]) -> Searched:
        """What the stored set that says most of `ids` says of them; of equals the one whose file's name comes first."""
        stored = filter(None, map(_read, sorted(self.folder.glob("*.json"))))
        known = (searched.restrict(ids) for searched in stored)
        return max(known, key=lambda searched: len(searched.ids), default=Searched([], as_table()))

    def _forget_oldest(self) -> None:
        files = sorted(self.folder.glob("*.json"), key=_last_use, reverse=True)
        for file in files[_KEPT:]:
            file.unlink(missing_ok=True)


def _last_use(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another process forgot it
        return 0.0


def _write(searched: Searched, file: Path) -> None:
    rows = [list(row) for row in searched.links.astype(object).itertuples(index=False)]
    body = json.dumps({"ids": searched.ids, "links": rows})
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(f"{_checksum(body)}\n{body}", encoding="ascii")
    unfinished.replace(file)


def _read(file: Path) -> Searched | None:
    """A stored set; None where there is none, or a damaged one."""
    try:
        checksum, _, body = file.read_text(encoding="ascii").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if checksum != _checksum(body):
        return None
    stored = json.loads(body)
    return Searched(stored["ids"], as_table(stored["links"]))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
