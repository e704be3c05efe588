"""Whether probabilities come true: a table, its figures as metrics, and the reliability figure."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fracture_mae import plots
from fracture_mae.metrics import agreement
from fracture_mae.tracking.report import Report

_BAND_DRAWS = 400
UNCALIBRATED = "_uncalibrated"  # ends the names of what is said of probabilities before their calibration
_RIGHT = {
    "observed_to_expected": "1",
    "calibration_in_the_large": "0",
    "calibration_slope": "1",
    "calibration_error": "0",
}
_WITHOUT_INTERVAL = "calibration_error"
_ENDS = ("estimate", "low", "high")


def judge_calibration(
    label: np.ndarray,
    probability: np.ndarray,
    group: ArrayLike,
    place: str,
    title: str,
    *,
    before: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Report:
    """PLACE/calibration.csv, see `agreement.measure`, its figures as metrics, and PLACE/reliability.png with a band from draws.

    Args:
        label: 0/1 [n]; probability: [n]; group: [n], equal for what a bootstrap draws as one; weight: [n].
        before: [n], the probabilities before calibration, told beside; None: they are not calibrated.
        n_draws, seed: of the band, which takes no more draws than a figure shows.
    """
    table = agreement.measure(label, probability, group, weight)
    curve = agreement.smooth_curve(label, probability, group, weight, n_draws=min(n_draws, _BAND_DRAWS), seed=seed)
    curve_before = None
    if before is not None:
        plain = agreement.measure(label, before, group, weight)
        table = pd.concat([table, plain.rename(index=lambda name: f"{name}{UNCALIBRATED}")])
        curve_before = agreement.smooth_curve(label, before, group, weight, n_draws=0)
    figure = plots.reliability(
        curve, label, probability, told=lines(table), before=curve_before, title=f"Reliability · {title}", weight=weight
    )
    return Report(
        metrics=_flat(table, place),
        tables={f"{place}/calibration.csv": table.rename_axis("metric").reset_index()},
        figures={f"{place}/reliability.png": figure},
    )


def lines(table: pd.DataFrame) -> list[str]:
    """What a table (index: metric) says of the probabilities as they are answered, such as `calibration slope: 0.93 [0.61, 1.25]`."""
    told = []
    for name, right in _RIGHT.items():
        row = table.loc[name]
        figure = f"{row['estimate']:.3f}" if name == _WITHOUT_INTERVAL else plots.interval_text(*row[list(_ENDS)])
        told.append(f"{words(name)} ({right}): {figure}")
    return told


def words(name: str) -> str:
    return name.replace("_", " ")


def digest(report: Report, split: str) -> str:
    """The calibration of a split per X-ray in lines to print; in brackets what would be right."""
    table = report.tables[f"{split}/xray/calibration.csv"].set_index("metric")
    heading = f"do probabilities come true on {split}, per X-ray (in brackets what would be right):"
    return "\n".join([heading, *(f"  {line}" for line in lines(table))])


def _flat(table: pd.DataFrame, place: str) -> dict[str, float]:
    flat = {f"{place}/{name}": row["estimate"] for name, row in table.iterrows()}
    flat |= {f"{place}/{name}_{end}": row[end] for name, row in table.iterrows() for end in ("low", "high")}
    return {name: value for name, value in flat.items() if np.isfinite(value)}
