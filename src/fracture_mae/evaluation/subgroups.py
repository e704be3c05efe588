"""Whether a classifier is as good for some X-rays as for others: old and young, one device and another, with and without hardware.

A figure over all X-rays hides whom a classifier fails (L. Seyyed-Kalantari et al., "Underdiagnosis bias of artificial intelligence
algorithms applied to chest radiographs in under-served patient populations", Nature Medicine 27, 2021). Each X-ray counts once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.data import attributes
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import subgroup_values
from fracture_mae.evaluation.judging import Certainty, drawn, levels, slug, title_of
from fracture_mae.metrics import agreement, scores
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.metrics.subgroups import COMPARED, FEWEST, differences_to_rest
from fracture_mae.tracking.report import Report

WARNING = "subgroup_warning"  # tag
ALL = "all"
_CALIBRATION = ("observed_to_expected", "calibration_in_the_large")
_MEASURES = (*COMPARED, *_CALIBRATION)
_NEEDS = {"sensitivity": (1,), "specificity": (0,)}  # classes; the others need both
_SOURCE = "source"  # a column of every table, whether a CSV gives it or it is guessed from names
_NONE_THERE = "not tested (the data say nothing of body_part, view, age, sex, device or hardware)"


def columns(table: pd.DataFrame, wanted: str) -> list[str]:
    """The columns to judge apart by, as `wanted` says: names with commas between them, "auto" (those that are known) or "none".

    Args:
        table: of files.

    Raises:
        FractureMaeError: there is no such column; names those there are.
    """
    there = attributes.names(table)
    if wanted == "none":
        return []
    if wanted == "auto":
        return attributes.known(there)
    by_word = {name.lower(): name for name in (*there, _SOURCE)}
    asked = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in asked if name.lower() not in by_word]
    if unknown or not asked:
        raise FractureMaeError(
            f"--subgroups {wanted}: the data have no column {', '.join(unknown) or repr(wanted)}. Expected: any of "
            f"{', '.join(by_word.values())}, with commas between them, auto or none; further columns come from a CSV."
        )
    return list(dict.fromkeys(by_word[name.lower()] for name in asked))


def with_columns(predictions: pd.DataFrame, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Predictions for the files of a table, in its order, with what the CSV's columns say of each."""
    there = {attributes.column(name): attributes.texts(table, name).to_numpy() for name in names if name != _SOURCE}
    return predictions.assign(**there)


@dataclass(frozen=True)
class _Subgroup:
    """Some X-rays. column, value: what they have in common; member: bool [n], which they are; n_files: of how many files."""

    column: str
    value: str
    member: np.ndarray
    n_files: int


def judge(
    predictions: pd.DataFrame, decision: Decision, split: str, names: Sequence[str], remark: str, certainty: Certainty
) -> Report:
    """Sensitivity, specificity, AUROC and calibration of each value of some columns, and how far the first three are from all others'.

    Args:
        predictions: a row per file: group, label, logit, and the columns of `with_columns`.
        names: of the columns; of none nothing is judged, and the tag says so.
        remark: stands in the title; may be empty.

    Returns:
        The table SPLIT/subgroups.csv, a figure, metrics, and the tag WARNING: what is clearly worse, by an interval that is widened for
        all comparisons.
    """
    if not names:
        return Report(tags={WARNING: _NONE_THERE})
    rows = levels(predictions)["xray"]
    parts = [part for name in names for part in _subgroups(predictions, rows, name)]
    table = pd.DataFrame([_row(part, rows, decision, certainty) for part in (_all(rows), *parts)])
    compared = differences_to_rest(
        rows["label"],
        decision.probability(rows["logit"]),
        decision.threshold,
        drawn(rows),
        np.array([part.member for part in parts]),
        n_draws=certainty.n_draws,
        seed=certainty.seed,
    )
    for measure in COMPARED:
        for column, end in (("difference", ""), ("low", "_low"), ("high", "_high")):
            found = compared[column].xs(measure, level="measure").to_numpy()
            table[f"{measure}_difference{end}"] = [np.nan, *found]
    table["note"] = [_note(row) for row in table.to_dict("records")]
    title = f"Subgroups · {title_of(split, 'xray', predictions, remark)}"
    shown = table[_is_judged(table) | (table["value"] == ALL)]
    named = shown.set_axis([f"{row.column} {row.value}".strip() for row in shown.itertuples()])
    return Report(
        metrics=_flat(table, split),
        tables={f"{split}/subgroups.csv": table},
        figures={f"{split}/subgroups.png": plots.subgroups(named, COMPARED, title)},
        tags={WARNING: warning(table)},
    )


def warning(table: pd.DataFrame) -> str:
    """Which subgroups are clearly worse, "none" and of how many comparisons, or why nothing could be compared."""
    differences = table[[f"{measure}_difference" for measure in COMPARED]]
    if differences.isna().all(axis=None):
        told = ", ".join(dict.fromkeys(table["column"][1:]))
        return f"not tested (fewer than {FEWEST} X-rays of a class in each value of {told}, or in all others)"
    worse = [
        f"{_words(measure)} where {row['column']} is {row['value']}: {_text(row, measure)}, against all others "
        f"{_difference(row, measure)}"
        for row in table.to_dict("records")
        for measure in COMPARED
        if row[f"{measure}_difference_high"] < 0
    ]
    if worse:
        return f"clearly worse: {'; '.join(worse)}"
    compared = int(differences.notna().to_numpy().sum())
    return f"none ({compared} of {(len(table) - 1) * len(COMPARED)} comparisons have X-rays enough)"


