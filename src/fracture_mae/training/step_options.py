"""How a training step is computed: choices that change its speed and its memory, but not its result.

What is left at `auto` is measured once for a model, its images, batch, precision and device, and remembered in the cache.
"""

import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from fracture_mae.config import Computing
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.errors import first_line
from fracture_mae.models.attention import EAGER, SDPA, WRITTEN_OUT, use_attention, usual
from fracture_mae.models.autoencoder import Mae
from fracture_mae.models.blocks import are_alike
from fracture_mae.models.vit import recompute_activations
from fracture_mae.processes import collectives, ranks

Step = Callable[[], None]

_ROUNDS = 3  # timed steps of each candidate, after one that is not timed
_SHORT = 1.0  # seconds that measuring may always take
_SHARE = 0.05  # of the training to come that it may take otherwise
# Of the usual way's time: less may be noise, and with the rounding of another way the last digits of all results differ.
_CLEARLY = 0.95
COMPILE_SECONDS = 90.0  # guessed, until it was measured once
COMPILE_GAIN = 0.1  # share of a step's time that compiling is guessed to save

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepOptions:
    """What was asked for.

    Attributes:
        accumulation: parts that a process computes its share of a batch in, one after the other.
        checkpointing: recompute activations in the backward pass.
        attention: "sdpa", "eager", "written_out", see `use_attention`, or "auto": the fastest one.
        compile: whether to use torch.compile; "auto": where that pays.
        cuda_graphs: whether to record steps as CUDA graphs, where that is possible.
    """

    accumulation: int = 1
    checkpointing: bool = False
    attention: Literal["auto", "sdpa", "eager", "written_out"] = "sdpa"
    compile: Literal["auto"] | bool = False
    cuda_graphs: bool = False

    @classmethod
    def of(cls, config: Computing) -> "StepOptions":
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Chosen:
    """What steps are computed with."""

    attention: str
    compile: bool


class StepTimer:
    """A step to try things out with.

    Args:
        model: trained; attention is set in place.
        prepare: from what computes the forward pass, the model or what stands for it, to a step by it: forward and backward pass, no
            gradients left behind. The first one may take longer.
        key: of all that its time depends on, see `key_of`.
        device: what it is computed on.
        dtype: of its matrix products.
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[nn.Module], Step],
        key: str,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.model = model
        self.prepare = prepare
        self.key = key
        self.device = device
        self.dtype = dtype

    @cached_property
    def compiled(self) -> nn.Module:
        """What computes the same as the model, from the same weights, by compiled code."""
        return torch.compile(self.model, dynamic=False)  # its batches are all of one size

    def seconds(self, step: Step) -> float:
        """The time of one step; infinite where memory does not suffice."""
        try:
            started = time.perf_counter()
            step()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - started
        except torch.OutOfMemoryError:
            return math.inf


def choose(asked: StepOptions, probe: StepTimer, n_steps: int) -> Chosen:
    """Settle what was left at `auto`, and set up the model accordingly; all processes come to the same.

    Which attention is fastest on a processor in bf16 is known, see `usual`. Elsewhere it is measured where that takes a second, or a
    twentieth of the training to come; otherwise it is sdpa.

    torch.compile is tried where it may earn back what it costs: where a tenth (`COMPILE_GAIN`) of the training to come, by the
    time of a step measured here, is more than the 90 seconds (`COMPILE_SECONDS`) that compiling is guessed to take. Once both
    were measured, the guess gives way to them. On the processor that guess holds for ViTs and their like only, and others are not
    tried, see `is_soon_compiled`. Where compiling fails, as without a C++ compiler, training goes on without.

    Args:
        n_steps: the training to come, in steps like the probe's.
    """
    recompute_activations(probe.model, asked.checkpointing)
    known = _Known(cache_root() / "step-times-v3.json", probe.key)
    attention = asked.attention
    if attention == "auto":
        attention = usual(probe.device, probe.dtype) or _attention(probe, known, n_steps)
    use_attention(probe.model, attention)
    if asked.compile == "auto":
        tried = is_soon_compiled(probe.model, probe.device)
        return Chosen(attention, tried and _compiling_pays(probe, known, attention, n_steps))
    return Chosen(attention, asked.compile and _compiles(probe) is not None)


def key_of(
    model: nn.Module, images: tuple[int, ...], precision: str, step_options: StepOptions, device: torch.device
) -> str:
    """What the time of a step depends on: the model, number, height and width of its images, arithmetic, device and threads."""
    shapes = str([(name, tuple(value.shape)) for name, value in model.named_parameters() if value.requires_grad])
    described = {
        "model": f"{type(model).__name__} {hashlib.sha256(shapes.encode()).hexdigest()[:16]}",
        "images": images,
        "precision": precision,
        "checkpointing": step_options.checkpointing,
        "cuda_graphs": step_options.cuda_graphs,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "processes": ranks.world_size(),
        "torch": torch.__version__,
    }
    return json.dumps(described, sort_keys=True)


def fastest(seconds: Mapping[str, float], usual: str) -> str:
    """The candidate that takes least time, but the usual one unless another is clearly faster."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < _CLEARLY * seconds[usual] else usual


