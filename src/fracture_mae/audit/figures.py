"""What an audit found, drawn: tables and pictures in, matplotlib figures out."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from fracture_mae.audit.claims import HONEST, LEAKY, PUBLISHED
from fracture_mae.audit.examples import Example, MarkedPair, MarkedPicture, Row
from fracture_mae.audit.folds import Score
from fracture_mae.audit.leakage import UNITS
from fracture_mae.audit.shortcuts import FILE, VISIBLE, ShortcutProbe
from fracture_mae.plots.pictures import contact_sheet as sheet_of_pictures
from fracture_mae.plots.style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    REFERENCE,
    figure_of,
    interval_text,
    legend,
    style,
)

SPLIT_COLOURS = {"train": BLUE, "validation": GREEN, "test": RED, "": GREY}
_CELL = 1.25  # inches


def contact_sheet(rows: Sequence[Row], title: str) -> Figure:
    """Draw an X-ray's files side by side, a row per X-ray; the frame's colour tells the published split."""
    n_columns = max(len(row.pictures) for row in rows)
    left, top, gap = 1.9, 0.75, 0.2
    width, height = left + n_columns * (_CELL + 0.08), top + len(rows) * (_CELL + gap) + 0.1
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.suptitle(title, fontsize=11, color=INK, y=1 - 0.1 / height, va="top")
    for number, row in enumerate(rows):
        bottom = (height - top - (number + 1) * (_CELL + gap) + gap) / height
        figure.text(
            (left - 0.12) / width,
            bottom + _CELL / 2 / height,
            row.title,
            fontsize=9,
            color=INK,
            ha="right",
            va="center",
        )
        for column, (picture, split, caption) in enumerate(zip(row.pictures, row.splits, row.captions, strict=True)):
            place = [(left + column * (_CELL + 0.08)) / width, bottom, _CELL / width, _CELL / height]
            axes = figure.add_axes(place)
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=SPLIT_COLOURS[split], linewidth=2.2)
            axes.set_xlabel(caption, fontsize=7, color=INK, labelpad=1.5)
    splits = [split for split in SPLIT_COLOURS if split and any(split in row.splits for row in rows)]
    if splits:
        marks = [Line2D([], [], color=SPLIT_COLOURS[split], linewidth=2.2, label=split) for split in splits]
        place = {"loc": "upper left", "bbox_to_anchor": (0.1 / width, 1 - 0.1 / height)}
        figure.legend(handles=marks, fontsize=8, frameon=False, ncols=len(marks), handlelength=1.2, **place)
    return figure


def leakage_matrix(between: pd.DataFrame, splits: Sequence[str], title: str) -> Figure:
    """Draw `leakage.between_splits`: the share of the files of a row's split that stand in a column's split too."""
    units = [UNITS["sha256"], UNITS["group"]]
    figure = Figure(figsize=(1.4 + 3.6 * len(units), 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    figure.get_layout_engine().set(wspace=0.08)
    for axes, unit in zip(figure.subplots(1, len(units), sharey=True), units, strict=True):
        share = between.pivot(index="split", columns="other", values=f"share, {unit}").reindex(
            index=splits, columns=splits
        )
        axes.set_facecolor("#EEEEEE")  # seen where a split meets itself
        axes.imshow(share, cmap="OrRd", vmin=0, vmax=1.1)
        for (row, column), value in np.ndenumerate(share.to_numpy()):
            text, colour = ("", INK) if row == column else (f"{value:.1%}", "white" if value > 0.6 else INK)
            axes.text(column, row, text, ha="center", va="center", fontsize=13, color=colour)
        axes.set_title(f"Share of files with the {unit} in …", fontsize=10, color=INK)
        axes.set_xticks(range(len(splits)), splits)
        axes.set_yticks(range(len(splits)), splits)
        axes.tick_params(length=0, labelsize=10, labelcolor=INK)
        axes.spines[:].set_visible(False)
    figure.axes[0].set_ylabel("Files of …", fontsize=10, color=INK)
    return figure


def linked_pairs(examples: Sequence[Example], title: str) -> Figure:
    """Draw pairs of files side by side, their matched keypoints joined by lines; pairs joined by name alone have none."""
    figure, places = _grid_of_pairs(len(examples), title)
    for axes, example in zip(places, examples, strict=True):
        offset = _draw_pair(axes, example)
        for start, end in zip(example.xy_a, example.xy_b, strict=True):
            axes.plot([start[0], end[0] + offset], [start[1], end[1]], color=ORANGE, linewidth=0.6, alpha=0.55)
        for xy, shift in ((example.xy_a, 0), (example.xy_b, offset)):
            axes.plot(xy[:, 0] + shift, xy[:, 1], "o", color=ORANGE, markersize=2)
    return figure


def marked_pairs(pairs: Sequence[MarkedPair], title: str) -> Figure:
    """Draw pairs of X-rays side by side, with a frame around the marker that both carry."""
    figure, places = _grid_of_pairs(len(pairs), title)
    for axes, pair in zip(places, pairs, strict=True):
        offset = _draw_pair(axes, pair)
        for (left, top, right, bottom), shift in ((pair.box_a, 0), (pair.box_b, offset)):
            corner = left + shift - 0.5, top - 0.5
            axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color=ORANGE, linewidth=1.4))
    return figure


def boxes(pictures: np.ndarray, places: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """Draw pictures uint8 [n, h, w], six in a row, with their boxes [n, M, 4] in shares of them; NaN is no box."""
    figure = sheet_of_pictures(pictures, captions, title)
    height, width = pictures.shape[1:]
    for axes, own in zip(figure.axes, places, strict=False):
        for left, top, right, bottom in own[~np.isnan(own).any(axis=1)] * [width, height, width, height]:
            frame = Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color=ORANGE, linewidth=1.2
            )
            axes.add_patch(frame)
    return figure


def marked_pictures(pictures: Sequence[MarkedPicture], title: str) -> Figure:
    """Draw pictures, eight in a row, with a frame around each of their boxes."""
    n_columns = min(8, len(pictures))
    n_rows = -(-len(pictures) // n_columns)
    figure = Figure(figsize=(0.2 + 1.7 * max(n_columns, 4), 0.5 + 1.9 * n_rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    places = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, each in zip(places, pictures, strict=False):
        axes.imshow(each.picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(each.title if len(each.title) < 26 else f"{each.title[:24]}…", fontsize=6, color=INK)
        for left, top, right, bottom in each.boxes:
            frame = Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color=ORANGE, linewidth=1
            )
            axes.add_patch(frame)
    return figure


def _grid_of_pairs(n: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a place for each pair, two in a row."""
    n_rows = -(-n // 2)
    figure = Figure(figsize=(11, 0.6 + 2.95 * n_rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    grid = figure.subplots(n_rows, 2, squeeze=False).ravel()
    for axes in grid[n:]:
        axes.set_axis_off()
    return figure, grid[:n]


def _draw_pair(axes: Axes, example: Example | MarkedPair) -> int:
    """Draw both pictures; by how much the second is shifted to the right [pixels]."""
    gap = 12
    height = max(len(example.a), len(example.b))
    canvas = np.full((height, example.a.shape[1] + gap + example.b.shape[1]), 255, np.uint8)
    canvas[: len(example.a), : example.a.shape[1]] = example.a
    canvas[: len(example.b), example.a.shape[1] + gap :] = example.b
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    offset = example.a.shape[1] + gap
    axes.set(xticks=[], yticks=[], xlim=(-1, canvas.shape[1]), ylim=(height, -1))
    axes.set_title(example.title, fontsize=9, color=INK)
    axes.set_xlabel(example.names, fontsize=8, color=GREY)
    axes.spines[:].set_visible(False)
    return offset


def group_sizes(sizes: pd.DataFrame, title: str) -> Figure:
    """Draw `leakage.group_sizes`: how many X-rays have how many files, both on logarithmic scales."""
    figure, axes = figure_of(7.2, 4.2, title)
    largest = int(sizes["files"].max())
    edges = 2.0 ** np.arange(np.ceil(np.log2(largest + 1)) + 1) - 0.5  # 1, 2-3, 4-7, …
    edges[0] = 0.5
    labels = sorted(set(sizes["label"]), key=lambda name: (" and " in name, name))
    counts = np.array([np.histogram(sizes.loc[sizes["label"] == label, "files"], edges)[0] for label in labels])
    places, width = np.arange(len(edges) - 1), 0.8 / len(labels)
    for number, (label, row) in enumerate(zip(labels, counts, strict=True)):
        shifted = places + (number - (len(labels) - 1) / 2) * width
        bars = axes.bar(shifted, row, width, color=(BLUE, RED, ORANGE)[number % 3], label=label)
        axes.bar_label(bars, [f"{n:,}" if n else "" for n in row], fontsize=8, color=INK, padding=1)
    ends = [(int(low + 0.5), int(high - 0.5)) for low, high in itertools.pairwise(edges)]
    axes.set_xticks(places, [f"{low}" if low == high else f"{low}-{high}" for low, high in ends])
    axes.set(xlabel="Files of one X-ray", ylabel="X-rays", yscale="log", ylim=(0.7, max(2, counts.max() * 2)))
    axes.grid(False, axis="x")
    legend(axes, loc="upper right")
    return figure


def shortcuts(probe: ShortcutProbe, title: str) -> Figure:
    """Draw how well each set of properties tells the label, and which of them matter, before and after preprocessing."""
    figure = Figure(figsize=(11.5, 7.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    above, below = figure.add_gridspec(2, 1, height_ratios=[len(probe.scores) + 0.6, 9], hspace=0.06)
    _draw_scores(
        figure.add_subplot(above),
        {name: (levels["xray"], RED if name in (FILE, VISIBLE) else GREY) for name, levels in probe.scores.items()},
        "Label told from … alone: AUROC per X-ray, 95 % interval (dotted: chance)",
    )
    for place, name in zip(below.subgridspec(1, 2), (FILE, VISIBLE), strict=True):
        _draw_importances(figure.add_subplot(place), probe.properties[probe.properties["set"] == name], name)
    return figure


def _draw_importances(axes: Axes, table: pd.DataFrame, name: str) -> None:
    places = np.arange(len(table))
    reach = {"xerr": table["importance_std"], "error_kw": {"ecolor": GREY, "capsize": 2, "linewidth": 1}}
    axes.barh(places, table["importance"], color=[BLUE if x > 0 else GREY for x in table["importance"]], **reach)
    axes.set_yticks(places, table["property"])
    axes.set(ylim=(len(table) - 0.4, -0.6), xlabel="Fall of the AUROC when shuffled among held-out X-rays")
    axes.set_title(f"Importance · {name}", fontsize=10, color=INK)
    style(axes)
    axes.grid(False, axis="y")


def leaky_vs_honest(claims: Mapping[str, Mapping[str, Score]], title: str) -> Figure:
    """Draw what the same classifier scores under each kind of split; dots are folds."""
    names = {
        LEAKY: "random split by file",
        PUBLISHED: "published split",
        HONEST: "grouped split: no copy on two sides",
    }
    rows = {
        text: (claims[name]["image"], GREEN if name == HONEST else RED)
        for name, text in names.items()
        if name in claims
    }
    rows["grouped split, each X-ray once"] = claims[HONEST]["xray"], GREEN
    figure = Figure(figsize=(8.6, 1.5 + 0.55 * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _draw_scores(axes, rows, "")
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_xlabel("AUROC with 95 % interval · pale: each fold · dotted: chance", fontsize=10, color=INK)
    return figure


def _draw_scores(axes: Axes, rows: Mapping[str, tuple[Score, str]], title: str) -> None:
    lows = []
    for place, (score, colour) in enumerate(rows.values()):
        reach = [[score.auroc - score.low], [score.high - score.auroc]]
        axes.plot(
            score.folds, [place] * len(score.folds), "o", color=colour, alpha=0.3, markersize=5, markeredgewidth=0
        )
        axes.errorbar([score.auroc], [place], xerr=reach, fmt="s", color=colour, markersize=7, capsize=4, linewidth=1.8)
        lows += [score.low, *score.folds]
    axes.axvline(0.5, **REFERENCE)
    axes.set(xlim=(min(0.42, np.nanmin(lows) - 0.03), 1.02), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_title(title, fontsize=10, color=INK)
    style(axes)
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    texts = [interval_text(score.auroc, score.low, score.high) for score, _ in rows.values()]
    right.set_yticks(range(len(rows)), texts, fontsize=9)
    right.tick_params(length=0, pad=8, labelcolor=INK)
    right.spines[:].set_visible(False)
