"""Predictions to findings: metrics with intervals, tables and figures, for files and for whole X-rays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.data.types import Leakage
from fracture_mae.evaluation.calibration import judge_calibration
from fracture_mae.evaluation.strata import WITHIN, Strata
from fracture_mae.metrics import calibration, delong, scores, thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals, paired_difference
from fracture_mae.tracking.report import Report

SPLITS = ("train", "validation", "test")
CLASSIFIER = "classifier"
WITHIN_STRATA = "within strata"  # beside "all" and the names of sources
WITH_INTERVAL = ("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity")
_FEWEST_XRAYS = 2  # of each class, for a source to be judged by itself; an interval needs `metrics.ends.FEWEST_GROUPS`
_LONGEST_SLUG = 80


@dataclass(frozen=True)
class Certainty:
    """Of the intervals that come from a bootstrap over patients, or X-rays where nothing is known of patients.

    Attributes:
        n_draws: number of draws.
        seed: of the draws.
    """

    n_draws: int
    seed: int


def levels(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predictions for files (`image`), and for X-rays by the mean logit of their files (`xray`).

    Args:
        predictions: columns group, label, logit, and more; patient, where it is known, is carried along; weight, where it is given,
            says how much a file counts among files: those of weight 0 are left out, and X-rays are the mean over all their files
            nevertheless.
    """
    counted = predictions[predictions["weight"] > 0] if "weight" in predictions else predictions
    return {"image": counted, "xray": scores.per_group(predictions)}


def drawn(rows: pd.DataFrame) -> pd.Series:
    """What a bootstrap draws as one: the patient, or the X-ray in tables in which nothing is known of patients."""
    return rows["patient" if "patient" in rows else "group"]


def judge_split(
    predictions: pd.DataFrame,
    decision: Decision,
    split: str,
    remark: str,
    certainty: Certainty,
    strata: Strata | None = None,
) -> Report:
    """Everything about one split.

    Args:
        predictions: one row per file: path, sha256, label, group, patient, source, logit and, where files differ in it, weight, see
            `levels`.
        remark: stands in every title, such as a warning of leakage; may be empty.
        strata: of its X-rays, where the AUROC within them is wanted too.
    """
    found = Report() if strata is None else Report(tags={f"within_strata.{split}": str(strata)})
    decided = _decided(predictions, decision)
    found.tables[f"{split}/predictions.csv"] = decided
    for level, rows in levels(predictions).items():
        title = title_of(split, level, rows if level == "image" else predictions, remark)
        of_xrays = strata if level == "xray" else None
        found.add(_judge_level(rows, decision, f"{split}/{level}", title, certainty, of_xrays))
    return found


def _decided(predictions: pd.DataFrame, decision: Decision) -> pd.DataFrame:
    probability = decision.probability(predictions["logit"])
    names = np.array(decision.label_names)
    answer = names[thresholds.decide(probability, decision.threshold)]
    return predictions.assign(
        probability=probability, threshold=decision.threshold, answer=answer, truth=names[predictions["label"]]
    )


def _judge_level(
    rows: pd.DataFrame, decision: Decision, place: str, title: str, certainty: Certainty, strata: Strata | None
) -> Report:
    label, logit = rows["label"].to_numpy(), rows["logit"].to_numpy()
    probability = decision.probability(logit)
    weight = weight_of(rows)
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed, "weight": weight}
    table = metric_intervals(label, probability, drawn(rows), decision.threshold, **options)
    table = pd.concat([table, *within_strata(rows, strata, certainty)])
    report = scores.classification_report(label, probability, decision.threshold, decision.label_names, weight)
    matrix = scores.confusion(label, probability, decision.threshold, weight)
    at = f"threshold {decision.threshold:.3f}"
    curve = {CLASSIFIER: (label, probability, weight)}

    def of(metric: str) -> dict[str, tuple[float, float]]:
        return {CLASSIFIER: _ends(table, metric)}

    found = Report(
        metrics=flat_metrics(table, place, shown_of(table)),
        tables={
            f"{place}/metrics.csv": table.reset_index(),
            f"{place}/classification_report.csv": report.rename_axis("class").reset_index(),
        },
        documents={f"{place}/confusion_matrix.json": _as_document(matrix, decision)},
        figures={
            f"{place}/confusion_matrix.png": plots.confusion_matrix(matrix, decision.label_names, f"{title}\n{at}"),
            f"{place}/roc.png": plots.roc_curves(curve, of("auroc"), f"ROC · {title}"),
            f"{place}/precision_recall.png": plots.precision_recall_curves(
                curve, of("average_precision"), f"Precision-recall · {title}"
            ),
            f"{place}/threshold_sweep.png": plots.threshold_sweep(
                scores.threshold_sweep(label, probability, weight), decision.threshold, f"Threshold sweep · {title}"
            ),
        },
    )
    before = calibration.apply(logit) if decision.calibrated else None
    found.add(judge_calibration(label, probability, drawn(rows), place, title, before=before, **options))
    return found


