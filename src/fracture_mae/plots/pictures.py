"""X-rays side by side."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from fracture_mae.plots.style import DPI, INK

_SHEET_COLUMNS = 6


def reconstructions(
    panels: Mapping[str, np.ndarray],
    titles: Sequence[str],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> Figure:
    """Draw one row per X-ray and one column per panel, in the order of `panels`.

    panels: name → [n, h, w] grey in [0, 1]; titles: n labels of the rows, may hold line breaks;
    captions: name of a panel → n texts that stand below its pictures.
    """
    n_rows, height, width = next(iter(panels.values())).shape
    figure, grid = _picture_grid(n_rows, len(panels), height / width, 0.26 if captions else 0.06, title)
    for column, (name, pictures) in enumerate(panels.items()):
        grid[0, column].set_title(name, fontsize=10, color=INK)
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(pictures[row], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if captions and name in captions:
                axes.set_xlabel(captions[name][row], fontsize=9, color=INK, labelpad=3)
    for axes, row_title in zip(grid[:, 0], titles, strict=True):
        lines = [part for line in row_title.splitlines() for part in textwrap.wrap(line, 26)]
        axes.set_ylabel("\n".join(lines), rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=6)
    return figure


def contact_sheet(pictures: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """Draw pictures uint8 [n, h, w] in rows of six, each with its caption below."""
    n_rows = -(-len(pictures) // _SHEET_COLUMNS)
    figure = Figure(figsize=(1.6 * _SHEET_COLUMNS, 0.5 + 1.8 * n_rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    grid = figure.subplots(n_rows, _SHEET_COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, picture, caption in zip(grid, pictures, captions, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(textwrap.shorten(caption, 24, placeholder="…"), fontsize=7, color=INK, y=-0.14)
    return figure


def _picture_grid(n_rows: int, n_columns: int, aspect: float, gap: float, title: str) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [n_rows, n_columns] of 2.1 inches width, with room for labels at the left.

    The places are set by hand: an automatic layout lets long labels shrink the pictures.
    """
    cell, left, top = 2.1, 2.0, 0.7 if title else 0.35
    width = left + n_columns * (cell + 0.06)
    height = top + n_rows * (cell * aspect + gap)
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.suptitle(title, fontsize=11, color=INK, y=1 - 0.1 / height, va="top")
    place = {"left": left / width, "right": 1 - 0.06 / width, "top": 1 - top / height, "bottom": gap / height}
    space = {"wspace": 0.06 / cell, "hspace": gap / (cell * aspect)}
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw={**place, **space})
