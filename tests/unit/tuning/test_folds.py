import dataclasses

import numpy as np
import pandas as pd
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.tuning import folds
from tests import made


@pytest.fixture
def xrays():
    """Six fractured X-rays and six others, each of three files."""
    return made.xrays("train", np.repeat([1, 0] * 6, 3), group=np.repeat(range(12), 3))


def test_an_xray_stands_in_one_fold_and_each_fold_holds_both_classes(xrays):
    fold = folds.assign(xrays, 3, seed=0)
    assert set(fold) == {0, 1, 2}
    assert pd.Series(fold).groupby(xrays.group).nunique().eq(1).all()
    assert pd.Series(xrays.label).groupby(fold).nunique().eq(2).all()


def test_folds_are_the_seeds(xrays):
    np.testing.assert_array_equal(folds.assign(xrays, 3, seed=0), folds.assign(xrays, 3, seed=0))
    assert (folds.assign(xrays, 3, seed=0) != folds.assign(xrays, 3, seed=1)).any()


def test_more_folds_than_xrays_are_refused(xrays):
    with pytest.raises(
        FractureMaeError, match=r"--n-folds 7: train holds 6 X-rays with label 0, 6 X-rays with label 1"
    ):
        folds.assign(xrays, 7, seed=0)


def test_together_are_training_and_validation_each_content_once():
    dataset = made.dataset()
    assert set(folds.together(dataset).table["sha256"]) == {
        *dataset.train.table["sha256"],
        *dataset.validation.table["sha256"],
    }
    leaky = dataclasses.replace(dataset, validation=dataset.train)
    assert len(folds.together(leaky)) == len(dataset.train)
    np.testing.assert_array_equal(folds.together(leaky).images(np.array([3])), dataset.train.images(np.array([3])))
