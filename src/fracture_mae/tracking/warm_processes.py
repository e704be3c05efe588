"""Entry points in processes that are forked from one that has read the libraries, which takes each of them ten seconds otherwise.

Python's own fork server is that process. It is started by whoever runs several entry points, and ends with it.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else None)
_LIBRARIES = ["entrypoints", "fracture_mae.tracking.libraries"]  # the first puts the second on the path
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_started = False


class Forked:
    """A forked process, as far as `subprocess.Popen` is needed of it.

    Args:
        process: not yet started.
    """

    def __init__(self, process: multiprocessing.Process):
        process.start()
        self._process = process
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status; None if it runs still after `timeout` seconds."""
        self._process.join(timeout)
        return self.returncode

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def start() -> None:
    """Begin to read the libraries, beside what this process does; on Linux alone, as libraries forbid forking elsewhere."""
    global _started
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver

    _CONTEXT.set_forkserver_preload(_LIBRARIES)
    heard = {
        number: signal.signal(number, signal.SIG_IGN) for number in _ENDING
    }  # Ctrl-C is for this process to act on
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    _started = True


def started() -> bool:
    """Whether `run` can be called."""
    return _started


def run(module: str, arguments: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> Forked:
    """Begin `python -m MODULE ARGUMENTS` in `cwd`, in a session of its own, with this process's environment and `variables`."""
    Forked(
        _CONTEXT.Process(target=int)
    ).wait()  # until the libraries are read: nothing is under way where Ctrl-C comes meanwhile
    unheard = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_IGN]
    environment = dict(os.environ) | dict(variables)
    return Forked(_CONTEXT.Process(target=become, args=(module, arguments, cwd, environment, unheard)))


def become(
    module: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], unheard: Sequence[int] = ()
) -> None:
    """Be from now on `python -m MODULE ARGUMENTS`, in a session of its own.

    Args:
        environment: all variables.
        unheard: the signals of those that end a process that do not end this one, as under `nohup`.
    """
    os.setsid()
    for number in _ENDING:
        heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in unheard else heard)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
