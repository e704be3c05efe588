import sys
import time

import numpy as np
import pytest

from benchmarks.memory import PeakMemory

MEGABYTE = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the two kinds are not told apart")


def peak_of(action):
    with PeakMemory() as nothing:
        pass
    with PeakMemory() as peak:
        kept = action()
        time.sleep(0.1)  # a few looks
        del kept
    return (peak.anonymous - nothing.anonymous) / MEGABYTE, (peak.file_backed - nothing.file_backed) / MEGABYTE


def test_what_a_process_allocates_is_its_own_and_counted_though_it_is_gone_again():
    own, mapped = peak_of(lambda: np.ones(100 * MEGABYTE, np.uint8))
    assert 80 < own < 130
    assert mapped < 20


def test_a_file_that_is_read_through_memory_is_told_apart(tmp_path):
    np.ones(100 * MEGABYTE, np.uint8).tofile(tmp_path / "pixels")

    def read():
        pixels = np.memmap(tmp_path / "pixels", np.uint8, mode="r")
        assert pixels.max() == 1
        return pixels

    own, mapped = peak_of(read)
    assert 80 < mapped < 130
    assert own < 20
