"""A registered classifier judged: every split predicted, compared with the references, promoted if it is better."""

from dataclasses import replace

import numpy as np
import pandas as pd
from accelerate import Accelerator

from fracture_mae.config import Evaluate
from fracture_mae.data.shown import leakage_of
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import (
    accepted,
    calibration,
    hiding,
    judging,
    operating_points,
    place,
    references,
    sample_size,
    subgroups,
    training_seeds,
    usefulness,
)
from fracture_mae.evaluation.chosen_on import VALIDATION, ChosenOn
from fracture_mae.evaluation.judging import CLASSIFIER, SPLITS, Certainty
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import predict, weighed
from fracture_mae.evaluation.strata import NO_REFERENCES, Strata
from fracture_mae.metrics.ends import FEWEST_GROUPS
from fracture_mae.models.gate import Gate
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import evaluation_page, external, inputs, promote, reconstruct, where
from fracture_mae.stages.model_card import writing
from fracture_mae.stages.model_card.facts import Facts
from fracture_mae.tracking.registered_models import LoadedClassifier, open_classifier
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run


def evaluate(config: Evaluate, run: Run) -> str:
    """Judge a classifier on every split beside the references, and promote it if it is better; what came of it, to print."""
    accelerator = make_accelerator(config.precision, config.device)
    loaded = load(config)
    is_external = config.split == external.SPLIT
    label_names = loaded.decision.label_names if is_external else None
    dataset = inputs.load_data(
        config, loaded.classifier.image_size, label_names, preprocess=loaded.classifier.preprocess
    )
    loaded.check(dataset)
    subgroups.columns(dataset.test.table, config.subgroups)  # a wrong name ends it here, not after minutes
    shown = loaded.shown_of(dataset)
    dataset = replace(dataset, leakage=leakage_of(shown, dataset))  # what this classifier was shown counts too
    run.dataset(dataset)
    run.tags({"classifier": loaded.name, "threshold": loaded.decision.threshold})
    note = f"Judging **{loaded.name}** at threshold {loaded.decision.threshold:.3f}. {inputs.describe(dataset)}"
    run.note(note)

    rebuilt = reconstruct.test_reconstruction(config, dataset, accelerator)
    report = (external.judge if is_external else judge)(loaded, dataset, config, accelerator)
    report.add(rebuilt)
    table = report.tables[f"{dataset.test.name}/predictions.csv"]
    table["shown"] = table["group"].map(shown)
    run.report(report)
    warning = shortcut_warning(report, dataset.test.name)
    served = operating_points.served(report, dataset.test.name)
    run.note(" ".join(filter(None, [note, f"Shortcut warning: {warning}.", served])))
    promotion = promote.consider(loaded, report, dataset, config, accelerator)
    promote.carry_out(promotion, loaded, report, dataset, run.id)
    verdict = promotion.report()
    verdict.tags["shortcut_warning"] = warning
    run.report(verdict)
    report.add(verdict)
    facts = Facts(loaded, dataset, report, run.id, run.page)
    card = writing.write(facts)
    run.text(card, writing.FILE)
    run.text(evaluation_page.page(facts, config, card), evaluation_page.FILE)
    run.add_note(f"To read: {run.link(evaluation_page.FILE)}")
    lines = [
        (external.digest if is_external else digest)(report),
        reconstruct.reconstruction_digest(report, dataset.test.name),
        f"shortcut warning: {warning}",
        str(promotion),
        f"to read: {run.place_of(evaluation_page.FILE)}",
    ]
    return "\n".join(filter(None, lines))


def digest(report: Report) -> str:
    """The figures of all splits to print."""
    places = [place.digest(report, split) for split in SPLITS[1:]]
    strata = judging.strata_digest(report, SPLITS[1:])
    lines = [judging.digest(report, SPLITS).to_string(), strata]
    lines += [each.digest(report, "test") for each in (operating_points, usefulness, calibration, accepted)]
    lines += [
        *places,
        hiding.digest(report, "test"),
        *(each.digest(report, "test") for each in (subgroups, sample_size, training_seeds)),
    ]
    return "\n".join(filter(None, lines))


