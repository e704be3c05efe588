"""Tables and arrays in, matplotlib figures out.

Figures are built without pyplot, which keeps every figure alive and is not safe in threads and servers.
"""

from fracture_mae.plots.comparisons import (
    drift,
    encoders,
    fold_roc_curves,
    fold_spread,
    learning_curves,
    sources,
    subgroups,
)
from fracture_mae.plots.decisions import (
    confusion_matrix,
    decision_curve,
    operating_points,
    precision_recall_curves,
    reliability,
    roc_curves,
    threshold_sweep,
)
from fracture_mae.plots.pictures import reconstructions
from fracture_mae.plots.places import froc, gallery, maps
from fracture_mae.plots.style import heading, interval_text, png

__all__ = [
    "confusion_matrix",
    "decision_curve",
    "drift",
    "encoders",
    "fold_roc_curves",
    "fold_spread",
    "froc",
    "gallery",
    "heading",
    "interval_text",
    "learning_curves",
    "maps",
    "operating_points",
    "png",
    "precision_recall_curves",
    "reconstructions",
    "reliability",
    "roc_curves",
    "sources",
    "subgroups",
    "threshold_sweep",
]
