"""Checkpoints of a training run: whole or not there, found again by what was trained rather than by a run's name."""

import errno
import hashlib
import json
import logging
import os
import pickle
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from fracture_mae.config import Computing, FinetuneMae, OperatingOptions, TrainClassifier
from fracture_mae.data import boxes
from fracture_mae.data.reading import preprocessing
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.reading.cache_folder import link_or_copy
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.processes import ranks
from fracture_mae.training.schedule import Progress

_WEIGHTS, _OPTIMIZER = "model.safetensors", "optimizer.bin"
_KEPT_WEIGHTS = "kept.safetensors"
_PROGRESS = "progress.json"
_SUMS = "sha256.json"  # of the other files
_RESULT = "result.json"
_HELD = 2  # epochs: the last one, and one to fall back on should it be damaged
_CHEAP_SECONDS = 1.0
_SHARE = 0.1  # of the time that dearer checkpoints may take

# Parameters that have no say in what weights a training ends with; the initial weights and the split are looked at themselves.
_WITHOUT_SAY = {
    *(
        "data_dir",
        "positive_label",
        "boxes",
        "image_size",
        "preprocess",
        "num_workers",
        "device",
        "resume",
        "n_figures",
    ),
    *(
        "model",
        "encoder",
        "reference_encoder",
        "calibrate",
        "threshold",
        "min_sensitivity",
        "cross_validate",
        "seeds",
        "unlabelled_dir",
    ),
    *OperatingOptions.model_fields,
    *Computing.model_fields,
}


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Whole:
    """A checkpoint that was read and is as it was written."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    progress: Progress


class Checkpoints:
    """The checkpoints of one training, in a folder named by what is trained; use as a context manager.

    Args:
        root: folder of all trainings' checkpoints.
        name: of this training, see `training_name`.
        resume: go on from the last checkpoint; otherwise earlier ones are removed.
        run_id: of the present run, remembered in `Progress.run_ids`.

    Raises:
        FractureMaeError: on entering, another process is at the same training.
    """

    def __init__(self, root: Path, name: str, *, resume: bool, run_id: str = ""):
        self.folder = root / name
        self.resume = resume
        self.run_id = run_id
        self._lock = FileLock(root / f"{name}.lock")
        self._kept: dict[str, torch.Tensor] | None = None  # weights to keep that no checkpoint holds yet
        self._written, self._took = 0.0, 0.0

    def __enter__(self) -> "Checkpoints":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FractureMaeError(
                f"another process is training this very configuration on these X-rays (it holds {self._lock.lock_file}). "
                "Wait for it, or change a parameter, such as --seed."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def restore(self, model: nn.Module, optimizer: Optimizer) -> Progress:
        """Load the last whole checkpoint, whatever processes wrote it; an empty `Progress` where there is none.

        Damaged ones are told of and removed: what is left is a checkpoint of an epoch earlier, or the beginning.
        """
        while self.resume and (latest := self._latest()):
            try:
                found = _read(latest)
                optimizer.load_state_dict(found.optimizer)
                model.load_state_dict(found.weights)
            except _DAMAGES as error:
                if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
                    raise FractureMaeError(
                        f"the checkpoint {latest} cannot be read: {error.strerror}. Run again when it can; --resume never starts anew "
                        "without it."
                    ) from error
                self._drop(latest, error)
            else:
                found.progress.run_ids.append(self.run_id)
                return found.progress
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        return Progress(run_ids=[self.run_id])

    def offer(
        self, model: nn.Module, optimizer: Optimizer, progress: Progress, *, keep: bool, is_last: bool = False
    ) -> None:
        """Write an epoch's state, or leave it to a later epoch where writing would take a good part of the time.

        The last epoch's is always written, and every epoch's where that takes less than a second. Otherwise at most a tenth of the
        time is spent on writing, and a training that is killed goes on from a few epochs earlier.

        Args:
            keep: whether these weights are the ones to keep; they are remembered until they are written.
        """
        is_cheap = self._took < _CHEAP_SECONDS
        if is_last or is_cheap or time.monotonic() - self._written > self._took / _SHARE:
            started = time.monotonic()
            self.write(model, optimizer, progress, keep=keep)
            self._written = time.monotonic()
            self._took = self._written - started
        elif keep:
            self._kept = {name: value.clone() for name, value in _state_of(model).items()}

    def write(self, model: nn.Module, optimizer: Optimizer, progress: Progress, *, keep: bool) -> None:
        """Write an epoch's state beside the last one's, then let a rename make it the valid one.

        It is on the disk, not only on the way there, before an earlier one is removed, of which one stays.
        """
        previous = self._latest()
        target = self.folder / f"epoch-{progress.epochs_done:06d}"
        beside = self.folder / f"unfinished-{target.name}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            save_file(_state_of(model), beside / _WEIGHTS)
            torch.save(optimizer.state_dict(), beside / _OPTIMIZER)
            if keep:
                link_or_copy(beside / _WEIGHTS, beside / _KEPT_WEIGHTS)
            elif self._kept:
                save_file(self._kept, beside / _KEPT_WEIGHTS)
            else:
                shutil.copyfile(
                    previous / _KEPT_WEIGHTS, beside / _KEPT_WEIGHTS
                )  # damaged, a second name would be, too
            (beside / _PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
            (beside / _SUMS).write_text(json.dumps(_sums(beside)), encoding="utf-8")
            _flush(beside)
        except BaseException:  # such as a disk that is full, of which this takes a part
            shutil.rmtree(beside, ignore_errors=True)
            raise
        self._kept = None
        shutil.rmtree(target, ignore_errors=True)
        os.replace(beside, target)
        _flush_folder(self.folder)
        for earlier in sorted(self.folder.glob("epoch-*"))[:-_HELD]:
            shutil.rmtree(earlier)

    def load_kept(self, model: nn.Module) -> None:
        """Put the kept epoch's weights into `model`."""
        model.load_state_dict(load_file(self._latest() / _KEPT_WEIGHTS))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Keep the result of the finished training, as JSON, instead of its checkpoints."""
        beside = self.folder / f"unfinished-{_RESULT}"
        beside.write_text(json.dumps(result), encoding="utf-8")
        _flush_file(beside)
        os.replace(beside, self.folder / _RESULT)
        _flush_folder(self.folder)
        for epoch in self.folder.glob("epoch-*"):
            shutil.rmtree(epoch)

    def result(self) -> dict[str, Any] | None:
        """What `finish` kept, unless it is damaged, or the training is to start anew."""
        kept = self.folder / _RESULT
        if not (self.resume and kept.exists()):
            return None
        try:
            return json.loads(kept.read_text(encoding="utf-8"))
        except ValueError as error:
            self._drop(kept, error)
            return None

    def remove(self) -> None:
        """Forget this training, once its result is stored elsewhere."""
        shutil.rmtree(self.folder)

    def _latest(self) -> Path | None:
        return max(self.folder.glob("epoch-*"), default=None)

    def _drop(self, damaged: Path, error: Exception) -> None:
        """Remove what cannot be gone on from, and say so."""
        if damaged.is_dir():
            shutil.rmtree(damaged)
        else:
            damaged.unlink()
        latest = self._latest()
        instead = f"{latest.name}, the one before it" if latest else "the beginning, as there is no other"
        logger.warning(
            "%s is damaged (%s), as after a power cut or on a full disk. Training goes on from %s. With --resume never it starts anew.",
            damaged,
            first_line(error),
            instead,
        )


class NoCheckpoints(Checkpoints):
    """What a process that is not the first has in their place: it reads and writes nothing, the first does that for all."""

    def __init__(self) -> None:
        self.run_id = ""

    def __enter__(self) -> "NoCheckpoints":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restore(self, model: nn.Module, optimizer: Optimizer) -> Progress:
        return Progress()

    def offer(
        self, model: nn.Module, optimizer: Optimizer, progress: Progress, *, keep: bool, is_last: bool = False
    ) -> None:
        pass

    def load_kept(self, model: nn.Module) -> None:
        pass

    def finish(self, result: Mapping[str, Any]) -> None:
        pass

    def result(self) -> dict[str, Any] | None:
        return None

    def remove(self) -> None:
        pass


def training_name(kind: str, model: nn.Module, settings: Mapping[str, Any]) -> str:
    """A name that two trainings share only if they do the same: same kind, same settings, same initial weights."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(_state_of(model).items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return f"{kind}-{digest.hexdigest()[:16]}"


