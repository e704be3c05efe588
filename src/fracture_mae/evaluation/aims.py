"""Wanted sensitivities: which threshold is for one, and how sure one may be that the true sensitivity is as high."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae.evaluation.chosen_on import OUT_OF_FOLD
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import assurance as assured

SENSITIVITIES = (0.90, 0.95, 0.99)
USUAL = 0.95  # the assurance that is spoken of where none is asked for


@dataclass(frozen=True)
class Aim:
    """A wanted sensitivity, and what the X-rays that thresholds are chosen on say of it.

    Attributes:
        min_sensitivity: that is wanted.
        place: where thresholds are chosen, in words.
        unit: "patients with a fracture", or "fractured X-rays" where nothing is known of patients; n_fractured: how many are there.
        ordinary: the threshold that reaches it there; n_missed: of how many patients it misses an X-ray.
        assurance: how sure one wants to be; None: not asked for.
        assured: the threshold that is so sure; None where there is none, or none is asked for.
        n_missed_assured: as n_missed, of that one.
    """

    min_sensitivity: float
    place: str
    unit: str
    n_fractured: int
    ordinary: float
    n_missed: int
    assurance: float | None = None
    assured: float | None = None
    n_missed_assured: int | None = None

    @property
    def threshold(self) -> float | None:
        """The one to show; None where what was asked for is not to be had."""
        return self.ordinary if self.assurance is None else self.assured

    @property
    def ordinary_confidence(self) -> float:
        return assured.confidence(self.n_fractured, self.n_missed, self.min_sensitivity)

    @property
    def confidence(self) -> float:
        """That the true sensitivity at `threshold` is as high as wanted; NaN where there is no such threshold."""
        if self.assurance is None:
            return self.ordinary_confidence
        if self.assured is None:
            return np.nan
        return assured.confidence(self.n_fractured, self.n_missed_assured, self.min_sensitivity)

    def __str__(self) -> str:
        name, of = (
            f"sensitivity {self.min_sensitivity:.2f}",
            f"of {self.n_fractured:,} {self.unit} missed {self._there}",
        )
        usual = self.assurance or USUAL
        n = assured.needed(self.min_sensitivity, usual)
        ordinary = f"the ordinary choice, {self.ordinary:.3f}, reaches it with {self.ordinary_confidence:.2f}"
        if self.assured is not None:
            sure = f"the true one reaches it with confidence {self.confidence:.3f} ({self.n_missed_assured} {of})"
            return f"{name}: assured, {sure}; {ordinary}"
        if self.assurance is not None:
            needed = f"{n:,} {self.unit}, none missed, are needed, found {self.n_fractured:,} {self._there}"
            return f"{name}: no threshold is assured at {usual:g}, {needed}; {ordinary}"
        more = (
            f"{usual:g} takes {n:,}, none missed"
            if self.n_fractured < n
            else f"assurance={usual:g} chooses for {usual:g}"
        )
        sure = f"the true one reaches it with confidence {self.ordinary_confidence:.2f}"
        return f"{name}: {sure} ({self.n_missed} {of}; {more})"

    @property
    def _there(self) -> str:
        return self.place if self.place == OUT_OF_FOLD else f"on {self.place}"

    def described(self) -> dict[str, object]:
        """For JSON."""
        return {
            "min_sensitivity": self.min_sensitivity,
            "chosen_on": self.place,
            "counted": self.unit,
            "n_fractured": self.n_fractured,
            "assurance": self.assurance,
            "n_needed": assured.needed(self.min_sensitivity, self.assurance or USUAL),
            "threshold": self.assured,
            "n_missed": self.n_missed_assured,
            "confidence": None if self.assured is None else self.confidence,
            "ordinary": {
                "threshold": self.ordinary,
                "n_missed": self.n_missed,
                "confidence": self.ordinary_confidence,
            },
            "said": str(self),
        }


def unit_of(rows: pd.DataFrame) -> str:
    """What is counted as one where fractures are, see `judging.drawn`."""
    return "patients with a fracture" if "patient" in rows else "fractured X-rays"


def aims(
    rows: pd.DataFrame,
    ordinary: Callable[[float], float],
    assurance: float | None,
    place: str,
    sensitivities: Sequence[float] = SENSITIVITIES,
) -> list[Aim]:
    """Each wanted sensitivity on one level of the X-rays that thresholds are chosen on.

    Args:
        rows: columns group, label, probability and patient, where it is known; files or X-rays.
        ordinary: the threshold for a wanted sensitivity where nothing is to be assured.
        assurance: how sure one wants to be that the true sensitivity is as high; None: what the ordinary one is, is said alone.
    """
    label, probability, of = rows["label"].to_numpy(), rows["probability"].to_numpy(), drawn(rows)
    lowest = assured.lowest_scores(label, probability, of)
    found = []
    for least in sensitivities:
        usual, sure = ordinary(least), None
        if assurance is not None:
            sure = assured.choose(label, probability, of, min_sensitivity=least, assurance=assurance)
        missed = [None if at is None else int(np.searchsorted(lowest, at, side="left")) for at in (usual, sure)]
        found.append(Aim(least, place, unit_of(rows), lowest.size, usual, missed[0], assurance, sure, missed[1]))
    return found
