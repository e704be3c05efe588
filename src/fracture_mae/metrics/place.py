"""How well a map of an X-ray says where the fracture is: the pointing game, and the free-response curve.

Boxes are shares of the square that a network is shown: x0, y0, x1, y1, x to the right, y down; NaN stands for no box. A map holds the
logit of each patch, and lies evenly over that square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-4  # of a patch: a centre on an edge lies within, whatever the last digits say
_NEIGHBOURS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]


def centres(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of each patch's centre, [rows, columns] each."""
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return x, y


def within(boxes: np.ndarray, rows: int, columns: int, reach: float = 0.0) -> np.ndarray:
    """Return which patches have their centre in which box, edges included: bool [b, rows, columns].

    boxes: [b, 4]; reach: by how many patches, in each direction, a centre may lie outside.
    """
    x, y = centres(rows, columns)
    x0, y0, x1, y1 = boxes.T[:, :, None, None]
    wide, high = (reach + _ROUNDING) / columns, (reach + _ROUNDING) / rows
    return (x >= x0 - wide) & (x <= x1 + wide) & (y >= y0 - high) & (y <= y1 + high)


def _flat(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [n, M, 4] without those that are none, float64 [b, 4], and the number of each one's file, int64 [b]."""
    file, number = np.nonzero(~np.isnan(boxes).any(axis=2))
    return boxes[file, number].astype(np.float64), file


def _in_any(near: np.ndarray, file: np.ndarray, n: int) -> np.ndarray:
    """Return which patches of n files are near any of their boxes, bool [n, rows, columns], from those near each box [b, …]."""
    found = np.zeros((n, *near.shape[1:]), dtype=bool)
    np.logical_or.at(found, file, near)
    return found


def hottest_inside(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each map's hottest patch has its centre in a box: float64 [n], 1 or 0.

    The pointing game of Zhang et al. ("Top-down neural attention by excitation backprop", IJCV 126, 2018), without their tolerance.
    Where several patches are the hottest, it is the share of these that lie in a box: a map that says the same everywhere has
    what a guess would have.

    maps: [n, rows, columns]; boxes: [n, M, 4].
    """
    flat, file = _flat(boxes)
    hottest = maps == maps.max(axis=(1, 2), keepdims=True)
    inside = _in_any(within(flat, *maps.shape[1:]), file, len(maps))
    return (hottest & inside).sum(axis=(1, 2)) / hottest.sum(axis=(1, 2))


def covered(boxes: np.ndarray, film: np.ndarray) -> np.ndarray:
    """Return the share of each film that its boxes cover, which is how often a guess on the film hits: float64 [n].

    boxes: [n, M, 4]; film: [n, 4], where in the square the film lies.
    """
    low, high = np.tile(film[:, None, :2], 2), np.tile(film[:, None, 2:], 2)
    area = (film[:, 2] - film[:, 0]) * (film[:, 3] - film[:, 1])
    return np.array([_area(each) for each in np.clip(boxes, low, high)]) / area


def _area(boxes: np.ndarray) -> float:
    """Return the area that boxes [M, 4] cover together, what several cover counted once."""
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    x, y = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    x0, y0, x1, y1 = boxes.T[:, :, None, None]
    inside = (
        (x0 <= x[:-1]) & (x[1:] <= x1) & (y0 <= y[:-1, None]) & (y[1:, None] <= y1)
    )  # [M, cells down, cells across]
    return float(np.diff(y) @ inside.any(axis=0) @ np.diff(x))


def peaks(maps: np.ndarray) -> np.ndarray:
    """Return which patches are marks: those that none of their eight neighbours surpasses, bool [n, rows, columns].

    Of equal neighbours the first one, row by row, is the mark, so a map that says the same everywhere has one. No two marks touch
    (non-maximum suppression).
    """
    rows, columns = maps.shape[1:]
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    is_peak = np.ones(maps.shape, dtype=bool)
    for row, column in _NEIGHBOURS:
        neighbour = padded[:, 1 + row : 1 + row + rows, 1 + column : 1 + column + columns]
        is_peak &= maps > neighbour if (row, column) < (0, 0) else maps >= neighbour
    return is_peak


@dataclass(frozen=True)
class Marks:
    """The marks of n X-ray files, as the free-response curve counts them.

    Attributes:
        n: files: those with boxes, and those without a fracture.
        best: float64 [b], highest mark that hits each box; -inf where none does.
        box_of: int64 [b], the file of each box.
        best_of_file: float64 [n], highest mark that hits any box of the file; NaN where it has none.
        false: float64 [m], marks that hit no box, highest first.
        false_of: int64 [m], the file of each.
    """

    n: int
    best: np.ndarray
    box_of: np.ndarray
    best_of_file: np.ndarray
    false: np.ndarray
    false_of: np.ndarray

    @classmethod
    def of(cls, maps: np.ndarray, boxes: np.ndarray) -> "Marks":
        """The marks of maps [n, rows, columns] and boxes [n, M, 4]; who has no box has no fracture.

        A mark hits a box if its centre lies in it, or within half a patch of it: no box is too small to be hit.
        """
        is_mark = peaks(maps)
        flat, box_of = _flat(boxes)
        near = within(flat, *maps.shape[1:], reach=0.5)
        best = np.where(is_mark[box_of] & near, maps[box_of], -np.inf).max(axis=(1, 2))
        best_of_file = np.full(len(maps), np.nan)
        np.fmax.at(best_of_file, box_of, best)
        is_false = is_mark & ~_in_any(near, box_of, len(maps))
        false, false_of = maps[is_false], np.nonzero(is_false)[0]
        order = np.argsort(-false, kind="stable")
        return cls(len(maps), best, box_of, best_of_file, false[order], false_of[order])

    @property
    def has_box(self) -> np.ndarray:
        """bool [n]."""
        return ~np.isnan(self.best_of_file)


def found_at(marks: Marks, rates: Sequence[float], weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return the share of boxes, and of files with boxes, that are found at each rate of false marks, [...] each.

    The free-response operating characteristic (Bunch et al., "A free-response approach to the measurement and characterization of
    radiographic-observer performance", J. Appl. Photogr. Eng. 4, 1978; Chakraborty, "Maximum likelihood analysis of free-response
    receiver operating characteristic (FROC) data", Med. Phys. 16, 1989): marks count down to the lowest score at which there are
    still no more false ones per file than the rate allows; equal scores count together.

    rates: false marks per file, over files with and without fracture; weight: [..., n], of each file; a box weighs what its file does.
    Names: found_at_RATE, of files; boxes_found_at_RATE.
    """
    per_file = np.cumsum(weight[..., marks.false_of], axis=-1) / weight.sum(axis=-1, keepdims=True)
    scores = np.append(marks.false, -np.inf)
    with_box = np.flatnonzero(marks.has_box)
    of_files, of_boxes = weight[..., with_box], weight[..., marks.box_of]
    result = {}
    for rate in rates:
        limit = scores[(per_file <= rate + 1e-9).sum(axis=-1)][..., None]  # of the first false mark that is too much
        result[f"found_at_{rate:g}"] = _share(marks.best_of_file[with_box] > limit, of_files)
        result[f"boxes_found_at_{rate:g}"] = _share(marks.best > limit, of_boxes)
    return result


def _share(hit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (hit * weight).sum(axis=-1) / weight.sum(axis=-1)


def froc_curve(marks: Marks, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false marks per file, and the shares of boxes and of files found at that, [k] each, from no false mark to all marks.

    weight: [n], of each file.
    """
    limits = np.append(np.unique(marks.false)[::-1], -np.inf)
    with_box = np.flatnonzero(marks.has_box)

    def above(scores: np.ndarray, of_score: np.ndarray) -> np.ndarray:
        """Weight of the scores above each limit."""
        order = np.argsort(scores)
        total = np.append(0, np.cumsum(of_score[order]))
        return total[-1] - total[np.searchsorted(scores[order], limits, side="right")]

    of_boxes, of_files = weight[marks.box_of], weight[with_box]
    return (
        above(marks.false, weight[marks.false_of]) / weight.sum(),
        above(marks.best, of_boxes) / of_boxes.sum(),
        above(marks.best_of_file[with_box], of_files) / of_files.sum(),
    )