def _state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def open_checkpoints(
    model: nn.Module, dataset: Dataset, config: FinetuneMae | TrainClassifier, run_id: str
) -> Checkpoints:
    """The checkpoints of exactly this training: same settings, same split, same initial weights.

    Args:
        run_id: of the present MLflow run.
    """
    if not ranks.is_first():
        return NoCheckpoints()
    settings = {key: value for key, value in config.model_dump().items() if key not in _WITHOUT_SAY}
    settings["split_fingerprint"] = dataset.split_fingerprint
    if len(dataset.added):
        settings["unlabelled_fingerprint"] = dataset.unlabelled_fingerprint
    known = boxes.fingerprint(dataset.train.table)
    if known and isinstance(config, TrainClassifier):  # an autoencoder learns nothing from them
        settings["boxes"] = known
    if made := preprocessing.suffix(dataset.preprocess):
        settings["preprocess"] = made
    name = training_name(type(config).__name__, model, settings)
    return Checkpoints(cache_root() / "checkpoints", name, resume=config.resume == "auto", run_id=run_id)


# What the readers raise at files that were cut, overwritten or are gone.
_DAMAGES = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)


def _read(folder: Path) -> _Whole:
    """A checkpoint, none of which is used before all of it is read; those of earlier versions have no sums.

    Raises:
        one of _DAMAGES: it is not as it was written.
    """
    if (folder / _SUMS).exists() and json.loads((folder / _SUMS).read_text(encoding="utf-8")) != _sums(folder):
        raise ValueError("its files are not those that were written")
    load_file(folder / _KEPT_WEIGHTS)
    optimizer = torch.load(folder / _OPTIMIZER, map_location="cpu", weights_only=True)
    progress = Progress(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))
    return _Whole(load_file(folder / _WEIGHTS), optimizer, progress)


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint but that of the sums; of two names for one file once."""
    known: dict[int, str] = {}
    sums = {}
    for file in sorted(folder.iterdir()):
        number = file.stat().st_ino
        if file.name == _SUMS:
            continue
        if number not in known or not number:
            with open(file, "rb") as content:
                known[number] = hashlib.file_digest(content, "sha256").hexdigest()
        sums[file.name] = known[number]
    return sums


def _flush(folder: Path) -> None:
    """Have the files of a folder, and their names, reach the disk."""
    for file in folder.iterdir():
        _flush_file(file)
    _flush_folder(folder)


def _flush_file(file: Path) -> None:
    with open(file, "rb+") as content:
        os.fsync(content.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # where folders cannot be opened, and need no flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that know no flush of folders
            raise
    finally:
        os.close(descriptor)
