"""Cross-validation of the classifier: a model and a child run for each fold, resumed where a run was killed."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from fracture_mae.config import TrainClassifier
from fracture_mae.data.folds import assign, cross_validation_sets
from fracture_mae.data.held_out_sources import HeldOutSources
from fracture_mae.data.types import PREDICTED, Dataset, XRays
from fracture_mae.evaluation import held_out_sources, judging, out_of_fold, place, references
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.evaluation.held_out_sources import Answers
from fracture_mae.evaluation.judging import CLASSIFIER, Certainty
from fracture_mae.evaluation.place import Maps
from fracture_mae.evaluation.prediction import predict, predict_with_maps, weighed
from fracture_mae.evaluation.strata import Strata
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import explanation
from fracture_mae.models.autoencoder import PRESETS
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes import collectives, ranks
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run
from fracture_mae.training import learning_curves
from fracture_mae.training.checkpoints import Checkpoints, open_checkpoints
from fracture_mae.training.schedule import Progress

N_DRAWS = 1000
_N_FOLDS = 5  # of the propensity, where only sources are held out
_BY_ENCODER_SPLIT = {
    "the same": "the encoder was fine-tuned, without labels, on X-rays of the folds held out here",
    "another": "the encoder may have been fine-tuned, without labels, on X-rays of the folds held out here",
}


@dataclass(frozen=True)
class Fold:
    """A fold that is done.

    Attributes:
        predictions: for the X-rays held out, a row per file.
        decision: calibration and threshold, chosen on the fold's own validation X-rays.
        progress: of the training.
        checkpoints: where its result is kept in the meantime.
        maps: of the X-rays held out; None where no X-ray of any fold has boxes.
    """

    predictions: pd.DataFrame
    decision: Decision
    progress: Progress
    checkpoints: Checkpoints
    maps: Maps | None = None

    def forget(self) -> None:
        """Remove its result from the cache, once the run that it belongs to has ended well."""
        with self.checkpoints as kept:
            kept.remove()


@dataclass(frozen=True)
class SourceFolds:
    """What the models are trained, tuned and judged on that each see nothing of some sources.

    Attributes:
        held: who is judged by which model.
        sets: the data of each model, in the order of the folds of `held`.
    """

    held: HeldOutSources
    sets: list[Dataset]

    @classmethod
    def of(cls, dataset: Dataset, config: TrainClassifier) -> "SourceFolds | None":
        """None where `config.cross_validate` does not ask for them. The test X-rays of `dataset` are not read.

        Raises:
            FractureMaeError: there is one source only, or without some source too few X-rays are left to train on.
        """
        if not config.holds_out_sources:
            return None
        held = HeldOutSources.of(dataset)
        return cls(held, held.sets(dataset, config.split_seed))

    @property
    def parts(self) -> out_of_fold.Parts:
        return out_of_fold.Parts(held_out_sources.PLACE, "source", tuple(self.held.alone))


def train_folds(
    start: Encoder, dataset: Dataset, config: TrainClassifier, *, accelerator: Accelerator, run: Run
) -> list[Fold]:
    """Train and judge a classifier for each of `config.n_folds` folds, every one from the same encoder.

    A fold that an earlier, killed run of the same configuration on the same data has finished is not trained again. The test
    X-rays of `dataset` are not read.

    Raises:
        FractureMaeError: there are too few X-rays for so many folds, or another process is at the same fold.
    """
    if not config.n_folds:
        return []
    sets = cross_validation_sets(dataset, config.n_folds, config.split_seed)
    names = [f"fold {number} of {len(sets)}" for number in range(1, len(sets) + 1)]
    return _train_each(start, dict(zip(names, sets, strict=True)), config, accelerator, run)


def train_on_other_sources(
    start: Encoder, folds: SourceFolds, config: TrainClassifier, *, accelerator: Accelerator, run: Run
) -> list[Fold]:
    """Train and judge a classifier for each fold of sources, every one from the same encoder; goes on as `train_folds` does."""
    if ranks.is_first():
        tqdm.write(f"Sources held out: {folds.held}")
    n = len(folds.sets)
    sets = {f"sources {i + 1} of {n}: {folds.held.named(i)}": data for i, data in enumerate(folds.sets)}
    return _train_each(start, sets, config, accelerator, run)


def _train_each(
    start: Encoder, sets: dict[str, Dataset], config: TrainClassifier, accelerator: Accelerator, run: Run
) -> list[Fold]:
    """A classifier, and a child run, for each set by the name of the run."""
    folds = []
    for number, (name, data) in enumerate(tqdm(sets.items(), desc="Cross-validation", unit="fold"), start=1):
        with run.child(name) as child:
            child.tags({"fold": number, "split.fingerprint": data.split_fingerprint})
            fold = _train_fold(start, data, config, accelerator, child)
            if ranks.is_first():
                _log(fold, data, config, child)
            tqdm.write(f"{name} is done: {len(fold.predictions):,} files held out")
        folds.append(fold)
    return folds


def report(folds: list[Fold], xrays: XRays, config: TrainClassifier, encoder_split: str, run: Run) -> str:
    """Log what the folds say together; the main figures, to print.

    Args:
        xrays: all that the folds hold out, `data.folds.joined`.
        encoder_split: as `pipeline.check_encoder_split` tells it.
    """
    tag, remark = remark_on_encoder(config.encoder, encoder_split)
    found = judge(folds, config, remark, strata_of(xrays, _folds_of(xrays, folds), config.seed))
    run.report(found)
    run.tags({"cross_validation.encoder": tag})
    name = out_of_fold.FOLDS.place
    lines = [out_of_fold.digest(found).to_string(), judging.strata_digest(found, [name]), place.digest(found, name)]
    return "\n".join(filter(None, lines))


def at_one_prevalence(folds: Sequence[Fold]) -> list[Decision]:
    """The decisions of the folds, moved to the share of fractured among all X-rays that they hold out.

    Each was calibrated where another share is fractured. Without a source that is all positive a model expects fewer, of just that
    source too, and X-rays of different models would be ranked by that.
    """
    label = pd.concat([fold.predictions.groupby("group")["label"].first() for fold in folds])
    share = label.mean()
    return [fold.decision.moved(share) if 0 < share < 1 else fold.decision for fold in folds]


def pooled(folds: Sequence[Fold]) -> pd.DataFrame:
    """The held-out predictions of all folds, each with the choices of its own fold's model, see `out_of_fold.pool`."""
    return out_of_fold.pool(zip((fold.predictions for fold in folds), at_one_prevalence(folds), strict=True))


