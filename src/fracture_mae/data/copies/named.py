"""What names propose and pictures bear out: files of one name family that the search did not join."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pandas as pd

from fracture_mae.data.copies.alignment import MIN_INLIERS, align
from fracture_mae.data.copies.keypoints import Features, KeypointStore, mirror, negate
from fracture_mae.data.copies.links import Link, as_table, groups
from fracture_mae.data.copies.search import link_of, single_threaded_libraries


def find(
    load: Callable[[str], np.ndarray],
    family: pd.Series,
    links: pd.DataFrame,
    *,
    store: KeypointStore,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Links between contents whose names say that they are copies, and whose pictures do not contradict.

    A name is a proposal: between files of one family less evidence is asked for than between strangers (`Alignment.likely_copy`), but
    some, wherever both pictures can be compared. Of each family one picture of each group is compared with the one that shows most.

    Args:
        load: from a content to its grey picture (height, width) uint8; called in several threads.
        family: index content (a SHA-256), one row for each family that it belongs to.
        links: what the pictures alone say, columns of `Link`.
        store: of features by content.

    Returns:
        Columns of `Link`; method "named", or "name alone" where a picture shows too little to be compared.
    """
    members = family.rename("family").rename_axis("content").reset_index().drop_duplicates()
    members["group"] = groups(links, members["content"].tolist())[members["content"]].to_numpy()
    members = members[members.groupby("family")["group"].transform("nunique") > 1]
    if members.empty:
        return as_table()
    contents = sorted(set(members["content"]))
    with ThreadPoolExecutor(num_workers) as pool, single_threaded_libraries():
        described = store.add(load, contents, pool)
        position = dict(zip(contents, range(len(contents)), strict=True))
        pairs = _proposals(members.assign(keypoints=described.n_keypoints[members["content"].map(position)]))
        found = list(pool.map(lambda pair: _compare(pair, [described[position[content]] for content in pair]), pairs))
    return as_table(link for link in found if link is not None)


def _proposals(members: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Pairs of contents, the smaller first: of each family the picture with most keypoints, and one of each other group."""
    shown = members.sort_values(["keypoints", "content"], ascending=[False, True]).drop_duplicates(["family", "group"])
    for _, representatives in shown.groupby("family")["content"]:
        hub, *others = representatives
        yield from ((min(hub, other), max(hub, other)) for other in others)


def _compare(pair: tuple[str, str], features: Sequence[Features]) -> Link | None:
    a, b = features
    if (
        min(len(a.xy), len(b.xy)) < MIN_INLIERS
    ):  # nothing to compare, such as in a blank picture: it contradicts no name
        return Link(*pair, "name alone", 0, 0.0, 1.0, 0.0, False, False, 0.0, 0.0, 0.0)
    for flipped, negative in product((False, True), repeat=2):
        facing = mirror(b) if flipped else b
        alignment = align(a, negate(facing) if negative else facing)
        if alignment is not None and (alignment.same_xray or alignment.likely_copy):
            return link_of(pair, (a, b), alignment, "named", flipped, negative)
    return None
