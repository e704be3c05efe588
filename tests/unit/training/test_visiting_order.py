import numpy as np
import pytest

from fracture_mae.training.trainer import visiting_order

# Files by label and X-ray: fractured 3 + 1, not fractured 2 + 1 + 1 + 1.
FREQUENCIES = {
    "class": [1 / 8] * 4 + [1 / 10] * 5,
    "xray": [1 / 18] * 3 + [1 / 6] + [1 / 12] * 2 + [1 / 6] * 3,
    "xray_class": [1 / 12] * 3 + [1 / 4] + [1 / 16] * 2 + [1 / 8] * 3,
}


@pytest.mark.parametrize("sampler", FREQUENCIES)
def test_how_often_files_are_drawn(xrays, sampler):
    order, rng = visiting_order(xrays, sampler), np.random.default_rng(0)
    drawn = np.concatenate([order(rng) for _ in range(4000)])
    assert len(drawn) == 4000 * len(xrays)
    assert np.bincount(drawn) / len(drawn) == pytest.approx(
        FREQUENCIES[sampler], abs=0.01
    )  # over 4 standard deviations


def test_the_file_sampler_shuffles(xrays):
    order = visiting_order(xrays, "file")
    first, again, other = (order(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert sorted(first) == list(range(9))
    assert first.tolist() == again.tolist() != other.tolist()
