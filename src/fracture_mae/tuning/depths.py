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
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import MaeEncoder
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
    """

    judged_on: str
    encoder_fingerprint: str

    def predict(self, params: Mapping[str, Any], report: Report | None = None) -> pd.DataFrame:
        """Predictions by models that were not trained on what they predict: path, sha256, label, group, patient, source, logit, fold.

        Args:
            report: takes an epoch and how good the model is by then; may raise to stop the trial.

        Raises:
            NonFiniteError: no finite numbers come out.
        """

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        """The classifier that these parameters make of all training and validation X-rays."""

    def class_weights(self, best: float) -> Iterable[float]:
        """The class weights worth comparing with the best, itself and 1 among them."""

    def training(self, params: Mapping[str, Any]) -> TrainClassifier:
        """What `train_classifier` would have to be given to do what a trial does, or what comes nearest."""


class HeadDepth:
    """Heads on the features of the frozen encoder, each judged on the folds, or the sources, that it was not fitted on.

    Attributes:
        held: the sources that are held out; None where trials are judged by ordinary folds.
    """

    def __init__(self, mae: Mae, dataset: Dataset, config: Tune, accelerator: Accelerator):
        encoder = PooledEncoder(MaeEncoder.of(mae))
        self.mae = mae
        self.config = config
        self.held = HeldOutSources.of(dataset) if config.cross_validate == "sources" else None
        self.judged_on = "held_out_sources" if self.held else "out_of_fold"
        self.xrays = self.held.xrays if self.held else folds.joined(dataset)
        self.ordinary_fold = _assign_folds(self.xrays, config)
        self.fold = self.held.fold if self.held else self.ordinary_fold
        self.encoder_fingerprint = frozen_features.fingerprint(encoder, encoder.described())
        computed = frozen_features.features(encoder, self.xrays, batch_size=config.batch_size, accelerator=accelerator)
        self.normed = {pool: heads.layer_normed(values) for pool, values in computed.items()}
        self.weight = equal_group_weight(self.xrays.group)

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
        return _checked(self.xrays.table[PREDICTED].assign(logit=logit, fold=fold))

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        head = self._fit(params, np.full(len(self.xrays), True))
        classifier = classifier_model.from_mae(copy.deepcopy(self.mae), pool=params["pool"], hidden=head.hidden)
        head.install(classifier)
        return classifier.eval()

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
            **plain | {name: params[name] for name in ("pool", "class_weight")},
        )

    def _fit(self, params: Mapping[str, Any], chosen: np.ndarray) -> heads.Head:
        normed, label = self.normed[params["pool"]][chosen], self.xrays.label[chosen]
        with threadpool_limits(
            1, user_api="blas"
        ):  # products this small take longer with threads that wait for each other
            return heads.fit(normed, label, self.weight[chosen], params, seed=self.config.seed)


@dataclass
class FinetuneDepth:
    """Trainings of the whole network on training X-rays, judged on validation.

    A trial keeps its last epoch's weights: the refit has no X-rays left to choose an epoch on, and does just the same on more.
    """

    mae: Mae
    dataset: Dataset
    config: Tune
    accelerator: Accelerator
    judged_on = "validation"

    def __post_init__(self) -> None:
        encoder = PooledEncoder(MaeEncoder.of(self.mae))
        self.encoder_fingerprint = frozen_features.fingerprint(encoder, encoder.described())
        self.fold = _assign_folds(self.dataset.validation, self.config)

    def predict(self, params: Mapping[str, Any], report: Report | None = None) -> pd.DataFrame:
        classifier = self._train(params, self.dataset, report)
        options = {"batch_size": self.config.batch_size, "accelerator": self.accelerator}
        return _checked(predict(classifier, self.dataset.validation, **options).assign(fold=self.fold))

    def refit(self, params: Mapping[str, Any]) -> FractureClassifier:
        return self._train(params, replace(self.dataset, train=folds.joined(self.dataset)), None)

    def class_weights(self, best: float) -> Iterable[float]:
        return sorted({1.0, best})

    def training(self, params: Mapping[str, Any]) -> TrainClassifier:
        """Just that: a trial is such a training."""
        chosen = {name: value for name, value in params.items() if name in TrainClassifier.model_fields}
        return TrainClassifier(
            **self.config.shared(),
            encoder=self.config.encoder,
            **chosen | augmentation(params["augmentation"]) | {"selection": "last", "monitor": self.monitor},
        )

    @property
    def monitor(self) -> str:
        """The validation metric, without a threshold, that says epoch by epoch how a trial is doing."""
        return "average_precision" if self.config.objective == "average_precision" else "auroc"

    def _train(self, params: Mapping[str, Any], dataset: Dataset, report: Report | None) -> FractureClassifier:
        training = self.training(params)
        classifier = classifier_stage.build(copy.deepcopy(self.mae), training)

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
            classifier_stage.train(
                classifier, dataset, training, accelerator=self.accelerator, checkpoints=checkpoints, log=log
            )


def depth_of(mae: Mae, dataset: Dataset, config: Tune, accelerator: Accelerator) -> HeadDepth | FinetuneDepth:
    return {"head": HeadDepth, "finetune": FinetuneDepth}[config.depth](mae, dataset, config, accelerator)


def _assign_folds(xrays: XRays, config: Tune) -> np.ndarray:
    folds.check_enough(xrays, config.n_folds, f"--n-folds {config.n_folds}")
    return folds.assign(xrays.table, config.n_folds, config.split_seed)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    wrong = int((~np.isfinite(table["logit"])).sum())
    if wrong:
        raise NonFiniteError(f"{wrong} of {len(table)} logits are not finite")
    return table
