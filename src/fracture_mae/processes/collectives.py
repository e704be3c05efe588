"""What the processes of a training do together; in a single process each of these does the obvious.

All of them must be called by every process, in the same order.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import distributed, nn
from torch.optim import Optimizer

from fracture_mae.processes import ranks

T = TypeVar("T")


def are_several() -> bool:
    """Whether there is another process to talk to."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def share(n: int) -> np.ndarray:
    """This process's part of n things: int64 positions in order; all parts together hold each position once."""
    return np.array_split(np.arange(n), _world_size())[ranks.rank() if are_several() else 0]


def gather(part: T) -> list[T]:
    """The parts of all processes, the first one's first, for every process."""
    return gather_object([part]) if are_several() else [part]


def broadcast(value: T) -> T:
    """The first process's value, for every process."""
    return broadcast_object_list([value])[0] if are_several() else value


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives the first process, for every process; the others do not call it."""
    return broadcast(make() if ranks.is_first() or not are_several() else None)


def first_goes_ahead() -> AbstractContextManager:
    """The first process does it, and then the others, who find what it left in the cache."""
    return PartialState().main_process_first() if are_several() else nullcontext()


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    return reduce(value, "sum") if are_several() else value


def copy_weights_of_first(model: nn.Module) -> None:
    """Let the models of all processes have the first one's weights."""
    if are_several():
        for tensor in [*model.parameters(), *model.buffers()]:
            distributed.broadcast(tensor.data, src=0)


def copy_optimizer_of_first(optimizer: Optimizer) -> None:
    """Let the optimizers of all processes have the first one's state."""
    if are_several():
        state = from_first(lambda: _on_cpu(optimizer.state_dict()))
        optimizer.load_state_dict(state)


def lost_another(error: BaseException) -> bool:
    """Whether an error says no more than that another process of the training is gone."""
    if ranks.world_size() == 1:
        return False
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "closed by peer"))


def goes_on_alone() -> bool:
    """Part from the other processes, once nothing is left to be shared; whether this one goes on, as only the first does."""
    if are_several():
        distributed.destroy_process_group()
    return ranks.is_first()


def _world_size() -> int:
    return distributed.get_world_size() if are_several() else 1


def _on_cpu(state: object) -> object:
    """A state dict whose tensors another process can take over, whatever its device is called."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    return state
