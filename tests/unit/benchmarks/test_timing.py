import math

import pytest

from benchmarks import timing
from benchmarks.timing import Sample, interleaved, rate


class Clock:
    """Stands still but for what is said to have taken time."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def lasting(self, *durations):
        """An action that takes these times, one after the other, the last one for ever."""
        left = list(durations)

        def act():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return act


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def recording(order, name, values):
    """A measure that writes down when it was called."""
    left = iter(values)

    def measure():
        order.append(name)
        return next(left)

    return measure


def test_measures_take_turns_after_a_round_that_is_forgotten():
    order = []
    found = interleaved({"a": recording(order, "a", [99, 1, 3, 2]), "b": recording(order, "b", [99, 4, 4, 8])}, 3)
    assert order == list("abababab")
    assert found["a"].values == (1, 3, 2)
    assert (found["a"].median, found["a"].low, found["a"].high) == (2, 1, 3)


def test_without_a_warm_up_the_first_round_counts():
    order = []
    found = interleaved({"a": recording(order, "a", [7, 8]), "b": recording(order, "b", [1, 2])}, 2, warm_up=False)
    assert order == list("abab")
    assert found["a"].values == (7, 8)


def test_the_ratio_pairs_what_was_measured_side_by_side():
    ours, alternative = Sample((10, 40, 30)), Sample((5, 10, 10))
    ratio = ours.over(alternative)
    assert ratio.values == (2, 4, 3)
    # By the medians alone it would be 30 / 10 = 3, by the ends 10 / 10 … 40 / 5.
    assert (ratio.median, ratio.low, ratio.high) == (3, 2, 4)
    assert ours.times(0.1).values == (1, 4, 3)


# A round lasts 20 seconds: after one of them a second would end at 40, a third at 60, a fourth at 80.
@pytest.mark.parametrize(
    ("least", "most_seconds", "rounds"), [(1, 39, 1), (1, 45, 2), (3, 45, 3), (3, 85, 4), (1, math.inf, 5)]
)
def test_slow_measurements_are_stopped_early(clock, least, most_seconds, rounds):
    measures = {name: lambda: clock.lasting(10)() or 1.0 for name in "ab"}
    found = interleaved(measures, 5, least=least, most_seconds=most_seconds, clock=clock)
    assert [len(sample.values) for sample in found.values()] == [rounds, rounds]


def test_a_rate_is_an_amount_for_each_second(clock):
    assert rate(clock.lasting(4), 100)() == 25


def test_what_is_short_is_repeated_until_it_is_long_enough(clock):
    calls = []
    act = clock.lasting(0.25, 0.5)  # one of a quarter, and three more of a half to be sure of a second

    def counted():
        calls.append(act())

    assert rate(counted, 8, at_least=1.0)() == pytest.approx(4 * 8 / 1.75)
    assert len(calls) == 4
