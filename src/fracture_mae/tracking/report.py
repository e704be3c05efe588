"""What is to be logged, before anything knows where."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fracture_mae.pages import Cards


@dataclass
class Report:
    """What a run has to show, by the path or name under which it is logged.

    galleries: of a split, X-rays for the page alone; nothing of them is logged apart from it.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    galleries: dict[str, list[Cards]] = field(default_factory=dict)

    def add(self, other: "Report") -> None:
        for name in ("metrics", "tables", "figures", "documents", "tags", "galleries"):
            getattr(self, name).update(getattr(other, name))
