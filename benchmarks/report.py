"""Results as lines in a terminal, as metrics, as a table, and as a document."""

import textwrap
from dataclasses import asdict
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.results import MET, NOT_APPLICABLE, NOT_MET, Outcome, Result, Roofline, Skipped
from benchmarks.timing import Sample
from benchmarks.units import BYTES, FLOPS
from benchmarks.workload import QUICK
from fracture_mae.tracking.report import Report

WIDTH = 120
_COLUMNS = {"figure": 38, "ours": 19, "alternative": 19, "ratio": 9, "range": 17, "bar": 9, "": 9}
_COLOURS = {MET: "green", NOT_MET: "red", NOT_APPLICABLE: "yellow"}


def header(sentence: str) -> str:
    """What is measured, and the first two lines of the table."""
    return f"{textwrap.fill(sentence, WIDTH)}\n\n{_line(list(_COLUMNS))}\n{'─' * WIDTH}"


def rows(outcome: Outcome) -> str:
    """A line for each figure, and below it what was measured against what."""
    return "\n".join(_row(result) for result in outcome.results)


def footer(outcome: Outcome) -> str:
    """What else there is to tell: how time and memory grew, the ceilings, and how many bars are met."""
    parts = [_growth(outcome.growth)] if outcome.growth else []
    parts += [_ceilings(outcome.roofline)] if outcome.roofline else []
    verdicts = [result.verdict for result in outcome.results if isinstance(result, Result)]
    n_told = sum(isinstance(result, Skipped) for result in outcome.results)
    counts = f"{verdicts.count(MET)} met, {verdicts.count(NOT_MET)} not met, {verdicts.count(NOT_APPLICABLE)} do not apply here"
    return "\n\n".join([*parts, f"Bars: {counts}, {n_told} not measured."])


def findings(outcome: Outcome, machine: dict[str, Any], config: dict[str, Any]) -> Report:
    """Everything to be logged."""
    measured = [result for result in outcome.results if isinstance(result, Result)]
    document = {
        "machine": machine,
        "config": config,
        "results": [_as_document(result) for result in outcome.results],
        "growth": outcome.growth,
        "roofline": outcome.roofline and _roofline_document(outcome.roofline),
    }
    found = Report(
        metrics={name: value for result in measured for name, value in _metrics(result).items()},
        tables={"benchmark.csv": pd.DataFrame([_as_row(result) for result in outcome.results])},
        documents={"benchmark.json": document},
    )
    quick = "QUICK RUN · " if config["quick"] else ""
    if measured:
        found.figures["ratios.png"] = figures.ratios(measured, _title(f"{quick}Ours against the alternative", machine))
    if outcome.roofline:
        found.figures["roofline.png"] = figures.roofline(outcome.roofline, _title(f"{quick}Roofline", machine))
    if outcome.growth:
        found.tables["growth.csv"] = pd.DataFrame(outcome.growth)
        found.metrics |= {name: value for row in outcome.growth for name, value in _growth_metrics(row).items()}
    return found


