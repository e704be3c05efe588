"""Checks that labels, probabilities and weights pass before any number is made from them."""

import numpy as np
from numpy.typing import ArrayLike

from fracture_mae.errors import FractureMaeError


def check_vector(values: ArrayLike, name: str, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Return `values` as float64 [n]; refuse another shape, no value, NaN, infinity and values outside [low, high]."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise FractureMaeError(f"{name} has shape {array.shape}; expected [n] with n > 0. Pass one value per file.")
    wrong = ~np.isfinite(array) | (array < low) | (array > high)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise FractureMaeError(
            f"{name} holds {wrong.sum()} of {array.size} unusable values, the first in row {row}: {array[row]}; "
            f"expected finite numbers in [{low:g}, {high:g}]. Check what produced them."
        )
    return array


def check_label(label: ArrayLike, n: int) -> np.ndarray:
    """Return `label` as int64 [n]; refuse another length and any value but 0 and 1."""
    array = check_vector(label, "label", 0, 1)
    _check_length(array, "label", n)
    if not np.isin(array, (0, 1)).all():
        raise FractureMaeError(f"label holds {np.unique(array)}; expected 0 (not fractured) and 1 (fractured) alone.")
    return array.astype(np.int64)


def check_weight(weight: ArrayLike | None, n: int) -> np.ndarray:
    """Return `weight` as float64 [n], ones if None; refuse negative weights and weights that are all zero."""
    if weight is None:
        return np.ones(n)
    array = check_vector(weight, "weight", 0)
    _check_length(array, "weight", n)
    if not array.any():
        raise FractureMaeError("weight is zero for every file; expected at least one above zero.")
    return array


def check_scores(
    label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return label int64 [n], probability float64 [n] in [0, 1] and weight float64 [n], or raise FractureMaeError."""
    probability = check_vector(probability, "probability", 0, 1)
    return check_label(label, probability.size), probability, check_weight(weight, probability.size)


def check_both_classes(label: np.ndarray, weight: np.ndarray, purpose: str) -> None:
    """Refuse labels of which one class is absent or has no weight; `purpose` ends the sentence "… needs both"."""
    for value in (0, 1):
        if not weight[label == value].any():
            raise FractureMaeError(
                f"No file with label {value} among {label.size} files; {purpose} needs both classes. "
                "Use a split that holds fractured and healthy X-rays."
            )


def check_groups(label: np.ndarray, group: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each file's group, int64 [n], and the label of each group, int64 [n_groups].

    Raises FractureMaeError for another length and for a group that holds files of both labels.
    """
    member_of = number_groups(label, group)
    names, first = np.unique(np.asarray(group), return_index=True)
    group_label = label[first]
    mixed = np.unique(member_of[label != group_label[member_of]])
    if mixed.size:
        raise FractureMaeError(
            f"{mixed.size} groups hold files of both labels, for instance {str(names[mixed[0]])!r}; expected one label "
            "per X-ray. Correct the labels or give the files different groups."
        )
    return member_of, group_label


def number_groups(label: np.ndarray, group: ArrayLike) -> np.ndarray:
    """Return the number of each file's group, int64 [n], in the order of their names; refuse another length than the label's."""
    _, member_of = np.unique(np.asarray(group), return_inverse=True)
    _check_length(member_of, "group", label.size)
    return member_of


def _check_length(array: np.ndarray, name: str, n: int) -> None:
    if array.size != n:
        raise FractureMaeError(f"{name} has {array.size} values; expected {n}, one per file.")
