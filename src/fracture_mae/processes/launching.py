"""Several processes for one training: they are started, waited for, and it is said what became of them."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import ranks

_GRACE = 10  # seconds that ranks have to end once one of them has died
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_AGAIN = "The same command, with the same or another --nproc, goes on from the last whole checkpoint."


def start(arguments: list[str], n: int, environment: Mapping[str, str]) -> None:
    """Run `python ARGUMENTS` as `n` ranks to their end; if one dies, the others are ended.

    Args:
        environment: variables for the ranks besides those of this process.

    Raises:
        FractureMaeError: says which rank ended how.
    """
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=_GRACE,
    )
    with _quiet_launcher(), _environment({**_for_ranks(n), **environment}):
        try:
            elastic_launch(launch, sys.executable)(*arguments)
        except ChildFailedError as error:
            raise FractureMaeError(what_happened(error.failures, n)) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(f"ended by {signal.Signals(error.sigval).name}") from None


def what_happened(failures: Mapping[int, ProcessFailure], n: int) -> str:
    """What ended the ranks, in a sentence or two: the cause, not what followed from it.

    Where one rank is gone, those that wait for it fail too, and whoever is left is ended by SIGTERM.

    Args:
        failures: in the order in which they were noticed.
    """
    sentences = (_details(failure).get("sentence") for failure in failures.values())
    if sentence := next(filter(None, sentences), None):
        return sentence
    for number, failure in failures.items():
        if ended_by := _signal_of(failure):
            memory = ", as happens where memory runs out" if ended_by == "SIGKILL" else ""
            return f"rank {number} of {n} was ended by {ended_by}{memory}; the others were ended too. {_AGAIN}"
        if _details(failure) and not _details(failure)["follows"]:
            break
    else:
        number, failure = next(iter(failures.items()))
    message = failure.message["message"] if _details(failure) else f"exit status {failure.exitcode}"
    return f"rank {number} of {n} failed ({message}); the others were ended too. {_AGAIN}"


def _details(failure: ProcessFailure) -> dict[str, Any]:
    """What the rank itself had to say, see `ranks.report`."""
    return failure.message["extraInfo"] if isinstance(failure.message, dict) else {}


def _signal_of(failure: ProcessFailure) -> str | None:
    """The signal that ended a rank, unless it is the one that is sent to those who are left."""
    ended = failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM
    return failure.signal_name() if ended else None


def _for_ranks(n: int) -> dict[str, str]:
    """Each rank's share of the threads that this process may use, and whom it belongs to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = int(os.environ.get("OMP_NUM_THREADS", cores))
    return {
        "OMP_NUM_THREADS": str(max(1, threads // n)),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        ranks.LEADER: str(os.getpid()),
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """torchrun tells a failure in its own words, in lines that help nobody here, and keeps the signals that it has taken."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