def shown(value: float) -> str:
    """A number with about three digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def ratio_text(result: Result, value: float) -> str:
    return f"{100 * value:.0f} %" if result.percent else f"{shown(value)}x"


def bar_text(result: Result) -> str:
    sign = "≤" if result.bar.at_most else "≥"
    return f"{sign} {100 * result.bar.value:.0f} %" if result.percent else f"{sign} {result.bar.value:g}x"


def range_text(result: Result) -> str:
    low, high = result.ratio.low, result.ratio.high
    return f"{100 * low:.0f} … {100 * high:.0f}" if result.percent else f"{shown(low)} … {shown(high)}"


def _row(result: Result | Skipped) -> str:
    if isinstance(result, Skipped):
        return f"{result.name:<{_COLUMNS['figure']}}" + click.style(f"not measured: {result.reason}", fg="yellow")
    verdict = result.verdict
    ours, alternative = (f"{shown(sample.median)} {result.unit}" for sample in (result.ours, result.alternative))
    ratio = ratio_text(result, result.ratio.median)
    line = _line([result.name, ours, alternative, ratio, range_text(result), bar_text(result), verdict])
    line = line[: -len(verdict)] + click.style(verdict, fg=_COLOURS[verdict], bold=True)
    # Of a quick run the line above the table says it for all.
    waived = f" · the bar does not apply: {result.bar.waived}" if result.bar.waived not in ("", QUICK) else ""
    return f"{line}\n{click.style(_below(result.told + waived), dim=True)}"


def _line(cells: list[str]) -> str:
    """Cells in their columns, the first to the left, the others to the right."""
    first, *others = zip(cells, _COLUMNS.values(), strict=True)
    return f"{first[0]:<{first[1]}}" + "".join(f"{text:>{width}}" for text, width in others)


def _below(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _growth(growth: list[dict[str, Any]]) -> str:
    """A line for each stage, and in it each size."""
    table = pd.DataFrame(growth)
    lines = ["Growth: time for an X-ray, and the most memory held meanwhile (its own + files mapped into it)"]
    for stage, of_stage in table.groupby("stage", sort=False):
        cells = [
            f"{row.n_files:,}: {shown(row.ms_per_xray)} ms, {row.peak_anonymous_mb:,.0f} + {row.peak_file_backed_mb:,.0f} MB"
            for row in of_stage.itertuples()
        ]
        lines.append(
            textwrap.fill("   ".join(cells), WIDTH, initial_indent=f"  {stage:<12}", subsequent_indent=" " * 14)
        )
    return "\n".join(lines)


def _ceilings(roofline: Roofline) -> str:
    lines = [
        f"  {name}: matrix products {FLOPS(roofline.matrix[name].median)}, copies of memory "
        f"{BYTES(roofline.copy[name].median)} read and written"
        for name in roofline.matrix
    ]
    return "\n".join(["Ceilings of this machine, measured in the same run", *lines])


def _title(what: str, machine: dict[str, Any]) -> str:
    where = machine["processor"] if machine["device"] == "cpu" else machine["device"]
    return f"{what} · {machine['precision']} on {where}"


def _ends(name: str, sample: Sample) -> dict[str, float]:
    return {name: sample.median, f"{name}_low": sample.low, f"{name}_high": sample.high}


def _samples(result: Result) -> dict[str, Sample]:
    return {name: getattr(result, name) for name in ("ours", "alternative", "ratio")}


def _metrics(result: Result) -> dict[str, float]:
    """KEY/ours, KEY/alternative, KEY/ratio with their ends, and KEY/met where a bar applies."""
    ends = {key: value for name, sample in _samples(result).items() for key, value in _ends(name, sample).items()}
    if result.verdict != NOT_APPLICABLE:
        ends["met"] = float(result.verdict == MET)
    return {f"{result.key}/{name}": value for name, value in ends.items()}


def _growth_metrics(row: dict[str, Any]) -> dict[str, float]:
    """growth_STAGE/N_files/ms_per_xray and the peaks of memory."""
    place = f"growth_{row['stage']}/{row['n_files']}_files"
    names = ("ms_per_xray", "peak_anonymous_mb", "peak_file_backed_mb")
    return {f"{place}/{name}": row[name] for name in names if np.isfinite(row[name])}


def _as_row(result: Result | Skipped) -> dict[str, Any]:
    if isinstance(result, Skipped):
        return {"key": result.key, "figure": result.name, "verdict": "not measured", "reason": result.reason}
    ends = {key: value for name, sample in _samples(result).items() for key, value in _ends(name, sample).items()}
    return {
        "key": result.key,
        "figure": result.name,
        "unit": result.unit,
        **ends,
        "rounds": len(result.ratio.values),
        "bar": bar_text(result),
        "verdict": result.verdict,
        "reason": result.bar.waived,
        "told": result.told,
    }


def _as_document(result: Result | Skipped) -> dict[str, Any]:
    """A row, and of what was measured every round."""
    rounds = {} if isinstance(result, Skipped) else {name: list(each.values) for name, each in _samples(result).items()}
    return _as_row(result) | ({"every_round": rounds} if rounds else {})


def _roofline_document(roofline: Roofline) -> dict[str, Any]:
    ceilings = {
        f"{kind}_per_second": {name: asdict(sample)["values"] for name, sample in samples.items()}
        for kind, samples in (("flops", roofline.matrix), ("bytes", roofline.copy))
    }
    points = [
        {
            "name": point.name,
            "flops": point.flops,
            "bytes": point.n_bytes,
            "flop_per_byte": point.intensity,
            "flops_per_second": list(point.flops_per_second.values),
        }
        for point in roofline.points
    ]
    return {"ceilings": ceilings, "points": points}
