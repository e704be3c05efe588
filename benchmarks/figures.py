"""Ratios against their bars, and what is reached of what the machine can do."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, LogLocator, NullFormatter

from benchmarks.results import MET, NOT_APPLICABLE, NOT_MET, Result, Roofline
from benchmarks.units import BYTES, FLOPS
from fracture_mae.plots.style import BLUE, COLOURS, GREEN, GREY, INK, RED, figure_of, legend

_COLOUR_OF = {MET: GREEN, NOT_MET: RED, NOT_APPLICABLE: BLUE}
_MEANING = {MET: "Bar met", NOT_MET: "Bar not met", NOT_APPLICABLE: "Bar does not apply"}
_MARK_OF = {"": "D", "encoder": "o", "decoder": "s"}


def ratios(results: Sequence[Result], title: str) -> Figure:
    """Draw a row per figure: the median ratio, its range, and from its bar on the side on which it is met, on a logarithmic axis."""
    figure, axes = figure_of(10.4, 1.7 + 0.46 * len(results), title)
    every = [value for result in results for value in (*result.ratio.values, result.bar.value)]
    low, high = min(every) / 1.6, max(every) * 1.6
    for row, result in enumerate(results):
        _ratio(axes, row, result, (low, high))
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.set(xlim=(low, high), ylim=(len(results) - 0.5, -0.5), xlabel="Ratio (shaded: where the bar is met)")
    axes.set_yticks(range(len(results)), [result.name for result in results])
    axes.grid(False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(results)), [_text(result) for result in results], fontsize=9)
    right.tick_params(length=0, pad=8, labelcolor=INK)
    right.spines[:].set_visible(False)
    for verdict in dict.fromkeys(result.verdict for result in results):
        axes.plot([], [], "s", color=_COLOUR_OF[verdict], label=_MEANING[verdict])
    figure.legend(fontsize=9, ncols=3, loc="outside lower center", frameon=False)
    return figure


def _ratio(axes: Axes, row: int, result: Result, limits: tuple[float, float]) -> None:
    colour, bar = _COLOUR_OF[result.verdict], result.bar
    start, end = (limits[0], bar.value) if bar.at_most else (bar.value, limits[1])
    axes.barh(row, end - start, left=start, height=0.62, color=GREY if bar.waived else GREEN, alpha=0.13)
    axes.vlines(bar.value, row - 0.31, row + 0.31, color=GREY if bar.waived else INK, linewidth=1.6)
    median = result.ratio.median
    reach = [[median - result.ratio.low], [result.ratio.high - median]]
    axes.errorbar(median, row, xerr=reach, fmt="s", color=colour, markersize=6, capsize=3, linewidth=1.6)


def _text(result: Result) -> str:
    sign, ratio = "≤" if result.bar.at_most else "≥", result.ratio
    return f"{ratio.median:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]   bar {sign} {result.bar.value:g}"


def roofline(measured: Roofline, title: str) -> Figure:
    """Draw the ceilings (matrix products flat, copies of memory slanting; the precision used solid) and what is reached below them."""
    figure, axes = figure_of(9.2, 6.2, title)
    intensities = [point.intensity for point in measured.points]
    ridges = [measured.matrix[name].median / measured.copy[name].median for name in measured.matrix]
    x = np.geomspace(min(*intensities, *ridges) / 3, max(*intensities, *ridges) * 3, 400)
    for number, name in enumerate(measured.matrix):
        flat, slope = measured.matrix[name].median, measured.copy[name].median
        drawn = {"color": INK, "linewidth": 1.8} if number == 0 else {"color": GREY, "linewidth": 1.2, "linestyle": ":"}
        label = f"Ceiling in {name}: {FLOPS(flat)}, {BYTES(slope)}"
        axes.plot(x, np.minimum(flat, slope * x), label=label, **drawn)
    kinds = dict.fromkeys(point.name.partition(", ")[0] for point in measured.points)
    colour_of = dict(zip(kinds, cycle(COLOURS), strict=False))
    for point in measured.points:
        kind, _, side = point.name.partition(", ")
        speed = point.flops_per_second
        reach = [[speed.median - speed.low], [speed.high - speed.median]]
        label = f"{point.name}: {FLOPS(speed.median)}"
        marks = {"fmt": _MARK_OF[side], "color": colour_of[kind], "markersize": 7, "capsize": 3, "linewidth": 1.2}
        axes.errorbar(point.intensity, speed.median, yerr=reach, label=label, **marks)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis, EngFormatter(sep=""))
    axes.set(xlabel="Arithmetic intensity: FLOP for each byte that operators read and write", ylabel="FLOP/s")
    legend(figure, loc="outside right center")
    return figure


def _plain_numbers(axis: Axis, formatter: Formatter | None = None) -> None:
    """1, 2, 5, 10, 20, … on a logarithmic axis, however short or long."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(formatter or FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
