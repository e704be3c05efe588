"""What is known of a classifier that was judged: from this evaluation, from that of its own test, and from the runs that made it."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from fracture_mae.data.types import Dataset
from fracture_mae.stages import promote
from fracture_mae.tracking import lineage, registry
from fracture_mae.tracking.lineage import Logged, Step
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Facts:
    """What a card is written from.

    Attributes:
        loaded: the classifier.
        dataset: that it was judged on just now.
        report: what was found, with the tags of the promotion.
        run_id, page: of this evaluation.
    """

    loaded: LoadedClassifier
    dataset: Dataset
    report: Report
    run_id: str
    page: str

    @property
    def is_external(self) -> bool:
        return self.dataset.test.name == "external"

    @property
    def is_own_split(self) -> bool:
        """Whether it was judged on the split that it was made with."""
        return not self.is_external and self.dataset.split_fingerprint == self.loaded.decision.split_fingerprint

    @cached_property
    def steps(self) -> list[Step]:
        """The classifier and what it started from, back to the first weights."""
        return lineage.lineage(self.loaded.name) if registry.is_model_uri(self.loaded.name) else []

    @property
    def training(self) -> Logged | None:
        """The run that made it; None where that is not known."""
        return self.steps[0].run if self.steps else None

    @cached_property
    def own_test(self) -> Logged | None:
        """The run that judged it on its own test, where this one did not."""
        run_id = promote.judged_in(self.loaded) if self.is_external else None
        return lineage.logged(run_id) if run_id else None

    def table(self, path: str) -> pd.DataFrame | None:
        """A table of this evaluation, or else of the one on its own test; None where there is none."""
        if path in self.report.tables:
            return self.report.tables[path]
        return lineage.read_table(self.own_test.run_id, path) if self.own_test else None

    def tag(self, name: str) -> str:
        """A tag of the evaluation on its own test, NOT_MEASURED where there is none."""
        tags = (self.own_test.tags if self.own_test else {}) if self.is_external else self.report.tags
        return str(tags.get(name, NOT_MEASURED))

    def of_training(self, path: str) -> pd.DataFrame | None:
        """A table of the run that made it."""
        return lineage.read_table(self.training.run_id, path) if self.training else None

    @property
    def external(self) -> dict[str, str]:
        """Name of each external collection that it was judged on → AUROC per X-ray."""
        uri = self.loaded.name if self.loaded.version else ""
        tags = registry.version_tags(uri)
        found = {
            key.split(".")[1]: value
            for key, value in tags.items()
            if key.startswith("external.") and key.endswith(".xray_auroc")
        }
        return dict(sorted(found.items()))
