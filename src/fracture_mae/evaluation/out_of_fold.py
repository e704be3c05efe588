"""What a cross-validation says: every X-ray judged by a model that never saw it, all folds pooled, and fold by fold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.evaluation.calibration import judge_calibration
from fracture_mae.evaluation.judging import (
    WITH_INTERVAL,
    Certainty,
    drawn,
    flat_metrics,
    in_order,
    levels,
    per_file,
    shown_of,
    weight_of,
    with_ends,
    within_strata,
)
from fracture_mae.evaluation.strata import Strata
from fracture_mae.metrics import scores, thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.metrics.resampled_t import reach
from fracture_mae.tracking.report import Report


@dataclass(frozen=True)
class Parts:
    """By what the answers are told apart, besides all of them together.

    Attributes:
        place: folder of tables and figures, and the beginning of metrics' names.
        unit: "fold" or "source", a column of the answers.
        sources: those that are judged by themselves; None: all parts are.
    """

    place: str = "cross_validation"
    unit: str = "fold"
    sources: tuple[str, ...] | None = None

    def alone(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the parts that are judged by themselves."""
        return rows if self.sources is None else rows[rows[self.unit].isin(self.sources)]

    def title(self, rows: pd.DataFrame) -> str:
        n_parts = rows[self.unit].nunique()
        return f"{n_parts} folds" if self.unit == "fold" else f"{n_parts} sources, each held out"


FOLDS = Parts()


def pool(folds: Iterable[tuple[pd.DataFrame, Decision]]) -> pd.DataFrame:
    """The held-out predictions of all folds in one table, each with the choices of its own fold's model.

    Args:
        folds: predictions (path, sha256, label, group, patient, source, logit and perhaps weight) and decision of each fold.

    Returns:
        These columns, and fold (from 1), threshold, probability, answer and truth, sorted by path.
    """
    parts = []
    for number, (predictions, decision) in enumerate(folds, start=1):
        names = np.array(decision.label_names)
        probability = decision.probability(predictions["logit"])
        answer = names[thresholds.decide(probability, decision.threshold)]
        parts.append(
            predictions.assign(
                fold=number,
                threshold=decision.threshold,
                probability=probability,
                answer=answer,
                truth=names[predictions["label"]],
            )
        )
    return pd.concat(parts, ignore_index=True).sort_values("path", ignore_index=True)


def judge(
    pooled: pd.DataFrame,
    decisions: Sequence[Decision],
    remark: str,
    certainty: Certainty,
    parts: Parts = FOLDS,
    strata: Strata | None = None,
) -> Report:
    """Pooled metrics with intervals, metrics of each fold, or source, and their mean with its interval, tables and figures.

    Scores of several models are pooled after each one's own calibration, and decided at each one's own threshold. Where folds
    differ in scale all the same, pooled AUROC is a little lower than the mean of the folds' (Forman & Scholz, "Apples-to-apples
    in cross-validation studies", SIGKDD Explorations 2010); both are given.

    Args:
        pooled: see `pool`.
        decisions: of the folds, in their order.
        remark: stands in every title; may be empty.
        strata: of the X-rays, for the AUROC within them, pooled alone; None: not wanted.
    """
    found = Report(tables={f"{parts.place}/predictions.csv": pooled})
    if strata is not None:
        found.tags[f"within_strata.{parts.place}"] = str(strata)
    for level, rows in calibrated_levels(pooled, decisions).items():
        unit, n_files = (per_file(rows), len(rows)) if level == "image" else ("per X-ray", None)
        title = plots.heading(parts.title(rows), unit, n_files, rows["group"].nunique())
        title = f"{title}\n{remark}".strip()
        of_xrays = strata if level == "xray" else None
        found.add(_judge_level(rows, parts, level, decisions[0].label_names, title, certainty, of_xrays))
    return found


def calibrated_levels(pooled: pd.DataFrame, decisions: Sequence[Decision]) -> dict[str, pd.DataFrame]:
    """Files (`image`) and X-rays (`xray`): label, group, patient, source, fold, threshold, probability and, of files, perhaps weight.

    All files of an X-ray are in one fold, so an X-ray has one calibration.
    """
    source = pooled.groupby("group")["source"].first()
    tables: dict[str, list[pd.DataFrame]] = {}
    for number, files in pooled.groupby("fold", sort=True):
        decision = decisions[number - 1]
        for level, rows in levels(files).items():
            probability = decision.probability(rows["logit"])
            choices = {
                "source": rows["group"].map(source),
                "fold": number,
                "threshold": decision.threshold,
                "probability": probability,
            }
            tables.setdefault(level, []).append(rows.assign(**choices))
    return {level: pd.concat(parts, ignore_index=True) for level, parts in tables.items()}


def per_fold(rows: pd.DataFrame, parts: Parts = FOLDS) -> pd.DataFrame:
    """Every metric (columns) of each fold, or source, that is judged by itself (index), and n, how many files or X-rays it holds."""
    of_part = {
        name: {"n": len(part)} | _summary(part) for name, part in parts.alone(rows).groupby(parts.unit, sort=True)
    }
    table = pd.DataFrame.from_dict(of_part, orient="index").rename_axis(parts.unit)
    return table if of_part else table.reindex(columns=["n", *_summary(rows)]).astype(float)


