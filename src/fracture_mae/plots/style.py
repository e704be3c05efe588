"""How every figure of the project looks. Colours are those of Okabe and Ito, which colour-blind readers can tell apart."""

import io
import warnings
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, LogFormatterMathtext, ScalarFormatter

from fracture_mae.errors import legible

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
GREY, INK = "#7A7A7A", "#222222"
REFERENCE = {"color": GREY, "linestyle": ":", "linewidth": 1.2}  # chance, or the ideal
MARK = {"color": INK, "linestyle": "--", "linewidth": 1.2}  # what was chosen
DPI = 120

_DRAWN: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()


def heading(what: str, split: str = "", n_files: int | None = None, n_groups: int | None = None) -> str:
    """Return a title such as "ROC · test · 1,204 files of 310 X-rays"; what is not given is left out."""
    files = "" if n_files is None else f"{n_files:,} files"
    xrays = "" if n_groups is None else f"{n_groups:,} X-rays"
    return " · ".join(filter(None, [what, split, " of ".join(filter(None, [files, xrays]))]))


def figure_of(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure of width x height inches with one styled axes."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, color=INK)
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(True, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=GREY, labelcolor=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=10, color=INK)


def legend(owner: Axes | Figure, title: str = "", **place) -> None:
    owner.legend(title=title, fontsize=9, title_fontsize=9, alignment="left", framealpha=0.9, edgecolor="none", **place)


def interval_text(estimate: float, low: float, high: float, sign: str = "") -> str:
    """Return an estimate with its interval, or that it is undefined, or that what it is made from is too little for an interval.

    sign: "+" to write that of differences.
    """
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:{sign}.3f} " + ("[n too small]" if np.isnan(low) else f"[{low:{sign}.3f}, {high:{sign}.3f}]")


def png(figure: Figure) -> bytes:
    """A finished figure as a PNG file; drawn once, which takes most of the time, however often it is asked for.

    Texts are drawn as they are written: a `$` in a file's name begins no formula.
    """
    if figure not in _DRAWN:
        file = io.BytesIO()
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                if isinstance(
                    axis.get_major_formatter(), LogFormatterMathtext
                ):  # whose formulas would be drawn as they are written
                    axis.set_major_formatter(ScalarFormatter())
                    axis.set_minor_formatter(LogFormatter())
        for text in figure.findobj(Text):
            text.set_parse_math(False)
            text.set_text(legible(text.get_text()))
        with (
            rc_context({"text.parse_math": False}),
            warnings.catch_warnings(),
        ):  # of those that are made only when they are drawn
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands in its place
            FigureCanvasAgg(figure).print_png(file)  # savefig would draw it twice, to lay it out
        _DRAWN[figure] = file.getvalue()
    return _DRAWN[figure]
