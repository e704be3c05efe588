"""What a process does with memory that it has freed."""

import ctypes
import os
import platform

# Of malloc.h: how much may be free at the end of the heap before it is given back; from which size on blocks are no part of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 2**30
_APART = 2**25  # the most that glibc takes
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GB that it frees, for what it needs next, instead of giving it back at once.

    What a batch makes in one layer is needed anew in the next, and the system hands it out page by page, each filled with zeros: on a
    processor that was 8 to 16 % of a forward pass. Blocks of more than 32 MB are given back as ever. Nothing is done where the C
    library is not glibc, or the environment says what it is to do.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN):
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_THRESHOLD, _APART)
    library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
