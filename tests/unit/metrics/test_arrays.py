import numpy as np
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.arrays import check_both_classes, check_groups, check_scores, check_vector


def test_scores_come_back_in_their_types_with_equal_weights():
    label, probability, weight = check_scores([True, False], np.float32([0.5, 1]))
    assert (label.dtype, probability.dtype) == (np.int64, np.float64)
    assert label.tolist() == [1, 0]
    assert probability.tolist() == [0.5, 1]
    assert weight.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("label", "probability", "weight", "message"),
    [
        ([], [], None, "n > 0"),
        ([[0, 1]], [[0.1, 0.2]], None, r"shape \(1, 2\)"),
        ([0, 1], [0.1, np.nan], None, "row 1: nan"),
        ([0, 1], [1.5, 0.2], None, r"row 0: 1.5; expected finite numbers in \[0, 1\]"),
        ([0, 1, 1], [0.1, 0.2], None, "label has 3 values; expected 2"),
        ([0, 2], [0.1, 0.2], None, "label holds 1 of 2"),
        ([0, 0.5], [0.1, 0.2], None, "expected 0"),
        ([0, 1], [0.1, 0.2], [1], "weight has 1 values; expected 2"),
        ([0, 1], [0.1, 0.2], [1, -1], "row 1: -1"),
        ([0, 1], [0.1, 0.2], [0, 0], "zero for every file"),
    ],
)
def test_unusable_scores_are_refused(label, probability, weight, message):
    with pytest.raises(FractureMaeError, match=message):
        check_scores(label, probability, weight)


def test_vectors_without_bounds_may_hold_any_finite_number():
    assert check_vector([-300, 300], "logit").tolist() == [-300, 300]


def test_a_class_of_weight_zero_is_missing():
    check_both_classes(np.array([0, 1]), np.array([1, 0.5]), "this")
    with pytest.raises(FractureMaeError, match="No file with label 1 among 2 files; this needs both"):
        check_both_classes(np.array([0, 1]), np.array([1, 0]), "this")


def test_groups_are_numbered_and_have_one_label():
    member_of, group_label = check_groups(np.array([1, 0, 1, 0]), ["b", "a", "b", "c"])
    assert member_of.tolist() == [1, 0, 1, 2]
    assert group_label.tolist() == [0, 1, 0]


def test_groups_with_both_labels_are_refused():
    with pytest.raises(FractureMaeError, match="1 groups hold files of both labels, for instance 'b'"):
        check_groups(np.array([1, 0, 0]), ["b", "a", "b"])
