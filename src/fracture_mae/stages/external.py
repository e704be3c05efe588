"""A classifier judged on X-rays of another source, all of them, with nothing fitted or chosen on them.

Threshold, calibration and operating points are the classifier's own, and so are the X-rays that the references were fitted on: what it
keeps of them, see `own_data`. Beside all that an evaluation says stand how common fractures are there, whether probabilities agree with
what came true, how far the X-rays differ from its own, and by how much it does worse than on its own test.
"""

import logging

import numpy as np
import pandas as pd
from accelerate import Accelerator
from scipy.stats import binomtest

from fracture_mae import plots
from fracture_mae.config import Evaluate
from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.evaluation import (
    accepted,
    calibration,
    drift,
    hiding,
    judging,
    operating_points,
    place,
    properties,
    references,
    sample_size,
    subgroups,
    training_seeds,
    usefulness,
)
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.evaluation.judging import CLASSIFIER, WITH_INTERVAL, Certainty, drawn, levels, with_ends
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import features, predict, weighed
from fracture_mae.evaluation.strata import NO_REFERENCES, Strata
from fracture_mae.metrics.intervals import Sample, fall
from fracture_mae.models.gate import Gate
from fracture_mae.stages import inputs, promote, where
from fracture_mae.tracking import lineage
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report

logger = logging.getLogger(__name__)

SPLIT = "external"
_NOT_KEPT = "not at hand: this classifier keeps nothing of its own data. Train it anew"


def judge(loaded: LoadedClassifier, dataset: Dataset, config: Evaluate, accelerator: Accelerator) -> Report:
    """Everything about a classifier on somebody else's X-rays.

    Args:
        dataset: of which `test` holds them all.
    """
    certainty = Certainty(config.n_draws, config.seed)
    remark = judging.remark_on(dataset.leakage)
    own = OwnData.load(loaded.folder)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    predicted = predict(loaded.classifier, dataset.test, **options)
    columns = subgroups.columns(dataset.test.table, config.subgroups)
    predictions = subgroups.with_columns(weighed(predicted, dataset.test, config), dataset.test.table, columns)
    decision = loaded.decision

    logits, told = {}, {}
    if own and config.references:
        frozen, told = _kept_reference(own, config, accelerator)
        logits = own.reference_logits(dataset.test, config.seed, frozen)
    beside = {name: predictions.assign(logit=values) for name, values in logits.items()}
    strata = Strata.of(beside[references.FILE_PROPERTIES]) if beside else None
    report = judging.judge_split(predictions, decision, SPLIT, remark, certainty, strata)
    report.tags |= told
    if strata is None:
        report.tags[f"within_strata.{SPLIT}"] = f"no AUROC within strata: {_NOT_KEPT}" if own is None else NO_REFERENCES
    chosen_on = None if own is None else own.chosen_on
    report.add(operating_points.judge({SPLIT: predictions}, decision, config, remark, certainty, chosen_on))
    report.add(usefulness.judge({SPLIT: predictions}, decision, config, remark))
    report.add(where.judge(loaded, dataset.test, predictions, dataset.sides, remark, certainty, **options))
    shown = predictions, dataset.test, Gate.load(loaded.folder), loaded.classifier, decision, certainty
    report.add(accepted.judge(*shown, **options))
    report.add(_prevalence(predictions))
    report.add(_fall(loaded, predictions, certainty))
    report.add(subgroups.judge(predictions, decision, SPLIT, columns, remark, certainty))
    report.add(sample_size.judge(predictions, report.tables[f"{SPLIT}/xray/metrics.csv"], beside, SPLIT))
    seeds = {training_seeds.REGISTERED: (predictions, decision)}
    seeds |= training_seeds.of_others(loaded.folder, dataset.test, config, **options)
    report.add(training_seeds.judge(seeds, SPLIT, remark, certainty))
    if own is None:
        report.tags["references"] = _NOT_KEPT
    else:
        if beside:
            report.add(judging.compare({CLASSIFIER: predictions} | beside, SPLIT, remark, certainty, strata))
        sample = one_of_each(dataset.test)
        report.add(_drift(own, sample, features(loaded.classifier, sample, **options), remark, certainty))
    return report


def _kept_reference(
    own: OwnData, config: Evaluate, accelerator: Accelerator
) -> tuple[FrozenNetwork | None, dict[str, str]]:
    """The network that is asked for as a reference, where the classifier keeps what was fitted on its features; tags that say so."""
    frozen, tags = inputs.load_reference(config, accelerator)
    if frozen and not own.keeps(frozen):
        kept = f"keeps that on {own.frozen_by[0]}" if own.frozen_by[0] else "keeps none"
        reason = f"the classifier {kept}; train it with --reference-encoder {frozen.name}"
        logger.warning("The reference on frozen features of %s is left out: %s.", frozen.name, reason)
        frozen, tags = None, {"reference_encoder.used": f"none: {reason}"}
    return frozen, tags


