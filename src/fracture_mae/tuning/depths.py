"""How a trial is made, and how the best becomes a classifier: heads on frozen features, or trainings of the whole network."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import pandas as pd
from accelerate import Accelerator
from threadpoolctl import threadpool_limits

from fracture_mae.config import TrainClassifier, Tune
from fracture_mae.data import folds
from fracture_mae.data.held_out_sources import HeldOutSources
from fracture_mae.data.types import PREDICTED, Dataset, XRays
from fracture_mae.errors import NonFiniteError
from fracture_mae.evaluation import frozen_features
from fracture_mae.evaluation.frozen_features import PooledEncoder
from fracture_mae.evaluation.matching import Matching, match_properties
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import Encoder
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.training.checkpoints import Checkpoints
from fracture_mae.tuning import heads
from fracture_mae.tuning.space import augmentation

Report = Callable[[int, float], None]
_WEIGHTS_SHOWN = np.geomspace(0.1, 10, 9)


class Depth(Protocol):
    """How deep into the network a trial reaches.

    Attributes:
        judged_on: name of the X-rays that trials are judged on.
        encoder_fingerprint: of the weights that every trial starts with.
        files: that trials are judged by, a row each: path, sha256, label, group, patient, source.
    """

    judged_on: str
    encoder_fingerprint: str
    files: pd.DataFrame

    def predict(self, params: Mapping[str, Any], report: Report | None = None) -> pd.DataFrame:
        """Predictions by models that were not trained on what they predict: path, sha256, label, group, patient, source, logit, fold.

        Args:
            report: takes an epoch and how good the model is by then; may raise to stop the trial.

        Raises:
            NonFiniteError: no finite numbers come out.
        """

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        """The classifier that these parameters make of all training and validation X-rays."""

    def matching(self, params: Mapping[str, Any]) -> Matching | None:
        """The weights of all training and validation X-rays that `refit` was made with; None without `match`."""

    def class_weights(self, best: float) -> Iterable[float]:
        """The class weights worth comparing with the best, itself and 1 among them."""

    def training(self, params: Mapping[str, Any]) -> TrainClassifier:
        """What `train_classifier` would have to be given to do what a trial does, or what comes nearest."""


class HeadDepth:
    """Heads on the features of the frozen encoder, each judged on the folds, or the sources, that it was not fitted on.

    Attributes:
        held: the sources that are held out; None where trials are judged by ordinary folds.
    """

    def __init__(self, encoder: Encoder, dataset: Dataset, config: Tune, accelerator: Accelerator):
        pooled = PooledEncoder(encoder)
        self.encoder = encoder
        self.config = config
        self.held = HeldOutSources.of(dataset) if config.cross_validate == "sources" else None
        self.judged_on = "held_out_sources" if self.held else "out_of_fold"
        self.xrays = self.held.xrays if self.held else folds.joined(dataset)
        self.files = self.xrays.table[PREDICTED]
        self.ordinary_fold = _assign_folds(self.xrays, config)
        self.fold = self.held.fold if self.held else self.ordinary_fold
        self.encoder_fingerprint = frozen_features.fingerprint(pooled, pooled.described())
        computed = frozen_features.features(pooled, self.xrays, batch_size=config.batch_size, accelerator=accelerator)
        self.normed = {pool: heads.layer_normed(values) for pool, values in computed.items()}
        self.weight = equal_group_weight(self.xrays.group)
        self._matchings: dict[bytes, Matching] = {}

    def predict(self, params: Mapping[str, Any], report: Report | None = None) -> pd.DataFrame:
        return self._predict(params, self.fold)

    def predict_in_folds(self, params: Mapping[str, Any]) -> pd.DataFrame:
        """As `predict`, but in ordinary folds, also where trials are judged by sources."""
        return self._predict(params, self.ordinary_fold)

    def _predict(self, params: Mapping[str, Any], fold: np.ndarray) -> pd.DataFrame:
        normed = self.normed[params["pool"]]
        logit = np.full(len(normed), np.nan)
        for number in np.unique(fold):
            held_out = fold == number
            logit[held_out] = self._fit(params, ~held_out).logit(normed[held_out])
        return _checked(self.files.assign(logit=logit, fold=fold))

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        head = self._fit(params, np.full(len(self.xrays), True))
        classifier = classifier_model.from_encoder(copy.deepcopy(self.encoder), pool=params["pool"], hidden=head.hidden)
        head.install(classifier)
        return classifier.eval()

    def matching(self, params: Mapping[str, Any]) -> Matching | None:
        return self._matching(np.full(len(self.xrays), True))

    def class_weights(self, best: float) -> Iterable[float]:
        return sorted({*_WEIGHTS_SHOWN.round(3).tolist(), 1.0, best})

    def training(self, params: Mapping[str, Any]) -> TrainClassifier:
        """The nearest: a linear head on the frozen encoder, trained on unchanged pictures step by step; without regularisation."""
        plain = augmentation(0.0) | {
            "source_augmentation": 0,
            "flip": False,
            "label_smoothing": 0,
            "sampler": "xray",
            "freeze": True,
        }
        return TrainClassifier(
            **self.config.shared(),
            encoder=self.config.encoder,
            match=self.config.match,
            **plain | {name: params[name] for name in ("pool", "class_weight")},
        )

    def _fit(self, params: Mapping[str, Any], chosen: np.ndarray) -> heads.Head:
        normed, label = self.normed[params["pool"]][chosen], self.xrays.label[chosen]
        with threadpool_limits(
            1, user_api="blas"
        ):  # products this small take longer with threads that wait for each other
            return heads.fit(normed, label, self._weight(chosen), params, seed=self.config.seed)

    def _weight(self, chosen: np.ndarray) -> np.ndarray:
        matching = self._matching(chosen)
        return self.weight[chosen] * (1.0 if matching is None else matching.weight)

    def _matching(self, chosen: np.ndarray) -> Matching | None:
        """Of the X-rays that a head is fitted on, made once for all trials."""
        if self.config.match == "none":
            return None
        key = chosen.tobytes()
        if key not in self._matchings:
            self._matchings[key] = match_properties(self.xrays.subset(np.flatnonzero(chosen)), self.config.seed)
        return self._matchings[key]


@dataclass
class FinetuneDepth:
    """Trainings of the whole network on training X-rays, judged on validation.

    A trial keeps its last epoch's weights: the refit has no X-rays left to choose an epoch on, and does just the same on more.
    """

    encoder: Encoder
    dataset: Dataset
    config: Tune
    accelerator: Accelerator
    judged_on = "validation"

    def __post_init__(self) -> None:
        pooled = PooledEncoder(self.encoder)
        self.encoder_fingerprint = frozen_features.fingerprint(pooled, pooled.described())
        self.fold = _assign_folds(self.dataset.validation, self.config)
        self.files = self.dataset.validation.table[PREDICTED]
        self._matchings: dict[tuple[int, bool], Matching | None] = {}

    def predict(self, params: Mapping[str, Any], report: Report | None = None) -> pd.DataFrame:
        classifier = self._train(params, self.dataset, report)
        options = {"batch_size": self.config.batch_size, "accelerator": self.accelerator}
        return _checked(predict(classifier, self.dataset.validation, **options).assign(fold=self.fold))

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        return self._train(params, replace(self.dataset, train=folds.joined(self.dataset)), None)

    def matching(self, params: Mapping[str, Any]) -> Matching | None:
        return self._matching(folds.joined(self.dataset), self.training(params))

    def class_weights(self, best: float) -> Iterable[float]:
        return sorted({1.0, best})

    def training(self, params: Mapping[str, Any]) -> TrainClassifier:
        """Just that: a trial is such a training."""
        chosen = {name: value for name, value in params.items() if name in TrainClassifier.model_fields}
        training = TrainClassifier(
            **self.config.shared(),
            encoder=self.config.encoder,
            match=self.config.match,
            **chosen | augmentation(params["augmentation"]) | {"selection": "last", "monitor": self.monitor},
        )
        return classifier_stage.obeyable(training, self.encoder)[0]

    @property
    def monitor(self) -> str:
        """The validation metric, without a threshold, that says epoch by epoch how a trial is doing."""
        return "average_precision" if self.config.objective == "average_precision" else "auroc"

    def _train(self, params: Mapping[str, Any], dataset: Dataset, report: Report | None) -> FractureClassifier:
        training = self.training(params).settled(self.encoder.start)
        classifier = classifier_stage.build(copy.deepcopy(self.encoder), training)

        def log(row: dict[str, float], epoch: int) -> None:
            if report:
                report(epoch, row[f"validation/xray/{self.monitor}"])

        try:
            with TemporaryDirectory() as folder:
                self._fit(classifier, dataset, training, Path(folder), log)
        finally:
            self.accelerator.free_memory()  # it would keep, and save, the models of all trials before
        return classifier

    def _fit(
        self,
        classifier: FractureClassifier,
        dataset: Dataset,
        training: TrainClassifier,
        folder: Path,
        log: Callable[[dict[str, float], int], None],
    ) -> None:
        with Checkpoints(folder, "trial", resume=False) as checkpoints:
            options = {"accelerator": self.accelerator, "checkpoints": checkpoints, "log": log}
            matching = self._matching(dataset.train, training)
            classifier_stage.train(classifier, dataset, training, **options, matching=matching)

    def _matching(self, xrays: XRays, training: TrainClassifier) -> Matching | None:
        """Of the X-rays that a trial trains on, made once for all trials that count files, or X-rays, the same."""
        key = hash(tuple(xrays.table["sha256"])), training.sampler.startswith("xray")
        if key not in self._matchings:
            self._matchings[key] = classifier_stage.matched(xrays, training)
        return self._matchings[key]


def depth_of(encoder: Encoder, dataset: Dataset, config: Tune, accelerator: Accelerator) -> HeadDepth | FinetuneDepth:
    return {"head": HeadDepth, "finetune": FinetuneDepth}[config.depth](encoder, dataset, config, accelerator)


def _assign_folds(xrays: XRays, config: Tune) -> np.ndarray:
    folds.check_enough(xrays, config.n_folds, f"--n-folds {config.n_folds}")
    return folds.assign(xrays.table, config.n_folds, config.split_seed)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    wrong = int((~np.isfinite(table["logit"])).sum())
    if wrong:
        raise NonFiniteError(f"{wrong} of {len(table)} logits are not finite")
    return table
