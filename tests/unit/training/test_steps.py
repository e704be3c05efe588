import numpy as np
import pytest

from fracture_mae.processes import collectives, ranks
from fracture_mae.training.loss_weights import LossWeights
from fracture_mae.training.steps import n_steps, parts_of

VISITS = np.array([4, 0, 3, 1, 2, 6, 5])
WEIGHTS = LossWeights(weight=np.arange(1.0, 8.0), counts=np.array([1.0, 2, 1, 2, 1, 2, 1]))


@pytest.fixture
def one_of(monkeypatch):
    """Let this process be one of several."""

    def be(rank, world_size):
        monkeypatch.setattr(collectives, "share", lambda n: np.array_split(np.arange(n), world_size)[rank])
        monkeypatch.setattr(ranks, "world_size", lambda: world_size)

    return be


def parts(**options):
    return list(parts_of(VISITS, WEIGHTS, **{"batch_size": 3, "accumulation": 1, "seed": 1} | options))


def test_one_process_takes_each_step_whole():
    assert n_steps(7, 3) == 3
    found = parts()
    assert [part.positions.tolist() for part in found] == [[4, 0, 3], [1, 2], [6, 5]]
    assert [(part.step, part.n, part.rows.tolist()) for part in found] == [
        (0, 3, [0, 1, 2]),
        (1, 2, [0, 1]),
        (2, 2, [0, 1]),
    ]
    assert all(part.is_first and part.is_last for part in found)
    np.testing.assert_allclose(found[0].weight, np.array([5.0, 1.0, 4.0]) / (1 + 1 + 2))
    assert len({part.seed for part in found}) == 3
    assert [part.seed for part in parts(seed=2)] != [part.seed for part in found]


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 2), (2, 1), (2, 2), (3, 1), (3, 4), (4, 1), (1, 7)])
def test_parts_of_all_processes_are_the_steps(one_of, world_size, accumulation):
    whole, seen = parts(), {0: [], 1: [], 2: []}
    for rank in range(world_size):
        one_of(rank, world_size)
        mine = parts(accumulation=accumulation)
        for step in range(3):
            pieces = [part for part in mine if part.step == step]
            assert [part.is_first for part in pieces] == [True] + [False] * (len(pieces) - 1)
            assert [part.is_last for part in pieces] == [False] * (len(pieces) - 1) + [True]
            assert len(pieces) <= accumulation
            assert {(part.n, part.seed) for part in pieces} == {(whole[step].n, whole[step].seed)}
            for part in pieces:
                assert part.positions.tolist() == whole[step].positions[part.rows].tolist()
                if part.weight.any():
                    seen[step] += zip(part.positions, part.weight, strict=True)
    for part in whole:
        assert seen[part.step] == list(zip(part.positions, part.weight, strict=True))


def test_a_process_without_an_xray_has_one_that_weighs_nothing(one_of):
    one_of(2, 3)
    found = parts(batch_size=2, accumulation=2)
    assert [part.n for part in found] == [2, 2, 2, 1]
    assert all(part.weight.tolist() == [0.0] and part.rows.tolist() == [0] for part in found)
    assert all(part.is_first and part.is_last for part in found)


@pytest.mark.parametrize(("world_size", "accumulation", "size"), [(1, 1, 3), (1, 2, 2), (2, 1, 2), (3, 1, 1)])
def test_parts_that_are_filled_up_are_of_one_size_and_the_rest_weighs_nothing(one_of, world_size, accumulation, size):
    for rank in range(world_size):
        one_of(rank, world_size)
        plain, equal = parts(accumulation=accumulation), parts(accumulation=accumulation, equal=True)
        assert len(plain) == len(equal)
        for expected, found in zip(plain, equal, strict=True):
            n = len(expected.positions)
            assert len(found.positions) == len(found.weight) == len(found.rows) == size
            assert found.positions[:n].tolist() == expected.positions.tolist()
            assert found.rows[:n].tolist() == expected.rows.tolist()
            assert found.weight.tolist() == expected.weight.tolist() + [0.0] * (size - n)
            assert set(found.positions[n:]) <= set(expected.positions)  # nothing that is not in the step
            assert found.n == expected.n
