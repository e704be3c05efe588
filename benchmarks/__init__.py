"""How fast the project is on the machine it runs on, each figure measured beside its alternative in the same run."""

import gc
from collections.abc import Iterator

import torch

from benchmarks.parts import PARTS
from benchmarks.results import Outcome, Skipped
from benchmarks.workload import Workload


def measure(workload: Workload) -> Iterator[Outcome]:
    """Run the parts that the config names, one after the other."""
    gc.freeze()  # so that collecting after each part does not look at the libraries
    for name in workload.config.parts:
        try:
            yield PARTS[name](workload)
        except torch.OutOfMemoryError:
            reason = f"memory does not suffice for batches of {workload.config.batch_size}; take a smaller --batch-size"
            yield Outcome([Skipped(name, name.replace("_", "-"), reason)])
        workload.accelerator.free_memory()  # it would keep the models of all parts before
        gc.collect()
        if workload.device.type == "cuda":
            torch.cuda.empty_cache()