def judge(folds: list[Fold], config: TrainClassifier, remark: str, strata: Strata | None = None) -> Report:
    """What the folds say together, see `out_of_fold.judge`, and where, see `place.judge`."""
    certainty = Certainty(N_DRAWS, config.seed)
    found = out_of_fold.judge(pooled(folds), at_one_prevalence(folds), remark, certainty, strata=strata)
    found.add(_judge_place(folds, out_of_fold.FOLDS.place, remark, certainty))
    return found


def strata_of(xrays: XRays, fold: np.ndarray, seed: int) -> Strata:
    """By what file properties say of the X-rays of each fold, fitted on the other folds.

    Args:
        fold: int64 [n], of each file; of ordinary folds also where sources are held out: what never saw a source says little of how
            labels hang on properties there.
    """
    found = references.out_of_fold(xrays, fold, seed, names=[references.FILE_PROPERTIES])
    return Strata.of(found[references.FILE_PROPERTIES])


def _judge_place(folds: Sequence[Fold], name: str, remark: str, certainty: Certainty) -> Report:
    """Where the folds' models look, out of fold; nothing where no boxes are."""
    maps = [fold.maps for fold in folds if fold.maps is not None]
    return place.judge(place.joined(maps), name, remark, certainty) if maps else Report()


def report_sources(
    by_source: list[Fold],
    ordinary: list[Fold],
    folds: SourceFolds,
    config: TrainClassifier,
    encoder_split: str,
    run: Run,
    frozen: FrozenNetwork | None = None,
) -> str:
    """Log what the classifier is worth on sources that it never saw; the main figures, to print.

    Args:
        by_source: of `train_on_other_sources`.
        ordinary: of `train_folds`, to be told beside; may be empty.
        frozen: a network whose frozen features are a reference.
    """
    tag, remark = remark_on_encoder(config.encoder, encoder_split)
    found = judge_sources(by_source, ordinary, folds, config, remark, frozen)
    run.report(found)
    run.tags({"cross_validation.encoder": tag})
    name = folds.parts.place
    lines = [out_of_fold.digest(found, folds.parts).to_string(), held_out_sources.digest(found)]
    return "\n".join(filter(None, [*lines, judging.strata_digest(found, [name]), place.digest(found, name)]))


def judge_sources(
    by_source: list[Fold],
    ordinary: list[Fold],
    folds: SourceFolds,
    config: TrainClassifier,
    remark: str,
    frozen: FrozenNetwork | None = None,
) -> Report:
    """What the folds of sources say: every metric pooled and over sources, and AUROC beside ordinary folds and the references."""
    certainty, held = Certainty(N_DRAWS, config.seed), folds.held
    models = {CLASSIFIER: Answers(_calibrated(by_source), _calibrated(ordinary) if ordinary else None)}
    without = references.out_of_fold(held.xrays, held.fold, config.seed, frozen)
    in_folds = (held.xrays, _folds_of(held.xrays, ordinary)) if ordinary else None
    beside = references.out_of_fold(*in_folds, config.seed, frozen) if in_folds else {}
    if ordinary:
        strata = Strata.of(beside[references.FILE_PROPERTIES])
    else:
        strata = strata_of(held.xrays, assign(held.xrays.table, _N_FOLDS, config.split_seed), config.seed)
    report = out_of_fold.judge(pooled(by_source), at_one_prevalence(by_source), remark, certainty, folds.parts, strata)
    report.add(_judge_place(by_source, folds.parts.place, remark, certainty))
    models |= {name: held_out_sources.answers(files, beside.get(name)) for name, files in without.items()}
    report.add(held_out_sources.judge(models, held.xrays.table, held.sources, certainty, remark, strata))
    return report