def over_folds(folds: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """The mean over K folds of each metric, with an interval that knows that the folds' models share X-rays.

    mean ± t · s · √(1/K + 1/(K - 1)), where s is the standard deviation over folds (divisor K - 1), t the quantile
    (1 + level) / 2 of Student's distribution with K - 1 degrees of freedom, and 1/(K - 1) the ratio of held-out to training
    X-rays. Without that last term it would be the usual t interval, too narrow because two models share most of their
    training X-rays (Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52, 2003). An interval is not
    cut off at 0 or 1.

    Args:
        folds: a row per fold, a column per metric; folds in which a metric is undefined (NaN) are left out of its mean, and
            count no more in the first 1/K and in the degrees of freedom.

    Returns:
        Index: metric. Columns: mean, sd, mean_low, mean_high, n_folds. Of one fold the interval is NaN.
    """
    defined = folds.count()
    sd = folds.std(ddof=1)
    half = reach(sd, defined, 1 / max(len(folds) - 1, 1), level)
    mean = folds.mean()
    table = pd.DataFrame(
        {"mean": mean, "sd": sd, "mean_low": mean - half, "mean_high": mean + half, "n_folds": defined}
    )
    return table.rename_axis("metric")


def digest(found: Report, parts: Parts = FOLDS) -> pd.DataFrame:
    """The figures to print: for files and X-rays, the main metrics pooled and as the mean over folds or sources, with intervals."""
    files = per_file(levels(found.tables[f"{parts.place}/predictions.csv"])["image"]).removeprefix("per ")
    rows = {}
    for level, unit in (("image", files), ("xray", "X-ray")):
        table = found.tables[f"{parts.place}/{level}/metrics.csv"].set_index("metric")
        table = table.loc[list(shown_of(table))]
        means = table.loc[list(WITH_INTERVAL), ["mean", "mean_low", "mean_high"]].set_axis(
            ["estimate", "low", "high"], axis=1
        )
        means = means.clip(0, 1)  # they are all shares, and of few sources an interval goes far beyond
        rows["pooled", unit] = {name: with_ends(row) for name, row in table.iterrows()}
        rows[f"mean of {parts.unit}s", unit] = {name: with_ends(row) for name, row in means.iterrows()}
    return in_order(rows).rename_axis([f"out of {parts.unit}", "per"])


def _judge_level(
    rows: pd.DataFrame,
    parts: Parts,
    level: str,
    label_names: Sequence[str],
    title: str,
    certainty: Certainty,
    strata: Strata | None,
) -> Report:
    place, unit = f"{parts.place}/{level}", parts.unit
    values = _scores(rows)
    label, probability, limits, weight = values
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed, "weight": weight}
    pooled = metric_intervals(label, probability, drawn(rows), limits, **options)
    pooled = pd.concat([pooled, *within_strata(rows, strata, certainty, "probability")])
    folds = per_fold(rows, parts)
    means = over_folds(folds.drop(columns="n"))
    matrix = scores.confusion(label, probability, limits, weight)
    chosen = list(WITH_INTERVAL)
    curves = {number: (*_scores(fold)[:2], _scores(fold)[3]) for number, fold in parts.alone(rows).groupby(unit)}
    found = Report(
        metrics=flat_metrics(pooled, place, shown_of(pooled)) | _flat_means(means, place),
        tables={
            f"{place}/metrics.csv": pooled.join(means).reset_index(),
            f"{place}/{unit}s.csv": folds.reset_index(),
        },
        figures={
            f"{place}/roc.png": plots.fold_roc_curves(
                (label, probability, weight), curves, pooled.loc["auroc"], f"ROC out of {unit}\n{title}", unit
            ),
            f"{place}/{unit}s.png": plots.fold_spread(
                folds[chosen], means.loc[chosen], pooled.loc[chosen], f"Spread of the {unit}s\n{title}", unit
            ),
            f"{place}/confusion_matrix.png": plots.confusion_matrix(
                matrix, label_names, f"Out of {unit}, each fold at its own threshold\n{title}"
            ),
        },
    )
    found.add(judge_calibration(label, probability, drawn(rows), place, f"out of {unit}\n{title}", **options))
    return found


def _scores(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Label, probability, threshold and weight, each [n]."""
    label, probability, limits = (rows[name].to_numpy() for name in ("label", "probability", "threshold"))
    return label, probability, limits, weight_of(rows)


def _summary(rows: pd.DataFrame) -> dict[str, float]:
    label, probability, limits, weight = _scores(rows)
    return scores.summary(label, probability, limits, weight)


def _flat_means(means: pd.DataFrame, place: str) -> dict[str, float]:
    flat = {f"{place}/{name}_mean": value for name, value in means["mean"].items()}
    for name in WITH_INTERVAL:
        flat |= {f"{place}/{name}_{end}": means.loc[name, end] for end in ("mean_low", "mean_high")}
    return {name: value for name, value in flat.items() if np.isfinite(value)}
