"""The training X-rays that are most like a picture to a classifier: what its answer leans on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from fracture_mae.data.types import XRays
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import features
from fracture_mae.models.classifier import FractureClassifier

_SHOWN = 3  # of each picture


@dataclass(frozen=True)
class Neighbour:
    """A training X-ray.

    Attributes:
        pixels: uint8 [h, h], its (middle) square.
        label: its number.
        name: of its file.
    """

    pixels: np.ndarray
    label: int
    name: str


def of(
    xrays: XRays,
    train: XRays,
    own: OwnData | None,
    classifier: FractureClassifier,
    *,
    batch_size: int,
    accelerator: Accelerator,
) -> list[Sequence[Neighbour]]:
    """The three nearest training X-rays of each file, the nearest first, in what the classifier's head reads, see `OwnData.nearest`.

    Of each file none where the classifier keeps none, or where they are not among `train`, such as on somebody else's X-rays.
    """
    if own is None or own.features_of is None or not len(xrays) or not len(train):
        return [()] * len(xrays)
    rows, _ = own.nearest(features(classifier, xrays, batch_size=batch_size, accelerator=accelerator), _SHOWN)
    place = {sha256: position for position, sha256 in enumerate(train.table["sha256"])}
    found = [[place[sha256] for sha256 in own.features_of[nearest] if sha256 in place] for nearest in rows]
    return [[_shown(train, position) for position in positions] for positions in found]


def _shown(train: XRays, position: int) -> Neighbour:
    row = train.table.iloc[position]
    return Neighbour(train.images(np.array([position]))[0], int(row["label"]), Path(row["path"]).name)
