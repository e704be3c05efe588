"""From an encoder to a registered classifier, cross-validated first where that is asked for."""

from collections.abc import Mapping

import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from fracture_mae.config import TrainClassifier
from fracture_mae.data.folds import joined
from fracture_mae.data.shown import WITH_LABEL
from fracture_mae.data.types import Dataset
from fracture_mae.evaluation import gate_fitting, judging, operating_points, training_seeds
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import ANSWERS, settle_arithmetic, weighed
from fracture_mae.metrics.decision import Decision
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes import collectives, ranks
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import cross_validate, inputs, other_seeds, start
from fracture_mae.stages.cross_validate import Fold
from fracture_mae.tracking.registered_models import load_encoder, made_from, register_classifier, with_leakage_of
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run
from fracture_mae.training import learning_curves
from fracture_mae.training.checkpoints import open_checkpoints

N_DRAWS = 1000


def train_classifier(config: TrainClassifier, run: Run) -> str:
    """Train, judge on validation and register a classifier; what came of it, to print.

    Of several processes the first alone has something to print.
    """
    accelerator = make_accelerator(config.precision, config.device)
    encoder = load_encoder(config.encoder, config)
    config, unobeyed = classifier_stage.obeyable(config, encoder)
    config = start.settle(config, encoder, run)
    for name, said in unobeyed.items():
        tqdm.write(f"{name.partition('.')[0]} is {said}")
    found = inputs.load_training_data(config, encoder.image_size, preprocess=encoder.preprocess)
    classifier_stage.check_assurance(config, found)
    dataset = with_leakage_of(encoder.source, found)
    run.dataset(dataset)
    encoder_split = inputs.check_encoder_split(config.encoder, dataset)
    run.tags({"encoder": encoder.source} | encoder_split | unobeyed)
    run.note(f"Classifier on the encoder of **{encoder.source}**, recipe `{config.recipe}`. {inputs.describe(dataset)}")

    shown = made_from(encoder.source, dataset, WITH_LABEL)
    frozen, told = inputs.load_reference(config, accelerator)
    run.tags(told)
    split = encoder_split["encoder.split"]
    folds, by_source = _cross_validate(encoder, dataset, config, accelerator, split, run, frozen)

    out_of_fold = cross_validate.pooled(folds) if folds else None
    options = {"accelerator": accelerator, "run": run, "out_of_fold": out_of_fold}
    others = other_seeds.train_others(encoder, dataset, config, **options)
    classifier = classifier_stage.build(encoder, config)
    with open_checkpoints(classifier, dataset, config, run.id) as checkpoints:
        options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": run.metrics}
        choice = classifier_stage.train_and_choose(classifier, dataset, config, **options, out_of_fold=out_of_fold)
        options = {"config": config, "accelerator": accelerator, "exact": choice.predictions}
        answers = settle_arithmetic(classifier, choice.decision, dataset.validation, **options)
        if not collectives.goes_on_alone():
            return ""
        validation = weighed(choice.predictions, dataset.validation, config)
        chosen_on = ChosenOn.out_of_fold(out_of_fold) if folds else ChosenOn(validation)
        report = _judged_on_validation(choice, validation, chosen_on, dataset, config, others.predictions)
        run.report(report)
        if choice.matching:
            run.report(choice.matching.report())
            tqdm.write(f"matched: {choice.matching}")
        options = {"batch_size": config.batch_size, "accelerator": accelerator, "seed": config.seed}
        own = OwnData.of(classifier, dataset, chosen_on, frozen=frozen, **options)
        gate = gate_fitting.fit(classifier, dataset.train, dataset.validation, **options)
        run.tags({"gate": gate, ANSWERS: answers})
        kept = shown, own, gate, others.kept
        version = register_classifier(classifier, choice.decision, kept, dataset, config, run)
        checkpoints.remove()
    others.forget()
    for fold in folds + by_source:
        fold.forget()
    lines = [
        judging.digest(report, ["validation"]).to_string(),
        operating_points.digest(report, "validation"),
        training_seeds.digest(report, "validation"),
        f"probability: {choice.decision.calibration}",
        str(choice.decision),
        f"gate: {gate}",
        f"answers are computed in {answers}",
        f"registered as models:/fracture-classifier/{version}, alias challenger",
    ]
    return "\n".join(filter(None, lines))


def _cross_validate(
    encoder: Encoder,
    dataset: Dataset,
    config: TrainClassifier,
    accelerator: Accelerator,
    encoder_split: str,
    run: Run,
    frozen: FrozenNetwork | None,
) -> tuple[list[Fold], list[Fold]]:
    """The folds that `config` asks for, ordinary ones and those of sources, told of as soon as they are done."""
    source_folds = cross_validate.SourceFolds.of(dataset, config)  # before hours go into the others
    folds = cross_validate.train_folds(encoder, dataset, config, accelerator=accelerator, run=run)
    if folds and ranks.is_first():
        tqdm.write(cross_validate.report(folds, joined(dataset), config, encoder_split, run))
    if source_folds is None:
        return folds, []
    by_source = cross_validate.train_on_other_sources(encoder, source_folds, config, accelerator=accelerator, run=run)
    if ranks.is_first():
        tqdm.write(cross_validate.report_sources(by_source, folds, source_folds, config, encoder_split, run, frozen))
    return folds, by_source


def _judged_on_validation(
    choice: classifier_stage.Choice,
    validation: pd.DataFrame,
    chosen_on: ChosenOn,
    dataset: Dataset,
    config: TrainClassifier,
    other_seeds: Mapping[int, tuple[pd.DataFrame, Decision]],
) -> Report:
    """The training's curves, what was chosen, and how good that is on validation."""
    decision = choice.decision
    certainty = judging.Certainty(N_DRAWS, config.seed)
    remark = judging.remark_on(dataset.leakage)
    predictions = {"validation": validation}
    report = learning_curves.report(choice.progress)
    report.metrics |= decision.metrics
    report.tags |= {"calibration": f"{config.calibrate}: {decision.calibration}", "threshold.choice": str(decision)}
    report.add(judging.judge_split(validation, decision, "validation", remark, certainty))
    report.add(operating_points.judge(predictions, decision, config, remark, certainty, chosen_on))
    seeds = {training_seeds.REGISTERED: (validation, decision)} | other_seeds
    report.add(training_seeds.judge(seeds, "validation", remark, certainty))
    return report
