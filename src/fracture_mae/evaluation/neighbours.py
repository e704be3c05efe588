"""The training X-rays that are most like a picture to a classifier: what its answer leans on.

A classifier keeps numbers of its training X-rays and no picture of them. Their pictures are taken from the X-rays that it is judged on
where these hold them, else from the files that it was trained on, if these are where they were and unchanged. Where they are not,
label and distance are told without them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from fracture_mae.data.reading import recalled
from fracture_mae.data.reading.recalled import Found
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import features
from fracture_mae.models.classifier import FractureClassifier

_SHOWN = 3  # of each picture
_NOT_KEPT = (
    "Nearest training X-rays: none are told, as this classifier does not say which it was trained on. Train it anew"
)


@dataclass(frozen=True)
class Neighbour:
    """A training X-ray.

    Attributes:
        distance: in what the head reads, in units of `OwnData.spacing`; NaN where that is none.
        label: its number; None where the classifier, of an earlier version, does not say, and it is not at hand.
        pixels: uint8 [h, h], its (middle) square; None where it is not at hand.
        name: of its file, as shown; "" where it is not at hand.
    """

    distance: float
    label: int | None
    pixels: np.ndarray | None = None
    name: str = ""


@dataclass(frozen=True)
class Neighbours:
    """Of several pictures.

    Attributes:
        of_each: the training X-rays most like each picture, the nearest first; none where the classifier keeps none.
        remark: which of their pictures are not shown, and why, in a line; "" where all are.
    """

    of_each: Sequence[Sequence[Neighbour]]
    remark: str = ""


def of(
    xrays: XRays,
    judged: Sequence[XRays],
    files: Callable[[], pd.DataFrame | None],
    own: OwnData | None,
    classifier: FractureClassifier,
    *,
    batch_size: int,
    accelerator: Accelerator,
) -> Neighbours:
    """The three nearest training X-rays of each file, the nearest first, in what the classifier's head reads, see `OwnData.nearest`.

    Args:
        judged: all X-rays that are at hand; those of its training that are among them are not looked for elsewhere.
        files: gives path and sha256 of the files that it was trained on, see `recalled.read`; asked only where one is needed.
    """
    if own is None or own.features_of is None or not len(xrays):
        return Neighbours([()] * len(xrays), _NOT_KEPT if len(xrays) else "")
    rows, distance = own.nearest(features(classifier, xrays, batch_size=batch_size, accelerator=accelerator), _SHOWN)
    wanted = set(own.features_of[np.unique(rows)].tolist())
    pictures, labels = _among(judged, wanted)
    missing: dict[str, str] = {}
    if elsewhere := sorted(wanted - pictures.keys()):
        found, missing = recalled.read(files(), elsewhere, classifier.image_size, classifier.preprocess)
        pictures |= found
    if own.features_label is not None:  # goes before what others call these X-rays
        labels |= dict(zip(own.features_of.tolist(), own.features_label.tolist(), strict=True))
    relative = distance / own.spacing

    def neighbour(picture: int, number: int) -> Neighbour:
        content = own.features_of[rows[picture, number]]
        told = float(relative[picture, number]), labels.get(content)
        return (
            Neighbour(*told, pictures[content].pixels, pictures[content].name)
            if content in pictures
            else Neighbour(*told)
        )

    of_each = [[neighbour(picture, number) for number in range(rows.shape[1])] for picture in range(len(rows))]
    return Neighbours(of_each, _remark(missing, len(wanted)))


def _among(judged: Sequence[XRays], wanted: set[str]) -> tuple[dict[str, Found], dict[str, int]]:
    """Pictures and labels of the contents that are wanted and at hand."""
    pictures, labels = {}, {}
    for side in judged:
        for position in np.flatnonzero(side.table["sha256"].isin(wanted)):
            row = side.table.iloc[position]
            pictures[row["sha256"]] = Found(side.images(np.array([position]))[0], Path(row["path"]).name)
            labels[row["sha256"]] = int(row["label"])
    return pictures, labels


def _remark(missing: dict[str, str], n_wanted: int) -> str:
    if not missing:
        return ""
    why = ", ".join(f"{n:,} {reason}" for reason, n in Counter(missing.values()).most_common())
    if len(set(missing.values())) == 1:
        why = next(iter(missing.values()))
    n = f"{len(missing):,} of {n_wanted:,}" if len(missing) < n_wanted else f"all {n_wanted:,}"
    return f"Nearest training X-rays: {n} are not at hand ({why}), so that label and distance alone are told of them"
