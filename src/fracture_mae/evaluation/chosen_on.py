"""The X-rays that thresholds are chosen on."""

from dataclasses import dataclass

import pandas as pd
from scipy.special import expit, logit

from fracture_mae.evaluation.judging import levels
from fracture_mae.metrics.decision import Decision

VALIDATION, OUT_OF_FOLD = "validation", "out of fold"
_NEVER = 1e-12  # a probability of 0 or 1 has no finite logit


@dataclass(frozen=True)
class ChosenOn:
    """Predictions for X-rays by models that were not trained on them.

    Attributes:
        files: a row for each: group, label, logit, patient, where it is known, and weight, where files differ in it.
        place: which they are, in words: "validation", "out of fold" or "held-out sources".
        calibrated: the logits are those of calibrated probabilities, as where each fold has a calibration of its own.
    """

    files: pd.DataFrame
    place: str = VALIDATION
    calibrated: bool = False

    @classmethod
    def out_of_fold(cls, pooled: pd.DataFrame) -> "ChosenOn":
        """Of `out_of_fold.pool`, several times as many X-rays as validation holds."""
        columns = [name for name in ("group", "patient", "label", "weight") if name in pooled]
        probability = pooled["probability"].clip(_NEVER, 1 - _NEVER)
        return cls(pooled[columns].assign(logit=logit(probability)), OUT_OF_FOLD, calibrated=True)

    def levels(self, decision: Decision) -> dict[str, pd.DataFrame]:
        """Files (`image`) and X-rays (`xray`), with the probability that the classifier, or their own fold, gives them."""
        told = expit if self.calibrated else decision.probability
        return {name: rows.assign(probability=told(rows["logit"])) for name, rows in levels(self.files).items()}
