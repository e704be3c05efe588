"""Where a classifier sees fractures: how often that is right, and X-rays to look at."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from fracture_mae.data.types import XRays
from fracture_mae.evaluation import gallery, hiding, neighbours, place
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.tracking import lineage, registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report


def judge(
    loaded: LoadedClassifier,
    xrays: XRays,
    predictions: pd.DataFrame,
    judged: Sequence[XRays],
    remark: str,
    certainty: Certainty,
    **options: Any,
) -> Report:
    """The figures of places where boxes are, and a gallery, of X-rays of which no box, nor label, has taught it.

    Args:
        judged: all X-rays that are at hand: training X-rays that each is most like are looked for there first, see `neighbours.of`.
        options: batch_size and accelerator.
    """
    classifier, report = loaded.classifier, Report()
    look = partial(place.maps_of, classifier, **options)
    if len(placed := place.to_judge(xrays)):
        report.add(place.judge(look(placed), xrays.name, remark, certainty))
    own, files = OwnData.load(loaded.folder), partial(_trained_on, loaded)
    near = partial(neighbours.of, judged=judged, files=files, own=own, classifier=classifier, **options)
    if xrays.name != "validation":
        report.add(hiding.judge(classifier, xrays, xrays.name, seed=certainty.seed, **options))
    report.add(gallery.judge(xrays, predictions, loaded.decision, xrays.name, remark, look, near))
    return report


def _trained_on(loaded: LoadedClassifier) -> pd.DataFrame | None:
    """Paths, as shown, and sha256 of the files that the run which made it was given; None where that is not known, or gone."""
    run_id = registry.made_in(loaded.name)
    return lineage.read_table(run_id, "data/splits.csv") if run_id else None
