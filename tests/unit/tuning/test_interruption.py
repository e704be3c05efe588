import os
import signal

import pytest

from fracture_mae.tuning.interruption import Interruption

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_trial_is_interrupted_at_once(number):
    went_on = False
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt), interruption.within_trial():  # noqa: PT012
        os.kill(os.getpid(), number)
        went_on = True
    assert not went_on


@pytest.mark.parametrize("number", SIGNALS)
def test_between_trials_it_waits_for_the_next_check(number):
    with Interruption() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        with pytest.raises(KeyboardInterrupt), interruption.within_trial():
            raise AssertionError("began a trial")


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in SIGNALS] == before
