"""From a logit to an answer: calibration, threshold, and the names of the classes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import calibration
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.thresholds import SENSITIVITY_COUNTS


@dataclass(frozen=True)
class Decision:
    """What turns a logit into an answer, and for which data it was chosen.

    Attributes:
        label_names: names of the negative and the positive class.
        threshold: the answer is positive from this probability on.
        slope: above 0; logits are multiplied by it before the sigmoid, unless there is an isotonic map.
        split_fingerprint: of the training, validation and test X-rays behind all choices.
        isotonic: from logits to probabilities, in place of slope, intercept and sigmoid.
        data_fingerprint: of all X-rays and their labels, however they are split.
        objective: what the threshold was chosen for; empty if it was given.
        chosen_on: how, and on which X-rays; empty if it was given, and of classifiers of earlier versions.
        intercept: added to the product of logit and slope.
        prevalence: share of fractured among the X-rays that slope and intercept, or the isotonic map, were fitted to, each counted
            once; None where nothing was fitted that knows it: probabilities are then those of no prevalence in particular.
    """

    label_names: tuple[str, str]
    threshold: float = 0.5
    slope: float = 1.0
    split_fingerprint: str = ""
    isotonic: Isotonic | None = None
    data_fingerprint: str = ""
    objective: str = ""
    chosen_on: str = ""
    intercept: float = 0.0
    prevalence: float | None = None

    def __str__(self) -> str:
        """Such as `threshold 0.310: weighted_youden (…), mean over 500 bootstrap draws of 48 validation X-rays`."""
        told = {
            "weighted_youden": f"weighted_youden (sensitivity counts {SENSITIVITY_COUNTS:g} times as much as specificity)"
        }
        objective = told.get(self.objective, self.objective)
        how = ", ".join(part for part in (objective, self.chosen_on) if part) or "as given"
        return f"threshold {self.threshold:.3f}: {how}"

    @property
    def calibration(self) -> str:
        """Such as `expit(0.712 · logit - 1.103), fitted where 31.2% of the X-rays are fractured`."""
        sign = "+" if self.intercept >= 0 else "-"
        how = f"expit({self.slope:.3f} · logit {sign} {abs(self.intercept):.3f})"
        if self.isotonic is not None:
            how = f"isotonic, {len(self.isotonic.logit):,} corners"
        return (
            how if self.prevalence is None else f"{how}, fitted where {self.prevalence:.1%} of the X-rays are fractured"
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Its numbers by name; slope 1 and intercept 0 where there is an isotonic map."""
        return {"threshold": self.threshold, "slope": self.slope, "intercept": self.intercept}

    @property
    def calibrated(self) -> bool:
        """Whether a probability is another than the plain sigmoid of its logit."""
        return self.isotonic is not None or (self.slope, self.intercept) != (1, 0)

    def probability(self, logit: ArrayLike) -> np.ndarray:
        """Calibrated probability of the positive class, float64 in the shape of `logit`; the threshold is one of these."""
        if self.isotonic is not None:
            return self.isotonic.apply(logit)
        return calibration.apply(logit, self.slope, self.intercept)

    def at_prevalence(self, probability: ArrayLike, prevalence: float) -> np.ndarray:
        """What probabilities, or thresholds on them, become where another share of X-rays is fractured, float64 in their shape.

        Raises:
            FractureMaeError: the prevalence is not between 0 and 1, or it is not known at which one the probabilities come true.
        """
        if self.prevalence is None:
            raise FractureMaeError(
                f"prevalence: found {prevalence}, expected none: this classifier's probabilities were fitted to no share of fractured "
                "X-rays that they could be moved from. Train or tune one anew, with calibrate=platt or isotonic"
            )
        return calibration.at_prevalence(probability, prevalence, self.prevalence)

    def moved(self, prevalence: float) -> "Decision":
        """The same answers from probabilities that come true where a share `prevalence` of X-rays is fractured, see `at_prevalence`.

        Itself where it is not known at which share its probabilities come true.
        """
        if self.prevalence is None:
            return self
        isotonic = self.isotonic
        if isotonic is not None:
            isotonic = replace(
                isotonic, probability=tuple(self.at_prevalence(isotonic.probability, prevalence).tolist())
            )
        return replace(
            self,
            threshold=float(self.at_prevalence(self.threshold, prevalence)),
            intercept=self.intercept + float(logit(prevalence) - logit(self.prevalence)),
            isotonic=isotonic,
            prevalence=prevalence,
        )

    @classmethod
    def restored(cls, described: dict[str, Any]) -> "Decision":
        """A decision from the JSON of `asdict`; those of earlier versions know no isotonic map, and divide by a temperature."""
        described = dict(described)
        if (temperature := described.pop("temperature", None)) is not None:
            described["slope"] = 1 / temperature
        isotonic = described.get("isotonic")
        restored = isotonic and Isotonic(tuple(isotonic["logit"]), tuple(isotonic["probability"]))
        return cls(**described | {"label_names": tuple(described["label_names"]), "isotonic": restored})
