import logging
import time

import pytest

from fracture_mae.processes import patience
from fracture_mae.processes.patience import Patience


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only while somebody sleeps."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_an_outage_is_told_once_and_so_is_its_end(clock, caplog):
    waiting = Patience("The database", minutes=1)
    with caplog.at_level(logging.WARNING):
        assert [waiting.waits("refused") for _ in range(3)] == [True] * 3
        waiting.answered()
        waiting.answered()
    assert [record.getMessage() for record in caplog.records] == [
        "The database does not answer (refused). It is waited for, 1 minutes at most.",
        "The database answers again, after 3 seconds.",
    ]


def test_it_ends_and_then_nobody_waits_again(clock):
    waiting = Patience("The database", minutes=1)
    while waiting.waits("refused"):
        pass
    assert clock[0] == 1060
    assert not waiting.waits("refused")
    assert clock[0] == 1060
    waiting.answered()
    assert waiting.waits("refused")


def test_others_find_it_again_before_work_goes_on(clock):
    waiting = Patience("The database")
    waiting.settle()
    assert clock[0] == 1000
    waiting.waits("refused")
    waiting.answered()
    waiting.settle()
    assert clock[0] == 1001 + patience._SETTLING