def within_strata(
    rows: pd.DataFrame, strata: Strata | None, certainty: Certainty, column: str = "logit"
) -> list[pd.DataFrame]:
    """The AUROC within strata of X-rays ranked by a column, as a further row for `metric_intervals`; none without strata."""
    if strata is None:
        return []
    return [strata.measure({WITHIN: rows}, column=column, n_draws=certainty.n_draws, seed=certainty.seed)]


def shown_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The main metrics that a table of metrics (index) has: WITH_INTERVAL, and after the plain AUROC that within strata."""
    return tuple(name for name in (WITH_INTERVAL[0], WITHIN, *WITH_INTERVAL[1:]) if name in table.index)


def weight_of(rows: pd.DataFrame) -> np.ndarray | None:
    """How much each row counts, [n]; None where all count the same."""
    return rows["weight"].to_numpy() if "weight" in rows else None


def _ends(table: pd.DataFrame, metric: str) -> tuple[float, float]:
    return table.loc[metric, "low"], table.loc[metric, "high"]


def flat_metrics(table: pd.DataFrame, place: str, with_interval: Sequence[str] = WITH_INTERVAL) -> dict[str, float]:
    """Every estimate as PLACE/METRIC and, of those named, the ends as PLACE/METRIC_low and PLACE/METRIC_high."""
    flat = {f"{place}/{name}": row["estimate"] for name, row in table.iterrows()}
    for name in with_interval:
        flat |= {f"{place}/{name}_{end}": table.loc[name, end] for end in ("low", "high")}
    return {name: value for name, value in flat.items() if np.isfinite(value)}


def _as_document(matrix: np.ndarray, decision: Decision) -> dict[str, Any]:
    negative, positive = decision.label_names
    return {
        "labels": [negative, positive],
        "matrix": matrix.tolist(),
        "rows": "true class",
        "columns": "predicted class",
        "threshold": decision.threshold,
    }


def title_of(split: str, level: str, predictions: pd.DataFrame, remark: str) -> str:
    """What a figure was drawn from: level, split, files and X-rays, and the remark where there is one."""
    n_groups = predictions["group"].nunique()
    unit = per_file(predictions) if level == "image" else "per X-ray"
    title = plots.heading(unit, split, len(predictions), n_groups)
    return f"{title}\n{remark}" if remark else title


def per_file(counted: pd.DataFrame) -> str:
    """What is counted where files are, in words for a title."""
    if "weight" not in counted:
        return "per file"
    return "per file, X-rays weighing the same" if counted["group"].duplicated().any() else "one file per X-ray"


def compare(
    predictions: Mapping[str, pd.DataFrame], split: str, remark: str, certainty: Certainty, strata: Strata | None = None
) -> Report:
    """The classifier beside the references, per X-ray: on all of a split, within each source and within strata.

    Args:
        predictions: name of the model (`classifier` first) → its predictions for the same files.
        strata: of these X-rays; None: the split is not judged within strata.
    """
    parts = dict(_by_source(predictions))
    tables = {source: (_aurocs(part), _differences(part, certainty)) for source, part in parts.items()}
    if strata is not None and strata.is_enough:
        tables[WITHIN_STRATA] = _within(predictions, strata, certainty)
    table, differences = (
        pd.concat([both[number].assign(source=source) for source, both in tables.items()]) for number in (0, 1)
    )
    overall = table[table["source"] == "all"]
    title = title_of(split, "xray", predictions[CLASSIFIER], remark)
    curves = {name: _label_and_probability(scores.per_group(rows)) for name, rows in predictions.items()}
    return Report(
        metrics={
            f"{split}/xray/auroc/{slug(source)}/{slug(model)}": estimate
            for model, source, estimate in table[["source", "estimate"]].itertuples()
            if np.isfinite(estimate)
        },
        tables={
            f"{split}/comparison.csv": table.reset_index(),
            f"{split}/comparison_differences.csv": differences.reset_index(),
        },
        figures={
            f"{split}/comparison.png": plots.sources(
                table.set_index(table["source"] + " · " + table.index), f"AUROC · {title}"
            ),
            f"{split}/comparison_roc.png": plots.roc_curves(
                curves, {model: (row["low"], row["high"]) for model, row in overall.iterrows()}, f"ROC · {title}"
            ),
        },
    )


def _aurocs(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Index: model; columns: estimate, low, high, n_groups (X-rays), n_files, n_negative and n_positive (X-rays)."""
    rows = {}
    for model, files in predictions.items():
        per_xray = scores.per_group(files)
        found = delong.auroc(per_xray["label"], per_xray["logit"], drawn(per_xray))
        rows[model] = {**found._asdict(), **_sizes(per_xray)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _sizes(per_xray: pd.DataFrame) -> dict[str, int]:
    n_positive = int(per_xray["label"].sum())
    return {
        "n_groups": len(per_xray),
        "n_files": int(per_xray["n_files"].sum()),
        "n_negative": len(per_xray) - n_positive,
        "n_positive": n_positive,
    }


def _differences(predictions: Mapping[str, pd.DataFrame], certainty: Certainty) -> pd.DataFrame:
    """How much higher the classifier's AUROC is than each reference's: estimate, low and high by the same draws for both."""
    per_xray = {name: scores.per_group(rows) for name, rows in predictions.items()}
    first = per_xray.pop(CLASSIFIER)
    label, probability = _label_and_probability(first)
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}
    rows = {
        name: paired_difference(label, probability, _label_and_probability(other)[1], drawn(first), **options)
        for name, other in per_xray.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("classifier minus")


def _within(
    predictions: Mapping[str, pd.DataFrame], strata: Strata, certainty: Certainty
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `_aurocs` and `_differences` say, within strata; sizes are those of the X-rays that are compared."""
    per_xray = {name: scores.per_group(files) for name, files in predictions.items()}
    found = strata.measure(per_xray, n_draws=certainty.n_draws, seed=certainty.seed).drop(columns="n_groups")
    compared = per_xray[CLASSIFIER][per_xray[CLASSIFIER]["group"].isin(strata.compared)]
    aurocs = found.loc[list(predictions)].assign(**_sizes(compared)).rename_axis("model")
    others = {f"{CLASSIFIER} - {name}": name for name in predictions if name != CLASSIFIER}
    differences = found.loc[list(others)].rename(index=others).rename_axis("classifier minus")
    return aurocs, differences


def _by_source(predictions: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
    """Yields `all`, then every source that holds enough X-rays of both classes."""
    yield "all", dict(predictions)
    first = predictions[CLASSIFIER]
    for source, rows in first.groupby("source", sort=True):
        n_xrays = rows.groupby("label")["group"].nunique()
        if len(n_xrays) == 2 and n_xrays.min() >= _FEWEST_XRAYS and len(rows) < len(first):
            yield source, {name: table.loc[rows.index] for name, table in predictions.items()}


def _label_and_probability(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["label"].to_numpy(), calibration.apply(rows["logit"])


def slug(name: str) -> str:
    """A name as a part of a metric's name, of which MLflow refuses empty and long ones."""
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")[:_LONGEST_SLUG] or "_"


def remark_on(leakage: Leakage) -> str:
    """What every title must say where X-rays were shown before they are judged or chosen on, in lines that fit the narrowest figure."""
    return "\n".join(f"LEAKY: {line}" for line in leakage.lines())


def digest(findings: Report, splits: Sequence[str]) -> pd.DataFrame:
    """The figures to print: for each split, and for files and X-rays, the main metrics with their intervals."""
    rows = {}
    for split in splits:
        files = per_file(levels(findings.tables[f"{split}/predictions.csv"])["image"]).removeprefix("per ")
        for level in ("image", "xray"):
            table = findings.tables[f"{split}/{level}/metrics.csv"].set_index("metric")
            texts = {name: with_ends(table.loc[name]) for name in shown_of(table)}
            rows[split, files if level == "image" else "X-ray"] = texts
    return in_order(rows).rename_axis(["split", "per"])


def in_order(rows: Mapping[tuple[str, str], Mapping[str, str]]) -> pd.DataFrame:
    """Texts by row and by main metric, blank where one is not there; without the AUROC within strata if no row has it."""
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table[list(shown_of(table.T))].fillna("")


def strata_digest(findings: Report, splits: Sequence[str]) -> str:
    """How many pairs stand behind each AUROC within strata, or why there is none; empty where none was asked for."""
    told = {split: findings.tags.get(f"within_strata.{split}") for split in splits}
    return "\n".join(f"{split}: {text}" for split, text in told.items() if text)


def with_ends(row: pd.Series) -> str:
    """An estimate with its interval, as far as both are defined."""
    return plots.interval_text(row["estimate"], row["low"], row["high"])