def digest(report: Report, split: str) -> str:
    """The table to print, with what is too small for an interval counted below it; empty where there is none."""
    table = report.tables.get(f"{split}/subgroups.csv")
    if table is None:
        return ""
    enough = table[_is_judged(table)]
    shown = pd.DataFrame(
        {
            "X-rays": [f"{row.n_fractured:,} + {row.n_other:,}" for row in enough.itertuples()],
            **{_words(each): [_text(row, each) for _, row in enough.iterrows()] for each in COMPARED},
            "observed:expected": [_text(row, _CALIBRATION[0]) for _, row in enough.iterrows()],
        }
    )
    shown.index = pd.MultiIndex.from_frame(enough[["column", "value"]], names=["by", "value"])
    lines = [f"Subgroups on {split}, each X-ray once (fractured + others):", shown.to_string()]
    few = table[~_is_judged(table)]
    if len(few):
        told = "; ".join(
            f"{row.column} {row.value} ({row.n_fractured:,} + {row.n_other:,})" for row in few.head(12).itertuples()
        )
        more = f" and {len(few) - 12:,} more" if len(few) > 12 else ""
        lines.append(f"Too few to be judged, fewer than {FEWEST} of each class: {told}{more}.")
    return "\n".join([*lines, f"subgroup warning: {report.tags[WARNING]}"])


def _subgroups(predictions: pd.DataFrame, rows: pd.DataFrame, name: str) -> Iterator[_Subgroup]:
    place = _SOURCE if name == _SOURCE else attributes.column(name)
    values = subgroup_values.of_xrays(predictions[place], predictions["group"], name)[rows["group"]]
    for value in subgroup_values.in_order(values):
        member = (values == value).to_numpy()
        yield _Subgroup(name, value, member, int(rows["n_files"][member].sum()))


def _all(rows: pd.DataFrame) -> _Subgroup:
    return _Subgroup("", ALL, np.ones(len(rows), dtype=bool), int(rows["n_files"].sum()))


def _row(part: _Subgroup, rows: pd.DataFrame, decision: Decision, certainty: Certainty) -> dict[str, object]:
    """Sizes, and each of _MEASURES with _low and _high, which are NaN where there are too few X-rays."""
    here = rows[part.member]
    label, probability = here["label"].to_numpy(), decision.probability(here["logit"])
    n_fractured = int(label.sum())
    sizes = {
        "n_xrays": len(here),
        "n_fractured": n_fractured,
        "n_other": len(here) - n_fractured,
        "n_files": part.n_files,
    }
    estimates = scores.summary(label, probability, decision.threshold)
    calibrated = agreement.measure(label, probability, drawn(here))
    estimates |= calibrated["estimate"]
    enough = tuple(value for value in (0, 1) if np.sum(label == value) >= FEWEST)
    ends = _ends(here[here["label"].isin(enough)], decision, certainty) if enough else {}
    ends |= {name: (row["low"], row["high"]) for name, row in calibrated.iterrows()}
    measured = {}
    for name in _MEASURES:
        low, high = ends[name] if set(_NEEDS.get(name, (0, 1))) <= set(enough) else (np.nan, np.nan)
        measured |= {name: float(estimates[name]), f"{name}_low": low, f"{name}_high": high}
    return {"column": part.column, "value": part.value, **sizes, **measured}


def _ends(rows: pd.DataFrame, decision: Decision, certainty: Certainty) -> dict[str, tuple[float, float]]:
    """The interval of each of COMPARED; of one class alone of its rate alone."""
    label, probability = rows["label"].to_numpy(), decision.probability(rows["logit"])
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}
    found = metric_intervals(label, probability, drawn(rows), decision.threshold, **options)
    return {name: (float(found.loc[name, "low"]), float(found.loc[name, "high"])) for name in COMPARED}


def _note(row: dict[str, object]) -> str:
    """What must be said of a row: for which class it has too few X-rays."""
    few = [name for name, n in (("fractured", row["n_fractured"]), ("other", row["n_other"])) if n < FEWEST]
    return f"fewer than {FEWEST} {' and '.join(few)} X-rays" + (": no interval" if len(few) == 2 else "") if few else ""


def _is_judged(table: pd.DataFrame) -> pd.Series:
    """Which rows have X-rays enough of one class at least."""
    return (table["n_fractured"] >= FEWEST) | (table["n_other"] >= FEWEST)


def _flat(table: pd.DataFrame, split: str) -> dict[str, float]:
    """SPLIT/subgroups/COLUMN/VALUE/MEASURE, and the ends of the interval, of what has one."""
    flat = {}
    for row in table[table["column"] != ""].to_dict("records"):
        place = f"{split}/subgroups/{slug(row['column'])}/{slug(row['value'])}"
        flat[f"{place}/n_xrays"] = row["n_xrays"]
        flat |= {
            f"{place}/{name}{end}": row[f"{name}{end}"]
            for name in _MEASURES
            if not np.isnan(row[f"{name}_low"])
            for end in ("", "_low", "_high")
        }
    return flat


def _text(row: Mapping[str, object], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return plots.interval_text(value, low, high)


def _difference(row: Mapping[str, object], measure: str) -> str:
    value, low, high = (row[f"{measure}_difference{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _words(measure: str) -> str:
    return "AUROC" if measure == "auroc" else measure
