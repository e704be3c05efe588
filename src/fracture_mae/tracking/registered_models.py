"""Models in the registry: how a network gets there, with what it was shown, and how it comes back."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import pandas as pd

from fracture_mae.config import DataOptions, FinetuneMae, TrainClassifier, Tune
from fracture_mae.data.reading import class_names
from fracture_mae.data.reading.preprocessing import LETTERBOX
from fracture_mae.data.shown import Shown, leakage_of
from fracture_mae.data.types import Dataset, Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import authors, autoencoder, encoders
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders import Encoder, MaeEncoder
from fracture_mae.processes import collectives, ranks
from fracture_mae.tracking import registry
from fracture_mae.tracking.runs import Run

logger = logging.getLogger(__name__)

M = TypeVar("M", Mae, Encoder)


class Kept(Protocol):
    """What a model keeps beside its weights."""

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier to be judged.

    Attributes:
        name: its URI or folder, with the version where it is registered.
        version: its number in the registry, where it is registered as `fracture-classifier`.
        shown: what it and its encoder were made from, as far as that is known.
        folder: where all of it lies.
    """

    name: str
    version: str | None
    classifier: FractureClassifier
    decision: Decision
    shown: Shown
    folder: Path

    def check(self, dataset: Dataset) -> None:
        """Refuse data whose classes are not those that it tells apart; another spelling of both is no matter."""
        if not class_names.alike(dataset.label_names, self.decision.label_names):
            raise FractureMaeError(
                f"{self.name} tells {' from '.join(self.decision.label_names)}, but the data hold "
                f"{' and '.join(dataset.label_names)}. Evaluate it on data with the same names for the classes, or rename the folders."
            )

    def shown_of(self, dataset: Dataset) -> pd.Series:
        """How each test X-ray was shown while it and its encoder were made, see `Shown.among_test`."""
        return self.shown.among_test(dataset)

    def leakage(self, dataset: Dataset) -> Leakage:
        """The same in shares."""
        return leakage_of(self.shown_of(dataset), dataset)


def open_classifier(name: str, precision: str = "auto") -> LoadedClassifier:
    """The classifier behind models:/NAME@ALIAS, models:/NAME/VERSION or a folder.

    Args:
        precision: that was asked for; "auto": it answers in bf16 only where that was found to change nothing.

    Raises:
        FractureMaeError: there is none.
    """
    name = registry.exact(name)
    folder = registry.fetch(name) if registry.is_model_uri(name) else Path(name).expanduser()
    classifier, decision = classifier_model.load(folder)
    classifier.bf16 |= precision == "bf16"
    found = registry.find(name)
    version = str(found.version) if found and found.name == registry.CLASSIFIER else None
    return LoadedClassifier(name, version, classifier, decision, _shown_in(folder, name), folder)


def shown_by(name: str) -> Shown:
    """What a model by any of its names was made from, as far as that is known: of other people's, nothing is."""
    return _shown_in(registry.fetch(name) if registry.is_model_uri(name) else Path(name).expanduser(), name)


def _shown_in(folder: Path, name: str) -> Shown:
    shown = Shown.load(folder)
    if shown is None and registry.is_model_uri(name):
        logger.warning(
            "%s does not say what it was shown, so X-rays of it that leak are not noticed. Train it anew.", name
        )
    return shown or Shown.nothing()


def made_from(start: str, dataset: Dataset, how: str) -> Shown:
    """What a model is shown in all that starts from `start` and is trained on the dataset; of several processes the first one says.

    Before a training, so that a picture that is gone ends it before it has begun.

    Args:
        how: "with label" or "picture only".
    """
    return Shown.of(dataset, how) | shown_by(start) if ranks.is_first() else Shown.nothing()


def with_leakage_of(encoder: str, dataset: Dataset) -> Dataset:
    """The dataset, whose leakage counts the pictures that the encoder was made from too."""

    def leakage() -> Leakage:
        return leakage_of(shown_by(encoder).among_test(dataset), dataset)

    return replace(dataset, leakage=collectives.from_first(leakage))


def load_mae(name: str, config: DataOptions) -> Mae:
    """An MAE by any of its names: MLflow's, a preset's, a folder's or the hub's; of several processes the first gets it for all.

    Its preprocessing is the one that `config` asks for, else its own, with a warning where these differ.
    """
    return _given(collectives.from_first(lambda: _load_mae(name, config)), config)


