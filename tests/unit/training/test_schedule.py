import math

import pytest

from fracture_mae.training.schedule import Progress, Schedule


def schedule(**changes):
    return Schedule(**{"epochs": 10, "batch_size": 4, "monitor": "m", "maximise": True} | changes)


def recorded(values, **changes):
    """The epochs kept after each of the values, and the progress made."""
    progress, kept = Progress(), []
    for value in values:
        changed = progress.record({"m": value}, schedule(**changes))
        kept.append(progress.kept_epoch)
        assert changed == (progress.kept_epoch == progress.epochs_done)
    return kept, progress


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 0.0),
        (0.5, 0.25),
        (1.5, 0.75),
        (2, 1.0),
        (4, (1 + math.sqrt(1 / 2)) / 2),  # a quarter of the way from 2 to 10: (1 + cos 45°) / 2
        (6, 0.5),
        (10, 0.0),
    ],
)
def test_warm_up_then_half_a_cosine(epoch, factor):
    assert schedule(warmup_epochs=2).learning_rate_factor(epoch) == pytest.approx(factor)


def test_warm_up_takes_at_most_a_quarter():
    short = schedule(epochs=2, warmup_epochs=3)
    assert [short.learning_rate_factor(epoch) for epoch in (0.25, 0.5, 1.25)] == pytest.approx([0.5, 1.0, 0.5])


def test_without_cosine_the_rate_stays():
    assert [schedule(cosine=False).learning_rate_factor(epoch) for epoch in (0, 5, 9.9)] == [1, 1, 1]
    assert schedule(cosine=False, warmup_epochs=2).learning_rate_factor(1) == 0.5


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "changes", "kept"),
    [
        ([0.5, 0.7, 0.6, 0.8], {}, [1, 2, 2, 4]),
        ([0.5, 0.7, 0.6, 0.4], {"maximise": False}, [1, 1, 1, 4]),
        ([0.5, 0.5, 0.5], {}, [1, 1, 1]),  # a tie does not replace the earlier epoch
        ([0.5, 0.4, 0.3], {"keep_best": False}, [1, 2, 3]),
        ([0.5, NAN, 0.6], {}, [1, 1, 3]),
        ([NAN, 0.1, NAN], {}, [1, 2, 2]),
        ([NAN, 0.9], {"maximise": False}, [1, 2]),
    ],
)
def test_which_epoch_is_kept(values, changes, kept):
    assert recorded(values, **changes)[0] == kept


def test_kept_metrics():
    _, progress = recorded([0.5, 0.7, 0.6])
    assert progress.epochs_done == 3
    assert progress.kept == {"m": 0.7}


def test_it_is_over_after_the_last_epoch():
    assert not schedule(epochs=3).is_over(recorded([0.1, 0.2])[1])
    assert schedule(epochs=3).is_over(recorded([0.1, 0.2, 0.3])[1])
    assert not schedule(epochs=3).is_over(Progress())


@pytest.mark.parametrize(
    ("values", "changes", "over"),
    [
        ([0.9, 0.1], {"patience": 2}, False),
        ([0.9, 0.1, 0.2], {"patience": 2}, True),
        ([0.9, 0.1, 1.0], {"patience": 2}, False),
        ([0.9] + [0.1] * 8, {"patience": 0}, False),
        ([0.9] + [0.1] * 8, {"patience": 2, "keep_best": False}, False),  # the last epoch is always the one to keep
    ],
)
def test_patience(values, changes, over):
    assert schedule(**changes).is_over(recorded(values, **changes)[1]) == over
