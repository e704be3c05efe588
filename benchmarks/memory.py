"""How much memory this process takes up while something is done."""

import threading

import psutil

_INTERVAL = 0.02  # seconds


class PeakMemory:
    """The most memory that the process held while entered.

    Attributes:
        anonymous: bytes of its own, which must be there or in swap.
        file_backed: bytes of files mapped into it, such as the cache of X-rays, which the system may drop at any time; NaN where
            the system does not tell the two apart.
    """

    def __init__(self) -> None:
        self.anonymous = self.file_backed = 0.0
        self._process = psutil.Process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        held = self._process.memory_info()
        shared = getattr(held, "shared", None)
        self.anonymous = max(self.anonymous, held.rss - (shared or 0))
        self.file_backed = float("nan") if shared is None else max(self.file_backed, shared)
