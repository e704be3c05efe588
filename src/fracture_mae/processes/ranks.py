"""Which of several processes this one is, as the launcher says in the environment; nothing here needs PyTorch.

`torchrun`, `accelerate launch` and `launching` all number the processes of a training: rank 0 is the first. It alone prints, shows
progress, talks to MLflow and writes checkpoints.
"""

import json
import logging
import os
import sys
import threading
import time
import traceback
import warnings

LEADER = "FRACTURE_MAE_LEADER"  # process id of the entry point that started this rank and speaks for it
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # where the launcher looks for what ended a rank
_PARENT_CHECK = 1.0  # seconds


def rank() -> int:
    """Number of this process among all of the training, from 0."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Processes of the training, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    return rank() == 0


def under_launcher() -> bool:
    """Whether something else has started this process as one of a training's."""
    return "RANK" in os.environ


def is_led() -> bool:
    """Whether an entry point of this project started this rank, opened the run and will close it."""
    return LEADER in os.environ


def behave() -> None:
    """Let a rank live and speak as one of several: only the first is heard, and none outlives its leader."""
    if is_led():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if not is_first():
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")


def report(error: BaseException, sentence: str = "", *, follows: bool = False) -> None:
    """Tell the launcher what ended this rank, in the form that torchrun reads.

    Args:
        sentence: for the user; empty where there is none, as of a bug.
        follows: whether it only follows from another rank's end.
    """
    if ERROR_FILE not in os.environ:
        return
    details = {
        "py_callstack": traceback.format_exc(),
        "timestamp": str(int(time.time())),
        "sentence": sentence,
        "follows": follows,
    }
    message = {"message": f"{type(error).__name__}: {error}", "extraInfo": details}
    with open(os.environ[ERROR_FILE], "w", encoding="utf-8") as file:
        json.dump({"message": message}, file)


def _end_with(parent: int) -> None:
    """A leader that is killed outright cannot end its ranks: they notice that they have another parent."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK)
    os._exit(1)
