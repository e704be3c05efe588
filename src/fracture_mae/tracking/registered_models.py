"""Models in the registry: how a network gets there, with what it was shown, and how it comes back."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fracture_mae.config import DataOptions, FinetuneMae, TrainClassifier, Tune
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.processes import collectives
from fracture_mae.tracking import registry
from fracture_mae.tracking.runs import Run

SEEN = "seen.txt"  # sha256 of every file that a classifier was trained or tuned on


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier to be judged.

    Attributes:
        name: its URI or folder, with the version where it is registered.
        version: its number in the registry, where it is registered as `fracture-classifier`.
        seen: sha256 of the files that it was trained or tuned on.
    """

    name: str
    version: str | None
    classifier: FractureClassifier
    decision: Decision
    seen: frozenset[str]

    def check(self, dataset: Dataset) -> None:
        """Refuse data whose classes are not those that it tells apart."""
        if dataset.label_names != self.decision.label_names:
            raise FractureMaeError(
                f"{self.name} tells {' from '.join(self.decision.label_names)}, but the data hold "
                f"{' and '.join(dataset.label_names)}. Evaluate it on data with the same names for the classes, or rename the folders."
            )

    def leakage(self, dataset: Dataset) -> float:
        """Share of the test X-rays of which the classifier was shown a file, or a copy in training, while it was made."""
        test = dataset.test.table
        shown = test.groupby("group")["sha256"].agg(lambda contents: not self.seen.isdisjoint(contents))
        return max(float(shown.mean()), dataset.leakage)


def open_classifier(name: str) -> LoadedClassifier:
    """The classifier behind models:/NAME@ALIAS, models:/NAME/VERSION or a folder.

    Raises:
        FractureMaeError: there is none.
    """
    name = registry.exact(name)
    folder = registry.fetch(name) if registry.is_model_uri(name) else Path(name).expanduser()
    classifier, decision = classifier_model.load(folder)
    seen = frozenset((folder / SEEN).read_text(encoding="ascii").split()) if (folder / SEEN).exists() else frozenset()
    found = registry.find(name)
    version = str(found.version) if found and found.name == registry.CLASSIFIER else None
    return LoadedClassifier(name, version, classifier, decision, seen)


def load_mae(name: str, config: DataOptions) -> Mae:
    """An MAE by any of its names: MLflow's, a preset's, a folder's or the hub's; of several processes the first gets it for all."""
    return collectives.from_first(lambda: _load_mae(name, config))


def _load_mae(name: str, config: DataOptions) -> Mae:
    options = {"image_size": None if config.image_size == "auto" else config.image_size, "seed": config.seed}
    if not registry.is_model_uri(name):
        return autoencoder.load(name, **options)
    name = registry.exact(name)
    mae = autoencoder.load(str(registry.fetch(name)), **options)
    mae.source = name  # not the folder that MLflow keeps it in
    return mae


def register_mae(mae: Mae, dataset: Dataset, config: FinetuneMae, run: Run) -> str:
    """Save and register a fine-tuned MAE; its version."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.NETWORK
        autoencoder.save(mae, folder)
        version = registry.register_mae(folder, _version_tags(dataset, config, run))
    run.tags({"registered": f"models:/{registry.MAE}/{version}"})
    return version


def register_classifier(
    classifier: FractureClassifier, decision: Decision, dataset: Dataset, config: TrainClassifier | Tune, run: Run
) -> str:
    """Save and register a classifier, together with the contents it was trained and tuned on; its version."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.NETWORK
        classifier_model.save(classifier, decision, folder)
        seen = dataset.index.loc[dataset.index["split"] != "test", "sha256"]  # of each X-ray all files, shown or not
        (folder / SEEN).write_text("\n".join(sorted(set(seen))) + "\n", encoding="ascii")
        version = registry.register_classifier(folder, decision.threshold, _version_tags(dataset, config, run))
    run.tags({"registered": f"models:/{registry.CLASSIFIER}/{version}"})
    return version


def _version_tags(dataset: Dataset, config: FinetuneMae | TrainClassifier | Tune, run: Run) -> dict[str, object]:
    """What a model version must carry for later comparisons."""
    return {
        "data": dataset.name,
        "data.fingerprint": dataset.fingerprint,
        "split.fingerprint": dataset.split_fingerprint,
        "leakage": f"{dataset.leakage:.0%}",
        "recipe": "tuned" if isinstance(config, Tune) else config.recipe,
    }
