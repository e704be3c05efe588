import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is left to them")
N_PAGES = 3 * 20 * 2**20 // os.sysconf("SC_PAGE_SIZE")
# Ten times three blocks of 20 MB, all written to and freed: how many pages were handed out in all.
ASKED = """
import resource
import numpy as np
from fracture_mae.processes.memory import keep_freed_memory

keep_freed_memory()
np.ones(20 * 2**20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    blocks = [np.ones(20 * 2**20, np.uint8) for _ in range(3)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(**environment):
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0"}  # of the usual size
    asked = subprocess.run(
        [sys.executable, "-c", ASKED], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return int(asked.stdout)


def test_memory_is_handed_out_once(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert pages() < 1.5 * N_PAGES


def test_who_says_what_is_to_be_kept_is_obeyed():
    """Nothing of it: all is handed out ten times."""
    assert pages(MALLOC_TRIM_THRESHOLD_="0", MALLOC_MMAP_THRESHOLD_="65536") > 8 * N_PAGES