def is_soon_compiled(model: nn.Module, device: torch.device) -> bool:
    """Whether compiling may take about as long as it is guessed to; once begun it cannot be broken off.

    Layers that are alike share their code. On the processor every other one costs the C++ compiler's time anew: a convolutional
    network kept a busy one compiling for 17 minutes.
    """
    return device.type != "cpu" or isinstance(model, Mae) or are_alike(model)  # an MAE has those of its decoder, too


def is_worth_trying(step_seconds: float, n_steps: int) -> bool:
    """Whether torch.compile, of which nothing is known yet, may earn back its time."""
    return COMPILE_GAIN * step_seconds * n_steps > COMPILE_SECONDS


def pays(plain: float, compiled: float, compile_seconds: float, n_steps: int) -> bool:
    """Whether compiling, all of it known, saves time.

    Args:
        plain, compiled: time of a step without and with it [s].
    """
    return (plain - compiled) * n_steps > compile_seconds


def compared_on(device: torch.device) -> tuple[str, str]:
    """The kinds of attention that are measured where none is known to be the fastest, the usual one first."""
    return SDPA, WRITTEN_OUT if device.type == "cpu" else EAGER


def _attention(probe: StepTimer, known: "_Known", n_steps: int) -> str:
    seconds, compared = known.get("attention"), compared_on(probe.device)
    if seconds is None:
        use_attention(probe.model, SDPA)
        once = _seconds_of_usual(probe)
        allowed = max(_SHORT, _SHARE * n_steps * once)
        if once * len(compared) * (1 + _ROUNDS) > allowed:
            return SDPA
        seconds = _compared(probe, {name: (name, probe.model) for name in compared})
        known.put("attention", seconds)
    return fastest(seconds, SDPA)


def _compiling_pays(probe: StepTimer, known: "_Known", attention: str, n_steps: int) -> bool:
    seconds = known.get(f"compile {attention}")
    if seconds is not None:
        return pays(seconds["plain"], seconds["compiled"], seconds["compiling"], n_steps) and bool(_compiles(probe))
    plain = (known.get("attention") or {}).get(attention)
    if plain is None:
        plain = _seconds_of_usual(probe)
    if not is_worth_trying(plain, n_steps):
        return False
    compiling = _compiles(probe)
    if compiling is None:
        return False
    compared = _compared(probe, {"plain": (attention, probe.model), "compiled": (attention, probe.compiled)})
    known.put(f"compile {attention}", compared | {"compiling": compiling})
    return fastest(compared, "plain") == "compiled"  # its price is paid already


def _seconds_of_usual(probe: StepTimer) -> float:
    """Of a step of the model itself, by the first process's clock, after one that sets up what later ones find."""
    step = probe.prepare(probe.model)
    probe.seconds(step)
    took = probe.seconds(step)
    return collectives.from_first(lambda: took)


def _compiles(probe: StepTimer) -> float | None:
    """Seconds until the first compiled step was done; None, after a warning, where that fails in any process."""
    tqdm.write("compiling the first step, which takes a minute or two")
    torch._logging.set_logs(dynamo=logging.ERROR)  # it warns of what it leaves out, which changes no result
    started, reason = time.perf_counter(), None
    try:
        probe.prepare(probe.compiled)()
    except Exception as error:  # whatever a compiler that is missing, old or broken comes up with
        reason = first_line(error)
        torch.compiler.reset()
    reasons = [each for each in collectives.gather(reason) if each]
    if reasons:
        logger.warning("torch.compile does not work here (%s): training goes on without it.", reasons[0])
        return None
    return time.perf_counter() - started


def _compared(probe: StepTimer, candidates: Mapping[str, tuple[str, nn.Module]]) -> dict[str, float]:
    """Least seconds of a step of each candidate (attention, and what computes), in turns, by the first process's clock."""
    seconds = dict.fromkeys(candidates, math.inf)
    steps = {name: probe.prepare(forward) for name, (_, forward) in candidates.items()}
    for turn in range(1 + _ROUNDS):
        for name, (attention, _) in candidates.items():
            use_attention(probe.model, attention)
            took = probe.seconds(steps[name])
            if turn:
                seconds[name] = min(seconds[name], took)
    return collectives.from_first(lambda: seconds)


class _Known:
    """Times that were measured before, in a file that all trainings on this machine share; only the first process reads it."""

    def __init__(self, file: Path, key: str):
        self._file = file
        self._key = key

    def get(self, what: str) -> dict[str, float] | None:
        return collectives.from_first(lambda: self._read().get(self._key, {}).get(what))

    def put(self, what: str, seconds: Mapping[str, float]) -> None:
        if not ranks.is_first():
            return
        with suppress(OSError):  # full, or not ours to write: measured again the next time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock")):
                everything = self._read()
                everything.setdefault(self._key, {})[what] = dict(seconds)
                beside = self._file.with_suffix(".unfinished")
                beside.write_text(json.dumps(everything, indent=1), encoding="utf-8")
                os.replace(beside, self._file)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or damaged: measured anew
            return {}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{device.type} {platform.machine()}"
