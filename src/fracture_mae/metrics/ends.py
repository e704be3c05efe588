"""An estimate with the ends of its interval, and the X-rays that are needed for one."""

from typing import NamedTuple

import numpy as np

# Patients, or X-rays where nothing is known of patients, of each class that a figure needs. How fewer of them spread cannot be known
# from themselves, so that no kind of interval holds what it promises.
FEWEST_GROUPS = 10


class Interval(NamedTuple):
    """An estimate and the ends of its interval; the ends are NaN where there is none, all three where nothing is defined."""

    estimate: float
    low: float
    high: float


def groups_with(label: np.ndarray, member_of: np.ndarray, value: int) -> int:
    """Return how many groups hold a file of this label; label: 0/1 [n]; member_of: number of each one's group, [n]."""
    return np.unique(member_of[label == value]).size


def smaller_class(label: np.ndarray, member_of: np.ndarray) -> int:
    """Return in how many groups the rarer of the labels stands that are there."""
    return min(groups_with(label, member_of, value) for value in np.unique(label))
