"""Train a tiny classifier in processes that die again and again, then once in a process that does not; for test_training.py.

    python killed_training.py FOLDER

Writes FOLDER/killed.safetensors and FOLDER/whole.safetensors, and prints the processes' exit codes as JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from fracture_mae.config import TrainClassifier
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.training import checkpoints
from fracture_mae.training.checkpoints import Checkpoints
from tests import builders

CONFIG = TrainClassifier(epochs=10, batch_size=3, drop_path=0.3).settled("random")


def train(root: Path, name: str) -> None:
    classifier = classifier_stage.build(builders.tiny_encoder(), CONFIG)
    with Checkpoints(root, name, resume=True) as kept:
        classifier_stage.train(
            classifier,
            builders.dataset(),
            CONFIG,
            accelerator=make_accelerator("fp32", "cpu"),
            checkpoints=kept,
            log=lambda row, epoch: None,
        )
    save_file(classifier.state_dict(), root / f"{name}.safetensors")


def in_a_process(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Exit code of a forked process that did `work`, or was killed."""
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(state: dict, file: Path) -> None:
    save_file(state, file)
    os.truncate(file, file.stat().st_size // 2)
    die()


def train_until(owner: object, name: str, deadly: Callable) -> Callable[[Path, str], None]:
    """Training in which `owner.name` is `deadly`."""

    def deadly_training(root: Path, training: str) -> None:
        setattr(owner, name, deadly)
        train(root, training)

    return deadly_training


def after(function: Callable) -> Callable:
    def then_die(*args: object, **kwargs: object) -> None:
        function(*args, **kwargs)
        die()

    return then_die


DEATHS = [
    train_until(torch, "save", die),
    train_until(os, "replace", after(os.replace)),
    train_until(torch, "save", after(torch.save)),
    train_until(checkpoints, "save_file", write_half),
    train_until(os, "replace", die),
    train_until(shutil, "rmtree", after(shutil.rmtree)),
    train_until(checkpoints, "save_file", after(save_file)),
]


def main(root: Path) -> None:
    exits = [in_a_process(lambda death=death: death(root, "killed")) for death in DEATHS]
    exits += [in_a_process(lambda: train(root, "killed"), kill_after=random.uniform(0.02, 0.3)) for _ in range(6)]
    exits += [in_a_process(lambda name=name: train(root, name)) for name in ("killed", "whole")]
    print(json.dumps(exits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
