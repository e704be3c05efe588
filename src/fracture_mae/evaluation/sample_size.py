"""How wide the intervals would be with twice and four times the X-rays, and whether a gain would be seen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae.evaluation.judging import drawn, levels
from fracture_mae.metrics import sample_size
from fracture_mae.tracking.report import Report

TIMES = (1, 2, 4)
GAIN = 0.05  # in AUROC
ASSUMED = 0.5  # correlation with a classifier that nobody has seen
_MEASURES = ("auroc", "sensitivity", "specificity")
_WANTED = 0.8  # power


@dataclass(frozen=True)
class _Compared:
    """With what a better classifier is thought to be correlated as much. value: correlation of AUROCs; told: where it is from."""

    value: float
    told: str


def judge(predictions: pd.DataFrame, metrics: pd.DataFrame, beside: Mapping[str, pd.DataFrame], split: str) -> Report:
    """What further X-rays like these would change, each counted once.

    Args:
        predictions: a row per file: group, label, logit and patient, where it is known.
        metrics: of these, per X-ray: columns metric, estimate, low, high.
        beside: name of each reference → its predictions for the same files: a better classifier is thought to be as much alike as the
            one that is most so; none: ASSUMED.

    Returns:
        The table SPLIT/sample_size.csv, metrics, and the tag `sample_size`: all of it in a sentence.
    """
    rows = levels(predictions)["xray"]
    n_fractured = int(rows["label"].sum())
    n_other = len(rows) - n_fractured
    found = metrics.set_index("metric").loc[list(_MEASURES), ["estimate", "low", "high"]].astype(float)
    compared = _correlation(rows, beside)
    error = _difference_error(found.loc["auroc"], n_fractured, n_other, compared.value)
    table = pd.DataFrame([_row(times, found, n_fractured, n_other, error) for times in TIMES])
    table = table.assign(gain=GAIN, correlation=compared.value, correlation_from=compared.told)
    needed = np.nan if np.isnan(error) else np.ceil(len(rows) * sample_size.times_needed(GAIN, error, _WANTED))
    flat = {
        f"{split}/sample_size/{name}_width/{row['times']:g}_times": row[f"{name}_width"]
        for row in table.to_dict("records")
        for name in _MEASURES
    }
    flat |= {f"{split}/sample_size/power/{row['times']:g}_times": row["power"] for row in table.to_dict("records")}
    flat[f"{split}/sample_size/n_xrays_for_power_{_WANTED}"] = needed
    return Report(
        metrics={name: float(value) for name, value in flat.items() if np.isfinite(value)},
        tables={f"{split}/sample_size.csv": table},
        tags={f"sample_size.{split}": _in_words(table, found, needed)},
    )


def digest(report: Report, split: str) -> str:
    """The sentence to print."""
    return f"how many X-rays, {split}: {report.tags[f'sample_size.{split}']}"


def _correlation(rows: pd.DataFrame, beside: Mapping[str, pd.DataFrame]) -> _Compared:
    if rows["label"].nunique() == 2:
        found = {name: _with(rows, files) for name, files in beside.items()}
        known = {name: value for name, value in found.items() if np.isfinite(value)}
        if known:
            most_alike = max(known, key=known.get)
            return _Compared(max(known[most_alike], 0.0), f"as with {most_alike}")
    return _Compared(ASSUMED, "assumed")


def _with(rows: pd.DataFrame, files: pd.DataFrame) -> float:
    other = levels(files)["xray"].set_index("group").loc[rows["group"], "logit"]
    return sample_size.auroc_correlation(rows["label"], rows["logit"], other, drawn(rows))


def _difference_error(auroc: pd.Series, n_fractured: int, n_other: int, correlation: float) -> float:
    """NaN where there is no interval, or no room for the gain."""
    error = sample_size.error_of(auroc["low"], auroc["high"])
    if not error > 0 or auroc["estimate"] + GAIN >= 1:
        return np.nan
    return sample_size.difference_error(auroc["estimate"], error, GAIN, n_fractured, n_other, correlation)


def _row(times: int, found: pd.DataFrame, n_fractured: int, n_other: int, error: float) -> dict[str, float]:
    row: dict[str, float] = {"times": times, "n_xrays": times * (n_fractured + n_other)}
    row |= {"n_fractured": times * n_fractured, "n_other": times * n_other}
    for name, (estimate, low, high) in zip(found.index, found.to_numpy(), strict=True):
        low, high = sample_size.ends_at(estimate, low, high, times)
        row |= {f"{name}_low": low, f"{name}_high": high, f"{name}_width": high - low}
    return row | {"power": sample_size.power(GAIN, error / np.sqrt(times))}


def _in_words(table: pd.DataFrame, found: pd.DataFrame, needed: float) -> str:
    numbers = " / ".join(f"{n:,}" for n in table["n_xrays"])
    widths = [
        f"{'AUROC' if name == 'auroc' else name} {' / '.join(f'{width:.2f}' for width in table[f'{name}_width'])}"
        for name in _MEASURES
        if table[f"{name}_width"].notna().all()
    ]
    wide = f"95 % intervals are {', '.join(widths)} wide" if widths else "no metric has an interval"
    return f"with {numbers} X-rays like these {wide}; {_power_in_words(table, found, needed)}"


def _power_in_words(table: pd.DataFrame, found: pd.DataFrame, needed: float) -> str:
    if np.isnan(needed):
        room = found.loc["auroc", "estimate"] + GAIN >= 1
        reason = "there is no room for it" if room else "the AUROC has no interval"
        return f"whether a gain of {GAIN:g} in AUROC would be seen cannot be said: {reason}"
    powers = " / ".join(f"{share:.0%}" for share in table["power"])
    correlation, told = table.loc[0, ["correlation", "correlation_from"]]
    seen = (
        f"a gain of {GAIN:g} in AUROC would be seen in {powers} of evaluations (correlation {correlation:.2f}, {told})"
    )
    return f"{seen}, in {_WANTED:.0%} with {needed:,.0f} X-rays"
