"""The data that a config asks for, checked against other processes and against what an encoder was trained on."""

import hashlib
import logging
from dataclasses import replace

from fracture_mae.config import (
    DataOptions,
    FinetuneMae,
    TrainClassifier,
)
from fracture_mae.data import loading
from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import collectives
from fracture_mae.tracking import registry

logger = logging.getLogger(__name__)


def load_data(config: DataOptions, image_size: int, label_names: tuple[str, str] | None = None) -> Dataset:
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
            label_names=label_names,
            num_workers=config.num_workers or None,
            boxes=config.boxes,
        )
    check_alike(dataset)
    return dataset


def check_alike(dataset: Dataset) -> None:
    """Refuse that several processes share steps of X-rays that are not the same, in the same order, for all."""
    contents = ["".join(xrays.table["sha256"]) for xrays in dataset.sides]
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
    taken = {xrays.name: one_of_each(xrays) for xrays in dataset.sides}
    n_lost = len(_with_boxes(dataset.train) - _with_boxes(taken["train"]))
    if n_lost:
        logger.warning(
            "%d training X-rays have boxes on other files than the one that --copies one takes: where they are broken is unknown then.",
            n_lost,
        )
    return replace(dataset, **taken)


def describe(dataset: Dataset) -> str:
    """The data in a sentence or two of Markdown, with the warning that a leaky split needs."""
    counts = [f"{side.name} {_counts(side)}" for side in dataset.sides if len(side)]
    warning = f" **LEAKY: {dataset.leakage}.**" if dataset.leakage else ""
    return f"Data `{dataset.name}` ({dataset.fingerprint}): {'; '.join(counts)}.{warning}"


def _with_boxes(xrays: XRays) -> set[str]:
    """The X-rays of which a file has boxes."""
    return set(xrays.group[xrays.has_boxes])


def _counts(side: XRays) -> str:
    n_boxed = len(_with_boxes(side))
    boxed = f", {n_boxed:,} with boxes around fractures" if n_boxed else ""
    return f"{len(side):,} files of {len(set(side.group)):,} X-rays{boxed}"


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
