"""The device and arithmetic of a run, and its connection to other processes."""

import warnings
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import ranks
from fracture_mae.processes.memory import keep_freed_memory

# With another process, which may be searching many X-rays for copies; one that is dead is noticed at once.
_PATIENCE = timedelta(days=1)


def make_accelerator(precision: str, device: str) -> Accelerator:
    """The device and arithmetic of a run, and its connection to the other processes where a launcher has started several.

    Args:
        precision: "bf16", "fp32", or "auto": bf16 where the processor computes in it.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        FractureMaeError: PyTorch does not find the device, or several processes cannot share it.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not found.get(device, True):
        raise FractureMaeError(f"--device {device}: PyTorch finds no such device here. Use auto or cpu.")
    if ranks.world_size() > 1 and not found["cuda"]:
        if device == "mps":
            raise FractureMaeError("--device mps: only one process can train on it. Use --nproc 1, or --device cpu.")
        device = "cpu"
    if precision == "auto":
        on_cuda = found["cuda"] and device in ("auto", "cuda")
        on_mps = found["mps"] and device in ("auto", "mps")
        precision = "bf16" if _computes_in_bf16(on_cuda, on_mps) else "fp32"
    return _connected(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")


def _connected(**options: Any) -> Accelerator:
    """An accelerator that knows the other processes, if there are any."""
    # Of dimensions of size 1, whose strides mean nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    shared = [InitProcessGroupKwargs(timeout=_PATIENCE), DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    accelerator = Accelerator(**options, kwargs_handlers=shared if ranks.world_size() > 1 else None)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        # Of several processes accelerate numbers the processor, and PyTorch copies whatever is to go from cpu to cpu:0.
        for state in (PartialState(), accelerator.state):
            state.device = torch.device("cpu")
    return accelerator


def _computes_in_bf16(on_cuda: bool, on_mps: bool) -> bool:
    if on_cuda:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not on_mps and torch.cpu._is_avx512_bf16_supported()
