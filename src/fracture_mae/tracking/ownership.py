"""Whose a run is: which process on which machine writes it, and what becomes of the runs of processes that are gone.

The plugin asks it too, while MLflow is only half imported, so MLflow is imported inside functions alone.
"""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REASON_TAG = "failure_reason"
_HOST_TAG, _MACHINE_TAG, _PROCESS_TAG = "process.host", "process.machine", "process.id"
_CLOCK_TOLERANCE = 60.0  # seconds by which a process's start may seem to move when the clock is set
_NEVER_STARTED = 3600.0  # seconds after which a run that `mlflow run` made, and that no process took, was left behind
_PROJECT = Path(__file__).resolve().parents[3]
_FIRST_NAMESPACE = "pid:[4026531836]"  # Linux's number of the one that no container has
_UNKNOWN = "unknown"


def process_tags() -> dict[str, str]:
    """Which process a run belongs to, so that the next run can tell if it was killed."""
    return {
        _HOST_TAG: socket.gethostname(),
        _MACHINE_TAG: _machine(),
        _PROCESS_TAG: f"{os.getpid()}@{psutil.Process().create_time():.2f}",
    }


def is_written_by_another(tags: Mapping[str, str]) -> bool:
    """Whether a process other than this one, and alive as far as can be told from here, has a run with these tags."""
    if _PROCESS_TAG not in tags or tags[_PROCESS_TAG] == process_tags()[_PROCESS_TAG]:
        return False
    return not is_dead(tags)


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run with these tags belongs to is known to be gone.

    Process numbers mean nothing elsewhere: a run of another machine, or of another container on this one, is not ours to judge,
    whatever its host is called. After this machine was started anew, all earlier processes of it are gone, but for those of containers,
    which cannot be told from other machines'.
    """
    if _PROCESS_TAG not in tags or tags.get(_HOST_TAG) != socket.gethostname():
        return False
    theirs, ours = tags.get(_MACHINE_TAG), _machine()  # earlier versions wrote none
    if theirs not in (None, ours):
        (machine, boot, namespace), (own_machine, own_boot, own_namespace) = theirs.split(" "), ours.split(" ")
        is_this_one = machine == own_machine != _UNKNOWN and namespace == own_namespace == _FIRST_NAMESPACE
        return is_this_one and boot != own_boot
    return not _is_alive(tags[_PROCESS_TAG])


def close_dead_runs(client: "MlflowClient") -> None:
    """End as FAILED the runs, in all experiments, whose process on this machine is gone: killed outright, it cannot do so itself.

    So end runs that `mlflow run` made and no process ever took, too, an hour after they were made.
    """
    experiments = [each.experiment_id for each in client.search_experiments()]
    running = "attributes.status = 'RUNNING'"
    for run in client.search_runs(experiments, f"{running} and tags.`{_HOST_TAG}` = '{socket.gethostname()}'"):
        if is_dead(run.data.tags):
            end_as_failed(client, run.info.run_id, "its process was killed")
    own = f"tags.`mlflow.source.name` = '{_name_of_project()}' and tags.`mlflow.source.type` = 'PROJECT'"
    for run in client.search_runs(experiments, f"{running} and {own}"):
        if _was_never_started(run):
            end_as_failed(client, run.info.run_id, "`mlflow run` made it, and no process began it within an hour")


def end_as_failed(client: "MlflowClient", run_id: str, reason: str) -> None:
    client.set_tag(run_id, REASON_TAG, reason)
    client.set_terminated(run_id, "FAILED")


def _name_of_project() -> str:
    """What MLflow calls this project in the tags of its runs: the address that git knows of it, or its folder."""
    from mlflow.tracking._tracking_service.utils import _get_git_url_if_present

    return _get_git_url_if_present(str(_PROJECT)).replace("'", "")


def _was_never_started(run: "Run") -> bool:
    tags = run.data.tags
    untouched = _PROCESS_TAG not in tags and "entry_point" not in tags
    return untouched and time.time() - run.info.start_time / 1000 > _NEVER_STARTED


def _is_alive(process_id: str) -> bool:
    """Whether `PID@START` still runs; its start tells it from a later process with the same number."""
    pid, start = process_id.split("@")
    try:
        process = psutil.Process(int(pid))
        started_then = abs(process.create_time() - float(start)) < _CLOCK_TOLERANCE
        return started_then and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    """This machine, since when it runs, and the space of numbers that its processes have here: three words, `unknown` where not known.

    On Linux, that is; elsewhere a container is a Linux of its own.
    """
    words = _first_line_of("/etc/machine-id"), _first_line_of("/proc/sys/kernel/random/boot_id"), _namespace()
    return " ".join(words)


def _first_line_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip() or _UNKNOWN
    except (OSError, ValueError):
        return _UNKNOWN


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return _UNKNOWN
