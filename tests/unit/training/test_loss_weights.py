import numpy as np
import pytest
import torch

from fracture_mae.evaluation.prediction import table_weight
from fracture_mae.stages.classifier import positive_weight
from fracture_mae.training.batches import batch_of
from fracture_mae.training.loss_weights import LossWeights, loss_weight
from fracture_mae.training.trainer import visiting_order

# The training X-rays of tests.builders: fractured ones with 3 and 1 files, others with 2, 1, 1 and 1.


def test_by_default_every_file_counts_the_same(xrays):
    np.testing.assert_array_equal(table_weight(xrays, "file", "all"), np.ones(9))
    np.testing.assert_array_equal(loss_weight(xrays, "file", "xray_class"), np.ones(9))


def test_tables_by_group_and_with_one_copy(xrays):
    np.testing.assert_allclose(table_weight(xrays, "group", "all"), [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2, 1, 1, 1])
    for weight_by in ("file", "group"):
        weight = table_weight(xrays, weight_by, "one")
        assert np.bincount(np.unique(xrays.group, return_inverse=True)[1], weight).tolist() == [1] * 6
        assert set(weight) == {0, 1}


def test_the_loss_by_group_has_the_mean_weight_one(xrays):
    by_file = loss_weight(xrays, "group", "file")
    np.testing.assert_allclose(by_file, np.array([1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2, 1, 1, 1]) * 9 / 6)
    by_class = loss_weight(xrays, "group", "class")
    np.testing.assert_allclose(by_class[:4], np.array([1 / 3, 1 / 3, 1 / 3, 1]) * 4 / 2)
    np.testing.assert_allclose(by_class[4:], np.array([1 / 2, 1 / 2, 1, 1, 1]) * 5 / 4)


@pytest.mark.parametrize(("sampler", "drawn"), [("file", "xray"), ("class", "xray_class")])
def test_weights_and_draws_correct_for_copies_alike(xrays, sampler, drawn):
    """What an X-ray counts in an epoch, in expectation, is the same by `weight_by=group` and by a sampler of X-rays."""
    member = np.unique(xrays.group, return_inverse=True)[1]
    rng = np.random.default_rng(0)

    def counted(sampler, weight):
        order = visiting_order(xrays, sampler)
        visits = np.concatenate([order(rng) for _ in range(3000)])
        return np.bincount(member[visits], weight[visits]) / 3000

    weighed = counted(sampler, loss_weight(xrays, "group", sampler))
    np.testing.assert_allclose(weighed, counted(drawn, np.ones(9)), rtol=0.08)


def test_balanced_classes_are_balanced_by_weight(xrays):
    # By files 5 to 4, by X-rays 4 to 2.
    weight = loss_weight(xrays, "group", "file")
    assert positive_weight(xrays, "balanced", np.ones(9), "file") == 5 / 4
    assert positive_weight(xrays, "balanced", weight, "file") == pytest.approx(4 / 2)


def test_the_loss_of_a_step_by_hand():
    weights = LossWeights(weight=np.array([1.5, 9.0, 0.5]), counts=np.array([2.0, 9.0, 1.0]))
    np.testing.assert_allclose(weights.within(np.array([2, 0])), [0.5 / 3, 1.5 / 3])
    np.testing.assert_allclose(LossWeights.equal(4).within(np.array([3, 1])), [0.5, 0.5])


def test_training_hands_each_file_its_weight(xrays):
    weight = np.arange(9.0)
    found = batch_of(xrays, np.array([4, 2]), torch.device("cpu"), weight[[4, 2]])
    assert found.weight.tolist() == [4.0, 2.0]
    assert found.label.tolist() == xrays.label[[4, 2]].tolist()


@pytest.mark.parametrize(
    ("weight_by", "sampler"),
    [
        ("file", "file"),
        ("file", "class"),
        ("file", "xray"),
        ("file", "xray_class"),
        ("group", "file"),
        ("group", "class"),
    ],
)
def test_matched_weights_have_the_mean_one_over_what_is_drawn(xrays, weight_by, sampler):
    matched = np.array([1.0, 1, 1, 0.5, 2, 2, 0, 1, 4])
    weight = loss_weight(xrays, weight_by, sampler, matched)
    order = visiting_order(xrays, sampler)
    rng = np.random.default_rng(0)
    visits = np.concatenate([order(rng) for _ in range(3000)])
    assert weight[visits].mean() == pytest.approx(1, rel=0.03)
    if sampler.endswith("class"):
        of_class = [weight[visits][xrays.label[visits] == value].mean() for value in (0, 1)]
        assert of_class == pytest.approx([1, 1], rel=0.03)
    even = loss_weight(xrays, weight_by, sampler)
    ratio = weight / np.where(matched > 0, matched * even, 1)
    for value in (0, 1):
        here = (xrays.label == value) & (matched > 0)
        np.testing.assert_allclose(ratio[here], ratio[here][0])  # in proportion to what was given
    assert weight[6] == 0
