"""What an audit says of real X-rays."""

import pytest

from tests.real_xrays import start

pytestmark = [pytest.mark.data, pytest.mark.slow]


def test_an_audit_shows_what_the_copies_are_worth(real_workplace):
    metrics = start(real_workplace, "audit_data", "--image-size", "64").data.metrics
    assert metrics["n_xrays"] < metrics["n_contents"] < metrics["n_files"]
    assert metrics["leakage/test_in_train/same_X_ray"] >= metrics["leakage/test_in_train/same_bytes"] > 0.1
    assert metrics["leaky/auroc"] > metrics["honest/auroc"]
