import numpy as np
import pytest
import torch

from fracture_mae.training.step_random import FixedStepRandom, StepRandom


def test_an_xrays_numbers_do_not_hang_on_who_draws_them():
    whole = StepRandom(seed=3, n=5)
    expected = [whole.uniform(2), whole.uniform(), whole.uniform(2, 3)]
    assert [tuple(numbers.shape) for numbers in expected] == [(5, 2), (5,), (5, 2, 3)]
    for rows in (np.arange(2), np.array([2, 3, 4]), np.array([4]), np.array([3, 4, 4])):
        part = StepRandom(seed=3, n=5, rows=rows)
        for numbers in expected:
            assert part.uniform(*numbers.shape[1:]).equal(numbers[rows])


def test_numbers_are_uniform_and_the_seed_decides():
    numbers = StepRandom(0, 1000).uniform(10)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.012)  # 4 standard deviations
    assert not StepRandom(1, 1000).uniform(10).equal(numbers)
    torch.manual_seed(9)  # the global generator has no say
    assert StepRandom(0, 1000).uniform(10).equal(numbers)


def test_standing_draws_are_those_of_their_source_in_the_same_memory():
    standing, places = FixedStepRandom(), []
    for seed in (1, 2, 3):
        standing.refill(StepRandom(seed, 4))
        for _ in range(2):  # as often as the step is computed
            standing.rewind()
            expected = StepRandom(seed, 4)
            numbers = [standing.uniform(2), standing.uniform(), standing.uniform(2)]
            assert all(found.equal(expected.uniform(*found.shape[1:])) for found in numbers)
            places.append([found.data_ptr() for found in numbers])
    assert all(each == places[0] for each in places)
    assert len(set(places[0])) == 3
