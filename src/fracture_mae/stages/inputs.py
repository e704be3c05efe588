"""What the entry points share: from a config to data and models, and from results to what a run shows."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from accelerate import Accelerator
from matplotlib.figure import Figure
from torch import nn

from fracture_mae import plots
from fracture_mae.config import (
    Computing,
    DataOptions,
    Evaluate,
    FinetuneMae,
    OperatingOptions,
    ReconstructBaseline,
    TrainClassifier,
    Tune,
)
from fracture_mae.data import loading
from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.loading import Dataset, XRays
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import reconstruction
from fracture_mae.evaluation.judging import SPLITS, remark_on
from fracture_mae.evaluation.reconstruction import Masks
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.processes import collectives, ranks
from fracture_mae.tracking import registry
from fracture_mae.tracking.runs import Run
from fracture_mae.training.checkpoints import Checkpoints, NoCheckpoints, training_name
from fracture_mae.training.loss_weights import table_weight

# Parameters that have no say in what weights a training ends with; the initial weights and the split are looked at themselves.
_WITHOUT_SAY = {
    *("data_dir", "positive_label", "image_size", "num_workers", "device", "resume", "n_figures"),
    *("model", "encoder", "calibrate", "threshold", "cross_validate", *OperatingOptions.model_fields),
    *Computing.model_fields,
}
logger = logging.getLogger(__name__)

SEEN = "seen.txt"  # sha256 of every file that a classifier was trained or tuned on


def load_mae(name: str, config: DataOptions) -> Mae:
    """An MAE by any of its names: MLflow's, a preset's, a folder's or the hub's; of several processes the first gets it for all."""
    return collectives.from_first(lambda: _load_mae(name, config))


def _load_mae(name: str, config: DataOptions) -> Mae:
    options = {"image_size": None if config.image_size == "auto" else config.image_size, "seed": config.seed}
    if not registry.is_model_uri(name):
        return mae_model.load(name, **options)
    name = registry.exact(name)
    mae = mae_model.load(str(registry.fetch(name)), **options)
    mae.source = name  # not the folder that MLflow keeps it in
    return mae


def load_data(config: DataOptions, image_size: int) -> Dataset:
    """The data as `data.load` gives them; of several processes the first fills the cache for the others.

    Raises:
        FractureMaeError: the data cannot be used, or the processes, on several machines, see different ones.
    """
    with collectives.first_goes_ahead():
        dataset = loading.load(
            config.data_dir,
            image_size=image_size,
            split=config.split,
            split_seed=config.split_seed,
            group_by=config.group_by,
            positive_label=config.positive_label,
            num_workers=config.num_workers or None,
        )
    check_alike(dataset)
    return dataset


def check_alike(dataset: Dataset) -> None:
    """Refuse that several processes share steps of X-rays that are not the same, in the same order, for all."""
    contents = ["".join(xrays.table["sha256"]) for xrays in splits_of(dataset)]
    seen = collectives.gather(hashlib.sha256(" ".join(contents).encode()).hexdigest())
    different = [number for number, other in enumerate(seen) if other != seen[0]]
    if different:
        raise FractureMaeError(
            f"process {different[0]} finds other X-rays in {dataset.name}, or in another order, than process 0: expected are the same "
            "files everywhere. Copy them anew, into folders of the same name, or give a folder that all machines share."
        )


def load_training_data(config: FinetuneMae | TrainClassifier, image_size: int) -> Dataset:
    """The data as `load_data` gives them, of each X-ray as many files as `config` wants."""
    dataset = load_data(config, image_size)
    if config.copies == "all":
        return dataset
    return replace(dataset, **{xrays.name: one_of_each(xrays) for xrays in splits_of(dataset)})


def weighed(predictions: pd.DataFrame, xrays: XRays, config: Evaluate | TrainClassifier) -> pd.DataFrame:
    """Predictions for `xrays` with what each file counts; as they are where all count the same."""
    if (config.weight_by, config.copies) == ("file", "all"):
        return predictions
    return predictions.assign(weight=table_weight(xrays, config.weight_by, config.copies))


def open_checkpoints(
    model: nn.Module, dataset: Dataset, config: FinetuneMae | TrainClassifier, run: Run
) -> Checkpoints:
    """The checkpoints of exactly this training: same settings, same split, same initial weights."""
    if not ranks.is_first():
        return NoCheckpoints()
    settings = {key: value for key, value in config.model_dump().items() if key not in _WITHOUT_SAY}
    settings["split_fingerprint"] = dataset.split_fingerprint
    name = training_name(type(config).__name__, model, settings)
    return Checkpoints(cache_root() / "checkpoints", name, resume=config.resume == "auto", run_id=run.id)


def measure_reconstruction(
    mae: Mae, dataset: Dataset, config: ReconstructBaseline | FinetuneMae, accelerator: Accelerator
) -> pd.DataFrame:
    """Reconstruction metrics (columns) of every split (index)."""
    masks = Masks(config.mask_ratio, config.seed)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    rows = {xrays.name: reconstruction.measure(mae, xrays, masks, **options) for xrays in splits_of(dataset)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")


class Examples:
    """The same validation X-rays under the same masks, rebuilt by one model after the other."""

    def __init__(self, dataset: Dataset, config: ReconstructBaseline | FinetuneMae, accelerator: Accelerator):
        self.xrays = dataset.validation
        self.masks = Masks(config.mask_ratio, config.seed)
        self.accelerator = accelerator
        self.positions = reconstruction.choose_examples(self.xrays, config.n_figures, config.seed)
        self.rebuilt: dict[str, tuple[dict[str, np.ndarray], list[str]]] = {}

    def rebuild(self, mae: Mae, name: str) -> None:
        """Rebuild the chosen X-rays, if any, with `mae`, to be called `name` in figures."""
        if not len(self.positions):
            return
        panels, error = reconstruction.panels(mae, self.xrays, self.positions, self.masks, self.accelerator)
        self.rebuilt[name] = panels, [f"masked MSE {value:.3f}" for value in error]

    def figures(self) -> dict[str, Figure]:
        """The four panels for each model, and all models side by side where there are several."""
        figures = {
            f"reconstructions/{name}.png": self._draw(panels, {"Reconstruction": captions}, name)
            for name, (panels, captions) in self.rebuilt.items()
        }
        if len(self.rebuilt) > 1:
            first, *_ = self.rebuilt.values()
            panels = {name: first[0][name] for name in ("Original", "Masked")}
            for part in ("Reconstruction", "Reconstruction + Visible"):
                panels |= {f"{name}\n{part}": rebuilt[part] for name, (rebuilt, _) in self.rebuilt.items()}
            captions = {f"{name}\nReconstruction": captions for name, (_, captions) in self.rebuilt.items()}
            figures["reconstructions/side_by_side.png"] = self._draw(panels, captions, "same masks")
        return figures

    def _draw(self, panels: dict[str, np.ndarray], captions: dict[str, list[str]], what: str) -> Figure:
        rows = self.xrays.table.iloc[self.positions]
        titles = [f"{row.label_name}\n{_shortened(Path(row.path).name)}" for row in rows.itertuples()]
        return plots.reconstructions(
            panels,
            titles,
            captions,
            f"{what} · {self.masks.mask_ratio:.0%} of patches hidden · {self.xrays.name} X-rays",
        )


def _shortened(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"


def splits_of(dataset: Dataset) -> list[XRays]:
    return [getattr(dataset, name) for name in SPLITS]


def flat(table: pd.DataFrame, prefix: str = "") -> dict[str, float]:
    """A table of splits and metrics as `PREFIX SPLIT/METRIC` → value."""
    return {f"{prefix}{split}/{metric}": value for split, row in table.iterrows() for metric, value in row.items()}


def describe(dataset: Dataset) -> str:
    """The data in a sentence or two of Markdown, with the warning that a leaky split needs."""
    counts = [f"{xrays.name} {len(xrays):,} files of {len(set(xrays.group)):,} X-rays" for xrays in splits_of(dataset)]
    warning = f" **{remark_on(dataset.leakage)}.**" if dataset.leakage else ""
    return f"Data `{dataset.name}` ({dataset.fingerprint}): {'; '.join(counts)}.{warning}"


def register_mae(mae: Mae, dataset: Dataset, config: FinetuneMae, run: Run) -> str:
    """Save and register a fine-tuned MAE; its version."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.NETWORK
        mae_model.save(mae, folder)
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


