"""The threshold that a classifier gets, and how that is told."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.aims import unit_of
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import assurance as assured
from fracture_mae.metrics import bagged_thresholds, scores

CONSTRAINED = "specificity_at_sensitivity"


@dataclass(frozen=True)
class Wish:
    """What a threshold is to be best for.

    Attributes:
        objective: as in `metrics.thresholds`.
        min_sensitivity: that is wanted ("specificity_at_sensitivity" alone).
        assurance: how sure one wants to be that the true sensitivity is as high ("specificity_at_sensitivity" alone); None: it is so on
            the X-rays that the threshold is chosen on.
    """

    objective: str
    min_sensitivity: float = 0.95
    assurance: float | None = None

    @classmethod
    def of(cls, objective: str, min_sensitivity: float, assurance: float | str) -> "Wish":
        """As options say it; what the objective does not know is left out."""
        if objective != CONSTRAINED:
            return cls(objective)
        return cls(objective, min_sensitivity, None if assurance == "none" else assurance)

    def __str__(self) -> str:
        if self.objective != CONSTRAINED:
            return self.objective
        sure = "" if self.assurance is None else f", assurance {self.assurance:g}"
        return f"{self.objective} (min_sensitivity {self.min_sensitivity:g}{sure})"

    def check(self, rows: pd.DataFrame, where: str, way_out: str) -> None:
        """Refuse an assurance that X-rays cannot give, before anything that takes long.

        Args:
            rows: columns group, label and patient, where it is known.
            where: they stand, in words; way_out: what to do, ends the sentence.

        Raises:
            FractureMaeError: how many fractures are needed and were found.
        """
        if self.assurance is None:
            return
        n = drawn(rows[rows["label"] == 1]).nunique()
        if lacking := assured.shortfall(n, self.min_sensitivity, self.assurance, unit_of(rows), where):
            highest = assured.highest_assured(n, self.assurance)
            less = (
                f"or ask for less: --min-sensitivity {highest:g} is what they can assure"
                if highest
                else "or take more X-rays"
            )
            raise FractureMaeError(f"--assurance {self.assurance:g}: {lacking}. {way_out}, {less}.")

    def choose(self, rows: pd.DataFrame, probability: np.ndarray, seed: int) -> float:
        """The threshold on files, each X-ray weighing the same.

        Args:
            rows: columns group, label and patient, where it is known; files of models that were not trained on them.
            probability: float64 [n], calibrated.
            seed: of the draws that it is the mean of, unless it is assured.

        Raises:
            FractureMaeError: what is to be assured is not to be had, see `check`.
        """
        label, of = rows["label"].to_numpy(), drawn(rows)
        if self.assurance is None:
            weight = scores.equal_group_weight(rows["group"])
            options = {"weight": weight, "n_draws": bagged_thresholds.N_DRAWS, "seed": seed}
            if self.objective == CONSTRAINED:
                options["min_sensitivity"] = self.min_sensitivity
            return bagged_thresholds.choose(label, probability, self.objective, of, **options)
        options = {"min_sensitivity": self.min_sensitivity, "assurance": self.assurance}
        found = assured.choose(label, probability, of, **options)
        if found is None:
            self.check(rows, "to choose on", "Take more X-rays")
        return found

    def told(self, rows: pd.DataFrame, probability: np.ndarray, threshold: float, place: str) -> str:
        """How and on what a threshold was chosen, such as `mean over 500 bootstrap draws of 48 validation X-rays`."""
        on = f"{rows['group'].nunique():,} {place} X-rays"
        if rows["group"].duplicated().any():
            on += f" by their {len(rows):,} files one by one, as a server answers"
        how = "assured on" if self.assurance else f"mean over {bagged_thresholds.N_DRAWS} bootstrap draws of"
        return f"{how} {on}{self._confidence(rows, probability, threshold)}"

    def _confidence(self, rows: pd.DataFrame, probability: np.ndarray, threshold: float) -> str:
        if self.objective != CONSTRAINED or self.min_sensitivity == 1:
            return ""
        lowest = assured.lowest_scores(rows["label"], probability, drawn(rows))
        missed = int((lowest < threshold).sum())
        sure = assured.confidence(lowest.size, missed, self.min_sensitivity)
        return (
            f": {missed} of {lowest.size:,} {unit_of(rows)} missed, so the true sensitivity is {self.min_sensitivity:g} or more with "
            f"confidence {sure:.2f}"
        )
