"""What models are worth on sources that they never saw, source by source and together, beside ordinary folds of the same X-rays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.data.held_out_sources import FEWEST_XRAYS
from fracture_mae.evaluation.judging import Certainty, drawn, levels, slug, within_strata
from fracture_mae.evaluation.out_of_fold import over_folds
from fracture_mae.evaluation.strata import WITHIN, Strata
from fracture_mae.metrics import calibration, delong
from fracture_mae.metrics.intervals import paired_difference
from fracture_mae.tracking.report import Report

PLACE = "held_out_sources"
POOLED, MEAN = "all, pooled", "mean of sources"
_SLUGS = {POOLED: "all", MEAN: "mean"}
_COMPARED = ("auroc", "auroc_folds", "fall", WITHIN)


@dataclass(frozen=True)
class Answers:
    """Out-of-fold answers of one model for the same X-rays, a row per X-ray: group, patient, label and probability.

    Attributes:
        held_out: by models that saw nothing of the X-ray's source.
        folds: by models of ordinary folds, which saw other X-rays of it; None where these were not run.
    """

    held_out: pd.DataFrame
    folds: pd.DataFrame | None = None


def answers(held_out: pd.DataFrame, folds: pd.DataFrame | None = None) -> Answers:
    """Of predictions per file (group, label, logit), not calibrated: the probability of an X-ray is that of its mean logit."""
    return Answers(*(None if table is None else _per_xray(table) for table in (held_out, folds)))


def judge(
    models: Mapping[str, Answers],
    xrays: pd.DataFrame,
    sources: pd.DataFrame,
    certainty: Certainty,
    remark: str = "",
    strata: Strata | None = None,
) -> Report:
    """AUROC per X-ray of each model: in each source that can be judged alone, of all X-rays, and the mean of those sources.

    Of all X-rays: X-rays of one source are compared with those of others, which other models judged on perhaps another scale. And where
    sources differ in their share of positives, a model profits from telling sources apart that it knows, while without a source that
    is all positive it expects fewer positives, of just this source too: so ordinary folds come out too high and held-out ones too low
    (Parker, Günter & Bedo, "Stratification bias in low signal microarray studies", BMC Bioinformatics 8, 2007). Within a source there
    is one model, and neither happens.

    The interval of a source and of all knows patients (`metrics.delong`); that of the mean is Student's over sources
    (`out_of_fold.over_folds`): how much it would be another with other sources, which one asks who thinks of the next hospital. The
    fall is by how much ordinary folds promise more; its interval is paired, by the same draws of patients, or over the same sources.

    Args:
        models: their answers by their names.
        xrays: a row per file: group and source.
        sources: `data.held_out_sources.HeldOutSources.sources`.
        remark: stands in every title; may be empty.
        strata: of these X-rays, for the AUROC within them of the models that never saw the source; None: not wanted.

    Returns:
        The table held_out_sources/comparison.csv, a figure for each model, and metrics.
    """
    source = xrays.groupby("group")["source"].first()
    tables = {name: _table(each, source, sources, certainty, strata) for name, each in models.items()}
    whole = pd.concat([table.assign(model=name) for name, table in tables.items()]).reset_index()
    columns = ["model", *(name for name in whole if name != "model")]
    title = plots.heading(f"{len(sources)} sources, each held out", "per X-ray", len(xrays), len(source))
    return Report(
        tables={f"{PLACE}/comparison.csv": whole[columns]},
        figures={
            f"{PLACE}/{slug(name)}.png": plots.sources(_forest(table), f"AUROC of {name}\n{title}\n{remark}".strip())
            for name, table in tables.items()
        },
        metrics=_flat(whole),
    )


def digest(found: Report) -> str:
    """The table to print, and which sources could not be judged alone."""
    table = found.tables[f"{PLACE}/comparison.csv"]
    shown = table[table["not_alone"] == ""]
    columns = {
        "X-rays": [f"{n:,}" for n in shown["n_groups"]],
        "sources held out": [_text(row, "auroc") for _, row in shown.iterrows()],
        "ordinary folds": [_text(row, "auroc_folds") for _, row in shown.iterrows()],
        "fall": [_text(row, "fall", "+") for _, row in shown.iterrows()],
        "within strata": [_text(row, WITHIN) for _, row in shown.iterrows()],
    }
    if table[WITHIN].isna().all():
        del columns["within strata"]
    index = pd.MultiIndex.from_frame(shown[["model", "source"]])
    lines = ["AUROC per X-ray, of models that never saw the source:", pd.DataFrame(columns, index=index).to_string()]
    other = table[table["not_alone"] != ""].drop_duplicates("source")
    if len(other):
        told = "; ".join(f"{row.source} ({row.n_groups:,} X-rays, {row.not_alone})" for row in other.itertuples())
        lines.append(f"Only among all, since alone {FEWEST_XRAYS} X-rays of each label are needed: {told}.")
    lines.append(
        "Take the mean of sources home: pooled figures also hang on how sources differ in their share of fractures."
    )
    if table["auroc_folds"].isna().all():
        lines.append("Ordinary folds: not run (cross_validate=5,sources runs both).")
    return "\n".join(lines)


def _per_xray(predictions: pd.DataFrame) -> pd.DataFrame:
    rows = levels(predictions)["xray"]
    return rows.assign(probability=calibration.apply(rows["logit"], 1.0))


def _table(
    each: Answers, source: pd.Series, sources: pd.DataFrame, certainty: Certainty, strata: Strata | None
) -> pd.DataFrame:
    """Index: source, then POOLED and MEAN. Columns: sizes, not_alone, and of each of _COMPARED the estimate, _low and _high."""
    held_out = each.held_out.set_index("group", drop=False)
    folds = None if each.folds is None else each.folds.set_index("group", drop=False).loc[held_out.index]
    source = source.loc[held_out.index]
    rows = {}
    for name in sources.index[sources["not_alone"] == ""]:
        here = (source == name).to_numpy()
        rows[name] = _measured(held_out[here], None if folds is None else folds[here], certainty, strata)
    alone = pd.DataFrame.from_dict(rows, orient="index")
    rows |= {POOLED: _measured(held_out, folds, certainty, strata), MEAN: _mean(alone)}
    names = ["n_files", "n_xrays", "n_negative", "n_positive"]
    sizes = sources[names].copy()
    sizes.loc[POOLED] = sizes.sum()
    sizes.loc[MEAN] = sources.loc[sources["not_alone"] == "", names].sum()
    sizes = sizes.astype(int)
    found = sizes.assign(not_alone=sources["not_alone"].reindex(sizes.index, fill_value="")).rename(
        columns={"n_xrays": "n_groups"}
    )
    measured = pd.DataFrame.from_dict(rows, orient="index")
    return found.join(measured.reindex(columns=[f"{name}{end}" for name in _COMPARED for end in _ENDS])).rename_axis(
        "source"
    )


_ENDS = {"": "estimate", "_low": "low", "_high": "high"}


def _measured(
    held_out: pd.DataFrame, folds: pd.DataFrame | None, certainty: Certainty, strata: Strata | None
) -> dict[str, float]:
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}

    def auroc(rows: pd.DataFrame, name: str) -> dict[str, float]:
        found = delong.auroc(rows["label"], rows["probability"], drawn(rows))
        return {f"{name}{end}": value for end, value in zip(_ENDS, found, strict=True)}

    measured = auroc(held_out, "auroc")
    for within in within_strata(held_out, strata, certainty, "probability"):
        measured |= {f"{WITHIN}{end}": float(within.loc[WITHIN, column]) for end, column in _ENDS.items()}
    if folds is None:
        return measured
    fall = paired_difference(
        held_out["label"], folds["probability"], held_out["probability"], drawn(held_out), **options
    )
    return measured | auroc(folds, "auroc_folds") | {f"fall{end}": fall[column] for end, column in _ENDS.items()}


def _mean(alone: pd.DataFrame) -> dict[str, float]:
    """Over sources; NaN where there is none. Intervals end where an AUROC, or the fall of one, does."""
    estimates = alone.reindex(columns=list(_COMPARED)).astype(float)
    means = over_folds(estimates).rename(columns={"mean": "estimate", "mean_low": "low", "mean_high": "high"})
    lowest = {"fall": -1.0}
    return {
        f"{name}{end}": float(np.clip(means.loc[name, column], lowest.get(name, 0.0), 1.0))
        for name in _COMPARED
        for end, column in _ENDS.items()
    }


def _forest(table: pd.DataFrame) -> pd.DataFrame:
    """Two rows for each source, held out and in ordinary folds; one where these were not run."""
    parts = (
        {"": "auroc"}
        if table["auroc_folds"].isna().all()
        else {" · held out": "auroc", " · ordinary folds": "auroc_folds"}
    )
    if not table[WITHIN].isna().all():
        parts |= {" · held out, within strata": WITHIN}
    sizes = ["n_files", "n_groups"]
    rows = [
        table.loc[[name], [*sizes, *(f"{column}{end}" for end in _ENDS)]]
        .set_axis([*sizes, *_ENDS.values()], axis=1)
        .set_axis([f"{name}{what}"])
        for name in table.index
        for what, column in parts.items()
    ]
    return pd.concat(rows)


def _flat(whole: pd.DataFrame) -> dict[str, float]:
    """PLACE/xray/WHAT/SOURCE/MODEL, and of all X-rays and the mean of sources the ends of the interval besides."""
    flat = {}
    for row in whole.to_dict("records"):
        for name in _COMPARED:
            place = f"{PLACE}/xray/{name}/{_SLUGS.get(row['source'], slug(row['source']))}/{slug(row['model'])}"
            ends = _ENDS if row["source"] in _SLUGS else [""]
            flat |= {f"{place}{end}": row[f"{name}{end}"] for end in ends}
    return {name: value for name, value in flat.items() if np.isfinite(value)}


def _text(row: pd.Series, name: str, sign: str = "") -> str:
    value, low, high = (row[f"{name}{end}"] for end in _ENDS)
    return "" if np.isnan(value) else plots.interval_text(value, low, high, sign)
