"""Maps whose hottest patches are known."""

import numpy as np

from fracture_mae.data.types import XRays
from fracture_mae.evaluation.place import Maps
from tests import builders

UPPER_LEFT = "0 0 0.5 0.5"


def maps_of(label, boxes, hottest, group=None, logit=0.0, height=builders.SIDE):
    """Maps of 4 x 4 patches, 1 at the hottest one and below elsewhere; boxes as texts.

    Args:
        height: of the films, which lie centred in their squares of 32 pixels.
    """
    made = builders.xrays("made", label, group)
    placed = {"boxes": boxes, "height": height, "top": (builders.SIDE - height) / 2}
    xrays = XRays(made.name, made.table.assign(**placed), made.pixels, made.rows)
    patches = np.random.default_rng(0).uniform(-9, -8, (len(label), 4, 4))
    for each, (row, column) in zip(patches, hottest, strict=True):
        each[row, column] = 1
    return Maps(xrays, xrays.table.assign(logit=logit), patches, "Logit")
