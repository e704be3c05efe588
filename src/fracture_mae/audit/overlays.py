"""Bright marks that are no part of the body: letters, numbers, arrows, rings and stamps, burnt in or laid on the film.

A mark that points at a fracture, or that only some sources have, tells the label without the bone. `copies.markers` asks which X-rays
carry the same lettering; here any mark counts, and its sharp, even light tells it from bone and from most metal.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from fracture_mae.audit import figures
from fracture_mae.audit.examples import MarkedPicture
from fracture_mae.data.copies.markers import Box
from fracture_mae.data.copies.search import single_threaded_libraries
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import delong
from fracture_mae.plots import interval_text
from fracture_mae.tracking.report import Report

_SIDE = 512  # pixels of the longest side that marks are looked for at; smaller pictures stay as they are
_STROKE = 0.05  # of the longest side: wider strokes are no letters
_SHORTEST, _LONGEST = 0.012, 0.18  # of the longest side
_LIFT = 60  # grey levels above what is left where everything as thin as a stroke is gone
_LEAST_PIXELS = 12
_BRIGHTEST = 0.6  # of the brightest grey of the picture
_MOST_SOLID = 0.93  # share of the convex hull: rods, screws and stones fill theirs, letters, arrows and rings do not
_LONGEST_OUTLINE, _OUTLINE = (
    0.45,
    0.3,
)  # rings and boxes drawn around something may be longer: they fill little of their hull
_JOINED = 0.02  # of the longest side: pieces nearer than this are one overlay
_AT_EDGE = 0.1  # of the longest side: longer pieces that touch the edge are a frame
_MARGIN = 4  # pixels around a piece, in which its edge and its neighbourhood are looked at
_N_DRAWN = 40


@dataclass(frozen=True)
class Look:
    """How a mark stands out.

    Attributes:
        contrast: of its brightest tenth to the median around it, at least [grey levels].
        gap: the same to the brightest tenth around it, at least.
        around: brightest tenth around it, at most.
        spread: from the median to the brightest tenth of itself, at most.
        steepness: gradient at its edge in parts of the contrast, at least [1/pixel].
        shortest: of the longest side, at least.
    """

    contrast: float
    gap: float
    around: float = 255
    spread: float = 255
    steepness: float = 0
    shortest: float = _SHORTEST


# Burnt into the picture: even, and sharp; or lead letters on the film, which turning and shrinking has softened: in dark air.
_BURNT_IN = Look(contrast=90, gap=60, spread=25, steepness=0.27)
_IN_AIR = Look(contrast=110, gap=90, around=60, steepness=0.16, shortest=0.03)


@dataclass(frozen=True)
class Overlays:
    """What was found.

    Attributes:
        files: a row per distinct file: path, group, label, label_name, source, patient where it is known, n_overlays, boxes (left, top,
            right and bottom [pixels], of all) and share (of the picture's area, that these take).
        told: how well the mere presence of an overlay tells the label of an X-ray: auroc, low and high.
    """

    files: pd.DataFrame
    told: dict[str, float]

    @property
    def marked(self) -> pd.DataFrame:
        return self.files[self.files["n_overlays"] > 0]

    @property
    def by_source(self) -> pd.DataFrame:
        """A row per label and source: files and X-rays, and how many of each carry an overlay."""
        marked = self.files.assign(marked=self.files["n_overlays"] > 0)
        xrays = marked.groupby(["label_name", "source", "group"])["marked"].max().groupby(["label_name", "source"])
        files = marked.groupby(["label_name", "source"])["marked"]
        counts = {
            "files": files.size(),
            "marked_files": files.sum(),
            "xrays": xrays.size(),
            "marked_xrays": xrays.sum(),
        }
        return pd.DataFrame(counts).reset_index()


def find(table: pd.DataFrame, load: Callable[[str], np.ndarray], num_workers: int | None = None) -> Overlays:
    """Look for overlays in every distinct file.

    Args:
        table: of `evidence.join`, with the column source.
        load: from a path to its grey picture (height, width) uint8.
    """
    files = table.drop_duplicates("sha256").reset_index(drop=True)

    def look(path: str) -> tuple[list[Box], float]:
        picture = load(path)
        boxes = boxes_of(picture)
        return boxes, sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) / picture.size

    with ThreadPoolExecutor(num_workers) as pool, single_threaded_libraries():
        looked = pool.map(look, files["path"])
        found = list(tqdm(looked, "Looking for overlays", len(files), unit="X-ray", leave=False))
    columns = ["path", "group", "label", "label_name", "source", *(["patient"] if "patient" in files else [])]
    boxes = [each for each, _ in found]
    files = files[columns].assign(
        n_overlays=[len(each) for each in boxes], boxes=boxes, share=[share for _, share in found]
    )
    return Overlays(files, _told(files))


def boxes_of(picture: np.ndarray) -> list[Box]:
    """Where a grey picture (height, width) uint8 carries overlays: left, top, right and bottom [pixels], the latter two outside.

    Pieces that nearly touch, such as the letters of a word, are one overlay.
    """
    scale = min(1.0, _SIDE / max(picture.shape))
    size = [max(1, round(scale * side)) for side in picture.shape[::-1]]
    image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    marks = np.zeros(image.shape, np.uint8)
    for piece, corner in _pieces(image):
        if _is_mark(image, piece, corner):
            _paint(marks, piece, corner)
    reach = max(3, round(_JOINED * max(image.shape)) | 1)
    joined = cv2.dilate(marks, np.ones((reach, reach), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    margin = reach // 2
    return [_enlarged(box, margin, scale, picture.shape) for box in boxes[1:]]


def _enlarged(box: np.ndarray, margin: int, scale: float, shape: tuple[int, ...]) -> Box:
    """A component's box without its margin, in pixels of the picture."""
    left, top, width, height, _ = box
    ends = left + margin, top + margin, left + width - margin, top + height - margin
    left, top, right, bottom = (round(end / scale) for end in ends)
    return max(left, 0), max(top, 0), min(max(right, left + 1), shape[1]), min(max(bottom, top + 1), shape[0])


def _paint(marks: np.ndarray, piece: np.ndarray, corner: tuple[int, int]) -> None:
    top, left = corner
    part = marks[top : top + piece.shape[0], left : left + piece.shape[1]]
    np.maximum(part, piece, out=part)


def _pieces(image: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Yield thin bright pieces of about the right size: uint8 mask with a margin, and its top and left corner in the image."""
    side = max(image.shape)
    stroke = max(5, int(_STROKE * side) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (stroke, stroke))
    padded = cv2.copyMakeBorder(image, *[stroke] * 4, cv2.BORDER_REPLICATE)
    inside = slice(stroke, -stroke)
    hat = cv2.morphologyEx(padded, cv2.MORPH_TOPHAT, kernel)[inside, inside]
    n, labels, stats, _ = cv2.connectedComponentsWithStats((hat >= _LIFT).astype(np.uint8), connectivity=8)
    for number in range(1, n):
        left, top, width, height, area = stats[number]
        length = max(width, height) / side
        at_edge = min(left, top) <= 1 or left + width >= image.shape[1] - 1 or top + height >= image.shape[0] - 1
        if area < _LEAST_PIXELS or not _SHORTEST <= length <= (_AT_EDGE if at_edge else _LONGEST_OUTLINE):
            continue
        corner = max(top - _MARGIN, 0), max(left - _MARGIN, 0)
        around = labels[corner[0] : top + height + _MARGIN, corner[1] : left + width + _MARGIN]
        yield (around == number).astype(np.uint8), corner


def _is_mark(image: np.ndarray, piece: np.ndarray, corner: tuple[int, int]) -> bool:
    top, left = corner
    grey = image[top : top + piece.shape[0], left : left + piece.shape[1]].astype(np.float64)
    near, far = (cv2.dilate(piece, np.ones((reach, reach), np.uint8)) for reach in (3, 7))
    ring = (far > 0) & (near == 0)
    length = (max(piece.shape) - 2 * _MARGIN) / max(image.shape)
    solidity = _solidity(piece)
    if not ring.any() or solidity > _MOST_SOLID or (length > _LONGEST and solidity > _OUTLINE):
        return False
    middle, bright = np.percentile(grey[piece > 0], [50, 90])
    if bright < _BRIGHTEST * image.max():
        return False
    ground, around = np.percentile(grey[ring], [50, 90])
    edge = (near > 0) & (cv2.erode(piece, np.ones((3, 3), np.uint8)) == 0)
    across, down = (cv2.Scharr(grey, cv2.CV_64F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    contrast = bright - ground
    steepness = np.percentile(np.hypot(across, down)[edge], 60) / max(contrast, 1.0)
    return any(
        contrast >= look.contrast
        and bright - around >= look.gap
        and around <= look.around
        and bright - middle <= look.spread
        and steepness >= look.steepness
        and length >= look.shortest
        for look in (_BURNT_IN, _IN_AIR)
    )


def _solidity(piece: np.ndarray) -> float:
    """Share of its convex hull that a piece fills, 0 to 1."""
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.vstack(contours))
    # A contour runs through the middle of pixels: by Pick's theorem these are so many.
    n_pixels = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
    return float(piece.sum() / n_pixels)


def _told(files: pd.DataFrame) -> dict[str, float]:
    """By the share of an X-ray's files that carry an overlay; an X-ray under both labels counts as two."""
    marked = files.assign(marked=files["n_overlays"] > 0, drawn=drawn(files))
    xrays = marked.groupby(["group", "label"]).agg(marked=("marked", "mean"), drawn=("drawn", "first")).reset_index()
    found = delong.auroc(xrays["label"], xrays["marked"], xrays["drawn"])
    return {"auroc": found.estimate, "low": found.low, "high": found.high}


def show(overlays: Overlays, name: str, load: Callable[[str], np.ndarray]) -> Report:
    """The table of all files, counts by label and source, and one file of some marked X-rays drawn.

    Args:
        name: of the data.
    """
    files = overlays.files.drop(columns=["group", "label"])
    metrics = {"overlays/n_files": len(overlays.marked), "overlays/n_xrays": overlays.marked["group"].nunique()}
    metrics |= {f"overlays/{key}": value for key, value in overlays.told.items() if np.isfinite(value)}
    found = Report(metrics=metrics, tables={"overlays.csv": files, "overlays_by_source.csv": overlays.by_source})
    marked = overlays.marked.drop_duplicates("group")
    if len(marked):
        rows = np.unique(np.linspace(0, len(marked) - 1, _N_DRAWN).round().astype(int))
        chosen = marked.sort_values(["label", "source", "path"]).iloc[rows]
        pictures = [
            MarkedPicture(f"{row.label_name} · {Path(row.path).name}", load(row.path), row.boxes)
            for row in chosen.itertuples()
        ]
        title = f"Overlays, to be checked by eye · {name} · {len(pictures)} of {len(marked):,} X-rays that carry some"
        found.figures["overlays.png"] = figures.marked_pictures(pictures, title)
    return found


def sentence(overlays: Overlays) -> str:
    """What was found, to be printed."""
    if overlays.marked.empty:
        return "overlays (letters, arrows, stamps): none"
    counts = overlays.by_source
    total = counts.groupby("label_name")[["marked_xrays", "xrays"]].sum()
    labels = ", ".join(f"{row.marked_xrays:,} of {row.xrays:,} {row.Index}" for row in total.itertuples())
    told = interval_text(*(overlays.told[key] for key in ("auroc", "low", "high")))
    lines = [
        f"overlays (letters, arrows, stamps) on X-rays: {labels}; that there is one tells the label with an AUROC of {told}; look at "
        "overlays.png",
        counts.to_string(index=False),
    ]
    return "\n".join(lines)
