"""From a logit to an answer: calibration, threshold, and the names of the classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fracture_mae.metrics import calibration
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.thresholds import SENSITIVITY_COUNTS


@dataclass(frozen=True)
class Decision:
    """What turns a logit into an answer, and for which data it was chosen.

    Attributes:
        label_names: names of the negative and the positive class.
        threshold: the answer is positive from this probability on.
        temperature: logits are divided by it before the sigmoid, unless there is an isotonic map.
        split_fingerprint: of the training, validation and test X-rays behind all choices.
        isotonic: from logits to probabilities, in place of temperature and sigmoid.
        data_fingerprint: of all X-rays and their labels, however they are split.
        objective: what the threshold was chosen for; empty if it was given.
        chosen_on: how, and on which X-rays; empty if it was given, and of classifiers of earlier versions.
    """

    label_names: tuple[str, str]
    threshold: float = 0.5
    temperature: float = 1.0
    split_fingerprint: str = ""
    isotonic: Isotonic | None = None
    data_fingerprint: str = ""
    objective: str = ""
    chosen_on: str = ""

    def __str__(self) -> str:
        """Such as `threshold 0.310: weighted_youden (…), mean over 500 bootstrap draws of 48 validation X-rays`."""
        told = {
            "weighted_youden": f"weighted_youden (sensitivity counts {SENSITIVITY_COUNTS:g} times as much as specificity)"
        }
        objective = told.get(self.objective, self.objective)
        how = ", ".join(part for part in (objective, self.chosen_on) if part) or "as given"
        return f"threshold {self.threshold:.3f}: {how}"

    @property
    def calibrated(self) -> bool:
        """Whether a probability is another than the plain sigmoid of its logit."""
        return self.isotonic is not None or self.temperature != 1

    def probability(self, logit: ArrayLike) -> np.ndarray:
        """Calibrated probability of the positive class, float64 in the shape of `logit`; the threshold is one of these."""
        if self.isotonic is not None:
            return self.isotonic.apply(logit)
        return calibration.apply(logit, self.temperature)

    @classmethod
    def restored(cls, described: dict[str, Any]) -> "Decision":
        """A decision from the JSON of `asdict`; those of earlier versions know no isotonic map."""
        isotonic = described.get("isotonic")
        restored = isotonic and Isotonic(tuple(isotonic["logit"]), tuple(isotonic["probability"]))
        return cls(**described | {"label_names": tuple(described["label_names"]), "isotonic": restored})
