"""Choosing what a person should look at: the largest groups, and the links most likely to be wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fracture_mae.audit.evidence import NAME, SAME_PICTURE
from fracture_mae.data.copies.alignment import align, matched_keypoints
from fracture_mae.data.copies.keypoints import SIDE, describe, mirror, negate
from fracture_mae.data.copies.markers import Box
from fracture_mae.data.copies.search import squeeze

_N_ROWS, _N_COLUMNS = 8, 10  # of the contact sheet
_SPLIT_ORDER = ["train", "validation", "test", ""]

# How many links to draw, by what makes one doubtful: column of `evidence.describe`, whether its lowest values are.
_DOUBTS = {
    "correlation": (3, True),
    "inlier_ratio": (2, True),
    "overlap": (1, True),
    "zoom": (1, False),
    "turn": (1, False),
}
_N_NAMED = 2  # links by name alone


@dataclass(frozen=True)
class Row:
    """Files of one X-ray, to be drawn side by side: a picture uint8 [h, w], published split and caption of each."""

    title: str
    pictures: list[np.ndarray]
    splits: list[str]
    captions: list[str]


@dataclass(frozen=True)
class Example:
    """Two linked files: pictures uint8 [h, w], longest side SIDE, and the keypoints (n, 2) that match."""

    title: str
    names: str
    a: np.ndarray
    b: np.ndarray
    xy_a: np.ndarray
    xy_b: np.ndarray


@dataclass(frozen=True)
class MarkedPair:
    """Two X-rays with the same marker, to be drawn: pictures uint8 [h, w], longest side SIDE, and the marker's box in each."""

    title: str
    names: str
    a: np.ndarray
    b: np.ndarray
    box_a: Box
    box_b: Box


@dataclass(frozen=True)
class MarkedPicture:
    """A picture uint8 [h, w] to be drawn, with boxes (left, top, right, bottom) in its pixels."""

    title: str
    picture: np.ndarray
    boxes: list[Box]


def largest_groups(table: pd.DataFrame, sizes: pd.DataFrame, picture: Callable[[int], np.ndarray]) -> list[Row]:
    """The X-rays with most files, and of each up to ten different files, spread over the published splits.

    Args:
        table: of `evidence.join`, with the column row.
        sizes: of `leakage.group_sizes`.
        picture: from a value of row to uint8 [size, size].
    """
    rows = []
    for group, size in sizes[sizes["files"] > 1].head(_N_ROWS).iterrows():
        files = table[table["group"] == group]
        order = files["split_published"].map(_SPLIT_ORDER.index)
        shown = files.assign(order=order).drop_duplicates(["sha256", "order"]).sort_values(["order", "path"])
        shown = shown.iloc[np.unique(np.linspace(0, len(shown) - 1, _N_COLUMNS).round().astype(int))]
        title = f"{size['label']}\n{size['files']:,} files\n{size['contents']:,} different"
        captions = [_shortened(Path(path).name, 22) for path in shown["path"]]
        rows.append(Row(title, list(map(picture, shown["row"])), shown["split_published"].tolist(), captions))
    return rows


def choose(links: pd.DataFrame) -> pd.DataFrame:
    """The links of `evidence.describe` that are most worth a look: the weakest by every measure, and names alone; one of an X-ray."""
    aligned = links[links["method"] == "aligned"]
    doubtful = aligned.assign(zoom=np.log(aligned["scale"].astype(float)).abs(), turn=aligned["angle"].abs())
    mirrored = doubtful[doubtful["flipped"].astype(bool)]
    named = links[links["evidence"] == NAME]
    ranked = [(doubtful.sort_values(column, ascending=lowest), n) for column, (n, lowest) in _DOUBTS.items()]
    ranked += [(mirrored.sort_values("correlation"), 1), (named.sort_values("files", ascending=False), _N_NAMED)]
    chosen: dict[str, int] = {}  # group → row
    for rows, n in ranked:
        fresh = rows[~rows["group"].isin(chosen)].drop_duplicates("group").head(n)
        chosen |= dict(zip(fresh["group"], fresh.index, strict=True))
    return links.loc[list(chosen.values())]


def examples(chosen: pd.DataFrame, load: Callable[[str], np.ndarray]) -> Iterator[Example]:
    """Yield the links with their pictures and matched keypoints.

    Args:
        load: from a path to its grey picture (height, width) uint8.
    """
    for link in chosen.itertuples():
        pictures = load(link.path_a), load(link.path_b)
        aligned = link.evidence == SAME_PICTURE and link.method == "aligned"
        xy_a, xy_b = _match(*pictures, bool(link.flipped), bool(link.negative)) if aligned else (np.zeros((0, 2)),) * 2
        a, b = (_shrink(picture) for picture in pictures)
        names = "   |   ".join(_shortened(Path(path).name, 34) for path in (link.path_a, link.path_b))
        yield Example(_title(link), names, a, b, xy_a, xy_b)


def _title(link) -> str:
    if link.evidence != SAME_PICTURE:
        return f"{link.evidence} alone, joins {link.files:,} files"
    turned = (
        f"turned {abs(link.angle):.0f}°"
        + (", mirrored" if link.flipped else "")
        + (", negative" if link.negative else "")
    )
    return (
        f"correlation {link.correlation:.2f} · {int(link.inliers)} inliers ({link.inlier_ratio:.0%}) · "
        f"overlap {link.overlap:.0%} · scale {link.scale:.2f} · {turned}"
    )


def _match(a: np.ndarray, b: np.ndarray, flipped: bool, negative: bool) -> tuple[np.ndarray, np.ndarray]:
    """Matched keypoints (n, 2) in pixels of both pictures as `_shrink` draws them, each as it is or squeezed into a square."""
    for view_a, view_b in product((a, squeeze(a)), (b, squeeze(b))):
        features_a, features_b = describe(view_a), describe(view_b)
        facing = mirror(features_b) if flipped else features_b
        facing = negate(facing) if negative else facing
        alignment = align(features_a, facing)
        if alignment is not None and alignment.same_xray:
            xy_a, xy_b = matched_keypoints(features_a, facing, alignment.transform)
            if flipped:
                xy_b = np.column_stack([features_b.thumbnail.shape[1] - 1 - xy_b[:, 0], xy_b[:, 1]])
            return _in_drawing(xy_a, features_a.thumbnail, a), _in_drawing(xy_b, features_b.thumbnail, b)
    return np.zeros((0, 2)), np.zeros((0, 2))


def _in_drawing(xy: np.ndarray, thumbnail: np.ndarray, picture: np.ndarray) -> np.ndarray:
    drawn = _shrink(picture)
    return xy * (np.array(drawn.shape[::-1]) / thumbnail.shape[::-1])


def _shrink(picture: np.ndarray) -> np.ndarray:
    scale = SIDE / max(picture.shape)
    size = [max(1, round(scale * side)) for side in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _shortened(name: str, longest: int) -> str:
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"