def _calibrated(folds: Sequence[Fold]) -> pd.DataFrame:
    """A row per X-ray with the probability of its own fold."""
    return out_of_fold.calibrated_levels(pooled(folds), at_one_prevalence(folds))["xray"]


def _folds_of(xrays: XRays, folds: Sequence[Fold]) -> np.ndarray:
    """The fold that each file was held out in, int64 [n]."""
    fold_of = {content: number for number, fold in enumerate(folds) for content in fold.predictions["sha256"]}
    return xrays.table["sha256"].map(fold_of).to_numpy(np.int64)


def remark_on_encoder(encoder: str, encoder_split: str) -> tuple[str, str]:
    """What must be said of an encoder that met held-out X-rays before the folds were made: for a tag, and for titles.

    Self-supervised fine-tuning reads no label, but it is done once, on the training X-rays of the ordinary split: a fold's
    held-out X-rays are among them.

    Args:
        encoder_split: as `pipeline.check_encoder_split` tells it.
    """
    if encoder in PRESETS:
        return "random weights, which saw no X-ray", ""
    remark = _BY_ENCODER_SPLIT.get(encoder_split, "")
    return remark or "unknown: it is not known on what it was trained", remark


def _train_fold(start: Encoder, data: Dataset, config: TrainClassifier, accelerator: Accelerator, run: Run) -> Fold:
    config = classifier_stage.as_can_be_assured(config, data.validation)
    classifier = classifier_stage.build(copy.deepcopy(start), config)
    with open_checkpoints(classifier, data, config, run.id) as checkpoints:
        finished = collectives.from_first(checkpoints.result)
        if finished is None:
            options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": run.metrics}
            choice = classifier_stage.train_and_choose(classifier, data, config, **options)
            if choice.matching and ranks.is_first():
                run.report(choice.matching.report())
            options = {"batch_size": config.batch_size, "accelerator": accelerator}
            maps = None
            if _has_boxes(data):
                held_out, maps = predict_with_maps(classifier, data.test, **options)
            else:
                held_out = predict(classifier, data.test, **options)
            accelerator.free_memory()  # or the next fold's checkpoints would hold this one's model too
            finished = {
                "validation": _logits(choice.predictions),
                "held_out": _logits(held_out),
                "progress": asdict(choice.progress),
            }
            if maps is not None:
                heat = maps.astype(np.float64).round(8).tolist()
                finished["maps"] = dict(zip(data.test.table["sha256"], heat, strict=True))
            checkpoints.finish(finished)
        else:
            finished["progress"]["run_ids"].append(run.id)
            for epoch, row in enumerate(finished["progress"]["history"], start=1):
                run.metrics(row, epoch)
    held_out = weighed(_predictions(data.test, finished["held_out"]), data.test, config)
    # Chosen here, because a later run may go on from the same training with another wish for the threshold.
    decision = classifier_stage.decide(_predictions(data.validation, finished["validation"]), config, data)
    maps = _maps(data.test, held_out, finished.get("maps"), explanation.meaning(classifier))
    return Fold(held_out, decision, Progress(**finished["progress"]), checkpoints, maps)


def _has_boxes(data: Dataset) -> bool:
    return any(side.has_boxes.any() for side in data.sides)


def _maps(
    xrays: XRays, held_out: pd.DataFrame, kept: Mapping[str, list[list[list[float]]]] | None, meaning: str
) -> Maps | None:
    """As `place.maps_of` made them; None where no boxes are.

    Args:
        held_out: predictions for the X-rays held out.
        kept: sha256 of each → the maps of its squares.
        meaning: of what stands there, in words.
    """
    if kept is None:
        return None
    heat = np.array([kept[content] for content in xrays.table["sha256"]], dtype=np.float32)
    return Maps.of(xrays, held_out, heat, meaning)


def _logits(predictions: pd.DataFrame) -> dict[str, float]:
    return dict(zip(predictions["sha256"], predictions["logit"], strict=True))


def _predictions(xrays: XRays, logits: dict[str, float]) -> pd.DataFrame:
    """As `predict` made them."""
    table = xrays.table[PREDICTED]
    return table.assign(logit=table["sha256"].map(logits))


def _log(fold: Fold, data: Dataset, config: TrainClassifier, run: Run) -> None:
    run.report(learning_curves.report(fold.progress))
    run.metrics(fold.decision.metrics)
    parts = {"train": data.train, "validation": data.validation, "held_out": data.test}
    for name, part in parts.items():
        run.metrics({f"{name}/n_images": len(part), f"{name}/n_xrays": len(set(part.group))})
    certainty = Certainty(N_DRAWS, config.seed)
    if fold.predictions["label"].nunique() == 2:  # of a source with one label nothing can be told alone
        run.report(judging.judge_split(fold.predictions, fold.decision, "held_out", "", certainty))