def check_encoder_split(encoder: str, dataset: Dataset) -> dict[str, str]:
    """Tags that say whether a registered encoder was fine-tuned on this very split; a warning where it was not.

    An encoder fine-tuned on another split may have seen X-rays, though not their labels, that are held out here.
    """
    trained_on = collectives.from_first(lambda: registry.version_tags(encoder)).get("split.fingerprint")
    if trained_on is None:
        return {"encoder.split": "unknown"}
    if trained_on != dataset.split_fingerprint:
        logger.warning(
            "%s was fine-tuned on another split (%s) than this one (%s): it may have seen X-rays that are held out here. Use the "
            "same data_dir, split and split_seed for both stages.",
            encoder,
            trained_on,
            dataset.split_fingerprint,
        )
        return {"encoder.split": "another"}
    return {"encoder.split": "the same"}


def _version_tags(dataset: Dataset, config: FinetuneMae | TrainClassifier | Tune, run: Run) -> dict[str, object]:
    """What a model version must carry for later comparisons."""
    return {
        "data": dataset.name,
        "data.fingerprint": dataset.fingerprint,
        "split.fingerprint": dataset.split_fingerprint,
        "leakage": f"{dataset.leakage:.0%}",
        "recipe": "tuned" if isinstance(config, Tune) else config.recipe,
    }