def digest(report: Report) -> str:
    """The figures to print."""
    prevalence = report.tables[f"{SPLIT}/prevalence.csv"].iloc[0]
    lines = [
        judging.digest(report, [SPLIT]).to_string(),
        judging.strata_digest(report, [SPLIT]),
        operating_points.digest(report, SPLIT),
        *filter(None, [usefulness.digest(report, SPLIT)]),
        *filter(None, [place.digest(report, SPLIT), hiding.digest(report, SPLIT)]),
        f"fractured: {prevalence['n_fractured']:.0f} of {prevalence['n_xrays']:.0f} X-rays, {with_ends(prevalence)}",
        calibration.digest(report, SPLIT),
        accepted.digest(report, SPLIT),
    ]
    if f"{SPLIT}/drift.csv" in report.tables:
        lines += ["how well X-rays of its own training are told from these, AUROC (alike: 0.5):"]
        lines += _lines(report.tables[f"{SPLIT}/drift.csv"].set_index("told by"))
        first = report.tables[f"{SPLIT}/drift_of_properties.csv"].iloc[0]
        lines += [f"  most different: {first['property']}, median {first['own_median']:g} → {first['here_median']:g}"]
    else:
        lines += [f"drift, references and operating points: {_NOT_KEPT}"]
    if f"{SPLIT}/fall.csv" in report.tables:
        table = report.tables[f"{SPLIT}/fall.csv"].set_index("metric").loc[list(WITH_INTERVAL)]
        lines += ["its own test → here, per X-ray, and the fall:"]
        lines += [
            f"  {calibration.words(name)}: {row['own']:.3f} → "
            f"{'undefined' if np.isnan(row['elsewhere']) else format(row['elsewhere'], '.3f')}, "
            f"fall {with_ends(row.rename({'fall': 'estimate'}))}"
            for name, row in table.iterrows()
        ]
    else:
        lines += [report.tags["own_test"]]
    lines += filter(None, [each.digest(report, SPLIT) for each in (subgroups, sample_size, training_seeds)])
    return "\n".join(lines)


def _lines(table: pd.DataFrame) -> list[str]:
    return [f"  {calibration.words(name)}: {with_ends(row)}" for name, row in table.iterrows()]


def _prevalence(predictions: pd.DataFrame) -> Report:
    """Share of fractured X-rays with Wilson's interval."""
    label = levels(predictions)["xray"]["label"]
    ends = binomtest(int(label.sum()), len(label)).proportion_ci(method="wilson")
    row = {"n_fractured": int(label.sum()), "n_xrays": len(label), "estimate": label.mean()}
    table = pd.DataFrame([row | {"low": ends.low, "high": ends.high}])
    return Report(metrics={f"{SPLIT}/prevalence": label.mean()}, tables={f"{SPLIT}/prevalence.csv": table})


def _fall(loaded: LoadedClassifier, predictions: pd.DataFrame, certainty: Certainty) -> Report:
    """From the classifier's own test to here, where it was judged on that."""
    run_id = promote.judged_in(loaded)
    own_test = lineage.read_table(run_id, "test/predictions.csv") if run_id else None
    if own_test is None:
        reason = (
            "fall from its own test: not at hand. Run evaluate on the classifier's own data first, with split=grouped"
        )
        return Report(tags={"own_test": reason})
    decision = loaded.decision
    samples = [
        Sample(rows["label"], decision.probability(rows["logit"]), drawn(rows), decision.threshold)
        for rows in (levels(each)["xray"] for each in (own_test, predictions))
    ]
    table = fall(*samples, n_draws=certainty.n_draws, seed=certainty.seed)
    metrics = {
        f"{SPLIT}/fall/{name}{end}": row[column]
        for name, row in table.loc[list(WITH_INTERVAL)].iterrows()
        for end, column in (("", "fall"), ("_low", "low"), ("_high", "high"))
        if np.isfinite(row[column])
    }
    return Report(
        metrics=metrics, tables={f"{SPLIT}/fall.csv": table.reset_index()}, tags={"own_test": f"run {run_id}"}
    )


def _drift(own: OwnData, sample: XRays, found: np.ndarray, remark: str, certainty: Certainty) -> Report:
    """How far one file of each X-ray differs from one file of each of the training.

    Args:
        found: features of `sample`, float32 [n, hidden size].
    """
    before, here = own.properties[own.original], properties.of_files(sample, "Properties")
    by_property = drift.of_properties(before, here)
    table = drift.told_apart(
        {"properties": before.to_numpy(), "features": own.features},
        {"properties": here.to_numpy(), "features": found},
        certainty,
    )
    title = f"Drift from {len(before):,} X-rays of the training to {len(sample):,} external ones"
    figure = plots.drift(by_property, table, f"{title}\n{remark}" if remark else title)
    return Report(
        metrics={
            f"{SPLIT}/drift/{name}": row["estimate"] for name, row in table.iterrows() if np.isfinite(row["estimate"])
        },
        tables={f"{SPLIT}/drift.csv": table.reset_index(), f"{SPLIT}/drift_of_properties.csv": by_property},
        figures={f"{SPLIT}/drift.png": figure},
    )
