"""Where on an X-ray a classifier sees a fracture."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fracture_mae.plots.style import BLUE, DPI, GREEN, INK, MARK, RED, SKY, figure_of, legend

_COLUMNS = 4  # X-rays side by side, each plain and with its map
_CELL = 1.75  # inches
_LETTERS = 27  # that fit below two pictures, in a line
_SIDE = 1.1  # inches, of a picture in a gallery
_LETTERS_BELOW = 30  # the same of a gallery


def froc(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], found: Mapping[str, Mapping[float, tuple]], title: str = "FROC"
) -> Figure:
    """Draw the share found against false marks per X-ray.

    curves: name → (false marks per X-ray [k], share found [k]);
    found: name → rate of false marks → (estimate, low, high), drawn on the curve.
    """
    figure, axes = figure_of(5.8, 5.4, title)
    for (name, (per_xray, share)), colour, aside in zip(curves.items(), (BLUE, RED), (-0.012, 0.012), strict=False):
        axes.plot(per_xray, share, color=colour, drawstyle="steps-post", label=name)
        for rate, (estimate, low, high) in found[name].items():
            reach = np.abs(np.array([[low], [high]]) - estimate)
            axes.errorbar([rate + aside], [estimate], yerr=reach, fmt="o", color=colour, markersize=5, capsize=3)
    for rate in next(iter(found.values()), {}):
        axes.axvline(rate, **MARK | {"linewidth": 0.6})
    axes.set(xlabel="False marks per X-ray", ylabel="Share found", xlim=(-0.02, 3), ylim=(-0.02, 1.02))
    legend(axes, loc="lower right")
    return figure


def maps(
    pictures: np.ndarray,
    logits: np.ndarray,
    captions: Sequence[str],
    boxes: np.ndarray,
    title: str = "",
    meaning: str = "Logit of the patch",
) -> Figure:
    """Draw X-rays, each plain and beside it under its map, in rows of four; all maps have one scale, and a cross at the hottest patch.

    pictures: uint8 [n, h, w]; logits: [n, rows, columns], of each patch; captions: n texts;
    boxes: [n, M, 4], x0, y0, x1, y1 in shares of the picture, NaN where there is none, drawn on both; meaning: of a logit.
    """
    n_columns = max(2, min(_COLUMNS, len(pictures)))  # a title needs room
    n_rows = max(1, -(-len(pictures) // n_columns))
    size = (2 * _CELL * n_columns + 0.9, 1.0 + (_CELL + 0.6) * n_rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    marks = "cross: the hottest patch"
    if not np.isnan(boxes).all():
        marks += " · green: a box around a fracture"
    figure.supxlabel(marks, fontsize=9, color=INK)
    grid = figure.subplots(n_rows, 2 * n_columns, squeeze=False).reshape(-1, 2)
    for axes in grid.ravel():
        axes.set_axis_off()
    low, high = np.quantile(logits, [0.05, 1])
    for number, ((plain, under), picture) in enumerate(zip(grid, pictures, strict=False)):
        for axes in (plain, under):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
            _draw_boxes(axes, boxes[number])
        shown = under.imshow(
            logits[number],
            cmap="inferno",
            vmin=low,
            vmax=high,
            alpha=0.55,
            extent=(0, 1, 1, 0),
            interpolation="nearest",
        )
        row, column = np.unravel_index(logits[number].argmax(), logits[number].shape)
        place = ((column + 0.5) / logits.shape[2], (row + 0.5) / logits.shape[1])
        under.plot(*place, marker="x", color=SKY, markersize=6, markeredgewidth=1.8)
        lines = [part for line in captions[number].splitlines() for part in textwrap.wrap(line, _LETTERS)]
        plain.set_title("\n".join(lines), fontsize=9, color=INK, loc="left", parse_math=False)
    bar = figure.colorbar(shown, ax=grid.ravel().tolist(), shrink=0.7, aspect=25, pad=0.01)
    bar.set_label(meaning, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=9)
    bar.solids.set_alpha(1)
    return figure


def _draw_boxes(axes: Axes, boxes: np.ndarray) -> None:
    for x0, y0, x1, y1 in boxes[~np.isnan(boxes).any(axis=1)]:
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=GREEN, linewidth=1.3))


def gallery(rows: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray, str]]], title: str, told: str) -> Figure:
    """Draw a row of X-rays for each heading, each plain and under its map, with a caption below.

    rows: heading → (plain and under its map, uint8 [h, h, 3], caption) of each; told: what maps and marks mean.
    """
    n_columns = max([_COLUMNS, *map(len, rows.values())])  # a title needs room
    width, height = 2.12, 1.95  # of a pair and its caption, where a picture's side is 1
    figure = Figure(
        figsize=(n_columns * width * _SIDE, 0.9 + _SIDE * height * max(1, len(rows))), dpi=DPI, layout="constrained"
    )
    figure.suptitle(title, fontsize=11, color=INK)
    figure.supxlabel(told, fontsize=9, color=INK)
    axes = figure.subplots()
    axes.set_axis_off()
    for row, (heading, shown) in enumerate(rows.items()):
        top = row * height
        axes.text(0, top - 0.08, heading, fontsize=10, color=INK, weight="bold", va="bottom", parse_math=False)
        for column, (plain, under, caption) in enumerate(shown):
            left = column * width
            axes.imshow(plain, extent=(left, left + 1, top + 1, top))
            axes.imshow(under, extent=(left + 1, left + 2, top + 1, top))
            lines = [part for line in caption.splitlines() for part in textwrap.wrap(line, _LETTERS_BELOW)]
            axes.text(left, top + 1.04, "\n".join(lines), fontsize=9, color=INK, va="top", parse_math=False)
    axes.set(xlim=(0, n_columns * width), ylim=(len(rows) * height, -0.3), aspect="equal")
    return figure