def load_encoder(name: str, config: DataOptions) -> Encoder:
    """An encoder by any of its names, whatever its architecture; of several processes the first gets it for all.

    Its preprocessing is the one that `config` asks for, else its own, with a warning where these differ.

    Raises:
        FractureMaeError: there is none, it makes no tokens of pictures, or it is a classifier's, which has seen labels.
    """
    return _given(collectives.from_first(lambda: _load_encoder(name, config)), config)


def _given(model: M, config: DataOptions) -> M:
    """The model with the preprocessing of the X-rays that it is given."""
    own, model.preprocess = model.preprocess, config.preprocess_for(model.preprocess)
    if own not in (None, model.preprocess):
        logger.warning(
            "%s was made with X-rays preprocessed by %s, and is now given %s: it has to learn them anew. Leave --preprocess at auto to "
            "keep its own.",
            model.source,
            own,
            model.preprocess,
        )
    return model


def _load_encoder(name: str, config: DataOptions) -> Encoder:
    if name in autoencoder.PRESETS:
        return MaeEncoder.of(_load_mae(name, config))
    name = registry.exact(name)
    place = str(registry.fetch(name)) if registry.is_model_uri(name) else name
    if (Path(place).expanduser() / "classifier.json").exists():
        raise FractureMaeError(
            f"{name} is a classifier: it has seen labels of X-rays that are held out here, and would seem good for that. Take the "
            "encoders that classifiers start from, such as models:/xray-mae/latest."
        )
    if authors.is_file(place) or encoders.type_of(place) == encoders.MAE_TYPE:
        return MaeEncoder.of(_load_mae(name, config))
    encoder = encoders.load(place, None if config.image_size == "auto" else config.image_size)
    encoder.source = name
    return encoder


def _load_mae(name: str, config: DataOptions) -> Mae:
    options = {"image_size": None if config.image_size == "auto" else config.image_size, "seed": config.seed}
    if not registry.is_model_uri(name):
        return autoencoder.load(name, **options)
    name = registry.exact(name)
    mae = autoencoder.load(str(registry.fetch(name)), **options)
    mae.source = name  # not the folder that MLflow keeps it in
    mae.preprocess = mae.preprocess or LETTERBOX  # of earlier versions, which knew nothing else
    mae.start = _start_of(name)
    return mae


def _start_of(uri: str) -> str:
    """What a model of this project began as, whatever training it had since: "random", or "weights" also where that is not known."""
    made_by = registry.run_tags(uri)
    known = registry.version_tags(uri).get("start", made_by.get("start"))
    if known is None and made_by.get("model", "").startswith("preset "):  # of earlier versions, which told no more
        return autoencoder.RANDOM
    return known or autoencoder.WEIGHTS


def register_mae(mae: Mae, shown: Shown, dataset: Dataset, config: FinetuneMae, run: Run) -> str:
    """Save and register a fine-tuned MAE, together with what it was made from; its version."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.NETWORK
        autoencoder.save(mae, folder)
        shown.save(folder)
        version = registry.register_mae(folder, _version_tags(dataset, config, run) | {"start": mae.start})
    run.tags({"registered": f"models:/{registry.MAE}/{version}"})
    return version


def register_classifier(
    classifier: FractureClassifier,
    decision: Decision,
    kept: Iterable[Kept],
    dataset: Dataset,
    config: TrainClassifier | Tune,
    run: Run,
    tags: Mapping[str, object] | None = None,
) -> str:
    """Save and register a classifier, together with what it keeps of what it was made from; its version.

    Args:
        tags: for the version, besides what every one carries.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.NETWORK
        classifier_model.save(classifier, decision, folder)
        for each in kept:
            each.save(folder)
        described = _version_tags(dataset, config, run) | {"threshold.choice": decision} | dict(tags or {})
        version = registry.register_classifier(folder, described)
    run.tags({"registered": f"models:/{registry.CLASSIFIER}/{version}"})
    return version


def _version_tags(dataset: Dataset, config: FinetuneMae | TrainClassifier | Tune, run: Run) -> dict[str, object]:
    """What a model version must carry for later comparisons."""
    return {
        "data": dataset.name,
        "data.fingerprint": dataset.fingerprint,
        "split.fingerprint": dataset.split_fingerprint,
        **({"unlabelled.fingerprint": dataset.unlabelled_fingerprint} if len(dataset.added) else {}),
        "leakage": dataset.leakage,
        "recipe": "tuned" if isinstance(config, Tune) else config.recipe,
    }
