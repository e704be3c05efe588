"""The machine that was measured, in words and numbers."""

import platform
from pathlib import Path

import psutil
import torch

from benchmarks.workload import Workload


def describe(workload: Workload) -> dict[str, object]:
    """What a figure depends on besides the project."""
    device = workload.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "bf16_on_processor": torch.cpu._is_avx512_bf16_supported(),
        "precision": workload.precision,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def sentence(machine: dict[str, object], workload: Workload) -> str:
    """Such as `vit-mae-base at 224 pixels in bf16 on AMD EPYC, 2 threads; 200 X-rays in batches of 32; …`."""
    config = workload.config
    where = machine["processor"] if workload.device.type == "cpu" else machine["device"]
    quick = "QUICK RUN, the figures tell nothing and no bar applies: " if config.quick else ""
    return (
        f"{quick}{workload.mae.source} at {workload.mae.image_size} pixels in {workload.precision} on {where}, "
        f"{machine['threads']} threads; {len(workload.xrays):,} X-rays in batches of {config.batch_size}; "
        f"medians of {config.repeats} rounds at most."
    )


def _processor() -> str:
    """Its name as the system gives it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [
            line.partition(":")[2].strip() for line in listing.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