def load(config: Evaluate) -> LoadedClassifier:
    """The classifier that `config` names.

    Raises:
        FractureMaeError: there is none, or it takes another image size or preprocessing than the one asked for.
    """
    loaded = open_classifier(config.classifier, config.precision)
    size = loaded.classifier.image_size
    if config.image_size not in ("auto", size):
        raise FractureMaeError(
            f"--image-size {config.image_size}: {loaded.name} takes {size} pixels. Leave it at auto, or train another."
        )
    if config.preprocess not in ("auto", loaded.classifier.preprocess):
        raise FractureMaeError(
            f"--preprocess {config.preprocess}: {loaded.name} takes X-rays preprocessed by {loaded.classifier.preprocess}. Leave it at "
            "auto, or train another."
        )
    return loaded


def judge(loaded: LoadedClassifier, dataset: Dataset, config: Evaluate, accelerator: Accelerator) -> Report:
    """Judge all splits, and compare the classifier with the references where they are asked for."""
    certainty = Certainty(config.n_draws, config.seed)
    remark = judging.remark_on(dataset.leakage)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    predictions = {
        xrays.name: weighed(predict(loaded.classifier, xrays, **options), xrays, config) for xrays in dataset.sides
    }
    columns = subgroups.columns(dataset.test.table, config.subgroups)
    predictions["test"] = subgroups.with_columns(predictions["test"], dataset.test.table, columns)
    chosen_on = _chosen_on(loaded, predictions["validation"])
    report = operating_points.judge(predictions, loaded.decision, config, remark, certainty, chosen_on)
    held_out = {split: predictions[split] for split in ("validation", "test")}
    report.add(usefulness.judge(held_out, loaded.decision, config, remark))
    logits: dict[str, dict[str, np.ndarray]] = {}
    for xrays in (dataset.validation, dataset.test):
        report.add(where.judge(loaded, xrays, predictions[xrays.name], dataset.sides, remark, certainty, **options))
    if config.references:
        frozen, tags = inputs.load_reference(config, accelerator)
        report.tags |= tags
        logits = references.fit_and_predict(dataset, config.seed, frozen)
    for split in SPLITS:
        beside = {name: predictions[split].assign(logit=by_split[split]) for name, by_split in logits.items()}
        strata = _strata(split, beside)
        report.add(judging.judge_split(predictions[split], loaded.decision, split, remark, certainty, strata))
        if beside:
            models: dict[str, pd.DataFrame] = {CLASSIFIER: predictions[split], **beside}
            report.add(judging.compare(models, split, remark, certainty, strata))
        else:
            report.tags[f"within_strata.{split}"] = NO_REFERENCES
        if split == "test":
            report.add(sample_size.judge(predictions[split], report.tables[f"{split}/xray/metrics.csv"], beside, split))
    gate = Gate.load(loaded.folder)
    for xrays in (dataset.validation, dataset.test):
        shown = predictions[xrays.name], xrays, gate, loaded.classifier, loaded.decision, certainty
        report.add(accepted.judge(*shown, **options))
    report.add(subgroups.judge(predictions["test"], loaded.decision, "test", columns, remark, certainty))
    seeds = {training_seeds.REGISTERED: (predictions["test"], loaded.decision)}
    seeds |= training_seeds.of_others(loaded.folder, dataset.test, config, **options)
    report.add(training_seeds.judge(seeds, "test", remark, certainty))
    return report


def _chosen_on(loaded: LoadedClassifier, validation: pd.DataFrame) -> ChosenOn:
    """Predictions out of fold, where the classifier keeps some: it may have been trained on validation since, as `tune` does."""
    own = OwnData.load(loaded.folder)
    return ChosenOn(validation) if own is None or own.place == VALIDATION else own.chosen_on


def _strata(split: str, beside: dict[str, pd.DataFrame]) -> Strata | None:
    """None on training, where the references were fitted: what they say there is no propensity."""
    return Strata.of(beside[references.FILE_PROPERTIES]) if beside and split != "train" else None


def shortcut_warning(report: Report, split: str) -> str:
    """A sentence if file and border properties clearly tell the label of the X-rays; "none" or "not tested" else."""
    table = report.tables.get(f"{split}/comparison.csv")
    if table is None:
        return f"not tested ({report.tags.get('references', '--references false')})"
    row = table[(table["source"] == "all") & (table["model"] == references.FILE_PROPERTIES)].iloc[0]
    if np.isnan(row["low"]):
        return f"not tested (fewer than {FEWEST_GROUPS} patients or X-rays of a class on {split})"
    if not row["low"] > 0.5:
        return "none"
    return (
        f"the label can be guessed without looking at a bone: {references.FILE_PROPERTIES} alone reach an AUROC per X-ray on {split} "
        f"of {row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    )
