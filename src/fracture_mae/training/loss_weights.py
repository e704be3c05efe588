"""How much each file of an X-ray counts, in the training loss and in tables per file."""

from dataclasses import dataclass

import numpy as np

from fracture_mae.data.types import XRays
from fracture_mae.metrics.scores import equal_group_weight


@dataclass(frozen=True)
class LossWeights:
    """How the loss of a step comes from the losses of its X-rays: Σ weight · loss / Σ counts.

    Attributes:
        weight: float64 [n], of each training X-ray's loss.
        counts: float64 [n], what each adds to the number that the sum is divided by.
    """

    weight: np.ndarray
    counts: np.ndarray

    @classmethod
    def equal(cls, n: int) -> "LossWeights":
        """The plain mean."""
        return cls(np.ones(n), np.ones(n))

    def repeated(self, n: int) -> "LossWeights":
        """The same for n rows of each X-ray, one after the other."""
        return LossWeights(np.repeat(self.weight, n), np.repeat(self.counts, n))

    def within(self, positions: np.ndarray) -> np.ndarray:
        """Of each X-ray's loss in a step that holds those at `positions`: float64 [len(positions)]."""
        return self.weight[positions] / self.counts[positions].sum()


def loss_weight(xrays: XRays, weight_by: str, sampler: str, matched: np.ndarray | None = None) -> np.ndarray:
    """Weight of each training file in the loss: float64 [n], with the mean 1 over what is drawn.

    By "group" the loss is in expectation the mean over X-rays, whatever the number of their files: what the samplers `xray` and
    `xray_class` reach by drawing X-rays equally, weights reach by letting every file be seen. Where the sampler draws both classes
    equally, the mean is 1 within each class, so that they stay equal.

    Args:
        matched: [n], of each file besides, such as `evaluation.matching.Matching.weight`; None: 1. Not all 0 in a class.
    """
    weight = np.ones(len(xrays)) if matched is None else matched
    drawn = np.ones(len(xrays))
    if weight_by == "group":
        weight = weight * equal_group_weight(xrays.group)
    elif sampler.startswith("xray"):
        drawn = equal_group_weight(xrays.group)
    drawn_from = xrays.label if sampler.endswith("class") else np.zeros(len(xrays), dtype=np.int64)
    total, n = np.bincount(drawn_from, weight * drawn), np.bincount(drawn_from, drawn)
    return weight * (n / total)[drawn_from]
