"""The figures of a classifier on the X-rays that its gate accepts, and which it refuses: beside the plain figures, which stay the main
ones, as nobody may choose the X-rays that he is judged on."""

import numpy as np
import pandas as pd
from accelerate import Accelerator

from fracture_mae.data.types import XRays
from fracture_mae.evaluation.gate_fitting import described
from fracture_mae.evaluation.judging import Certainty, drawn, flat_metrics, levels, with_ends
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.gate import Gate
from fracture_mae.tracking.report import Report

NO_GATE = "none: this classifier was made before there was one, and accepts every picture. Train it anew"
_SHOWN = ("auroc", "sensitivity", "specificity")


def judge(
    predictions: pd.DataFrame,
    xrays: XRays,
    gate: Gate | None,
    classifier: FractureClassifier,
    decision: Decision,
    certainty: Certainty,
    *,
    batch_size: int,
    accelerator: Accelerator,
) -> Report:
    """What the gate says of a split.

    An X-ray is accepted where one of its files is; its logit is the mean over those that are.

    Args:
        predictions: for `xrays`, in their order: path, label, group, source, logit and more.
        gate: None where the classifier has none; the report then says so, and no more.

    Returns:
        Tables SPLIT/refused.csv, a row for each file that is refused, the farthest first: path, sha256, label, source, distance,
        farther_than and reason; SPLIT/refused_by_source.csv; SPLIT/accepted.csv: metrics per X-ray at accepted ones, with intervals,
        beside those at all of them.
    """
    split = xrays.name
    if gate is None:
        return Report(tags={f"gate.{split}": NO_GATE})
    distance = gate.distance(described(classifier, xrays, batch_size=batch_size, accelerator=accelerator))
    told = predictions.assign(
        distance=distance,
        farther_than=gate.farther_than(distance),
        reason=gate.reasons(distance),
        refused=~gate.accepts(distance),
    )
    refused = told[told["refused"]].sort_values("distance", ascending=False, kind="stable")
    by_source = _by_source(told)
    report = Report(
        metrics={
            f"{split}/refused_share": by_source["share_of_files"].iloc[0],
            f"{split}/n_refused": float(len(refused)),
        },
        tables={
            f"{split}/refused.csv": refused[
                ["path", "sha256", "label", "source", "distance", "farther_than", "reason"]
            ].reset_index(drop=True),
            f"{split}/refused_by_source.csv": by_source,
        },
        tags={f"gate.{split}": str(gate)},
    )
    accepted = predictions[~told["refused"].to_numpy()]
    if len(accepted):
        table = _measured(accepted, decision, certainty).join(
            _measured(predictions, decision, certainty)[["estimate", "low", "high"]].add_prefix("all_")
        )
        report.tables[f"{split}/accepted.csv"] = table.reset_index()
        report.metrics |= flat_metrics(table, f"{split}/accepted/xray")
    return report


def digest(report: Report, split: str) -> str:
    """How many were refused, where, and the figures at the others; why there are none where there is no gate."""
    if f"{split}/refused_by_source.csv" not in report.tables:
        said = report.tags.get(f"gate.{split}", "")
        return f"gate: {said}" if said else ""
    by_source = report.tables[f"{split}/refused_by_source.csv"]
    total, *others = by_source.to_dict("records")
    sources = [row for row in others if row["n_refused"]]
    where = "; ".join(f"source {row['source']}: {row['n_refused']:,} of {row['n_files']:,}" for row in sources)
    line = (
        f"gate, {split}: {total['n_refused']:,} of {total['n_files']:,} files refused ({total['share_of_files']:.1%})"
    )
    lines = [f"{line}; {where}" if where and len(others) > 1 else line]
    if total["n_refused"] and f"{split}/accepted.csv" in report.tables:
        table = report.tables[f"{split}/accepted.csv"].set_index("metric")
        figures = ", ".join(f"{_words(name)} {with_ends(table.loc[name])}" for name in _SHOWN)
        lines.append(f"  at the accepted X-rays: {figures}")
    return "\n".join(lines)


def _by_source(told: pd.DataFrame) -> pd.DataFrame:
    """A row for all, then for each source: source, n_files, n_refused, share_of_files, n_xrays and n_xrays_refused, wholly."""
    parts = [("all", told), *told.groupby("source", sort=True)]
    return pd.DataFrame(
        [
            {
                "source": source,
                "n_files": len(rows),
                "n_refused": int(rows["refused"].sum()),
                "share_of_files": float(np.mean(rows["refused"])),
                "n_xrays": rows["group"].nunique(),
                "n_xrays_refused": int(rows.groupby("group")["refused"].all().sum()),
            }
            for source, rows in parts
        ]
    )


def _measured(predictions: pd.DataFrame, decision: Decision, certainty: Certainty) -> pd.DataFrame:
    """Metrics per X-ray with their intervals."""
    rows = levels(predictions)["xray"]
    probability = decision.probability(rows["logit"])
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}
    return metric_intervals(rows["label"].to_numpy(), probability, drawn(rows), decision.threshold, **options)


def _words(name: str) -> str:
    return "AUROC" if name == "auroc" else name
