"""Batches of X-rays on the device: the next one is gathered in the background while the present one is computed."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fracture_mae.data.types import XRays
from fracture_mae.models.pixels import to_unit
from fracture_mae.training.sending import sent

T, U, Model = TypeVar("T"), TypeVar("U"), TypeVar("Model", bound=nn.Module)
_RESIDENT_SHARE = 0.25  # of a device's free memory that pixels may take for good


@dataclass(frozen=True)
class Batch:
    """X-rays on the device.

    Attributes:
        pixels: grey, float32 [B, 1, H, W] in [0, 1].
        label: float32 [B], 1 is positive.
        weight: float32 [B], of each X-ray's loss in the loss of its step.
        boxes: around its fractures, float32 [B, M, 4] as `XRays.boxes` has them: shares of the square, NaN where there are fewer.
    """

    pixels: torch.Tensor
    label: torch.Tensor
    weight: torch.Tensor
    boxes: torch.Tensor

    @property
    def boxed(self) -> torch.Tensor:
        """bool [B]: whether it is known where the fracture is."""
        return ~self.boxes[..., 0].isnan().all(dim=1)


@dataclass(frozen=True)
class Gathered:
    """What `Batch` is made of, on the device or on its way there.

    Attributes:
        pixels: uint8 [B, H, W].
        numbers: label, weight and the edges of M boxes, float32 [2 + 4 · M, B]: sent at once.
    """

    pixels: torch.Tensor
    numbers: torch.Tensor

    def batch(self) -> Batch:
        label, weight, edges = self.numbers[0], self.numbers[1], self.numbers[2:]
        return Batch(to_unit(self.pixels), label, weight, edges.T.reshape(len(label), len(edges) // 4, 4))


class Pixels(Protocol):
    """Where the pixels of X-rays come from."""

    def __call__(self, positions: np.ndarray) -> torch.Tensor:
        """uint8 [len(positions), H, W] on the device."""


class MappedPixels:
    """Pixels read from the memory-mapped file, as often as they are asked for."""

    def __init__(self, xrays: XRays, device: torch.device):
        self._xrays = xrays
        self._device = device

    def __call__(self, positions: np.ndarray) -> torch.Tensor:
        return sent(torch.from_numpy(self._xrays.images(positions)), self._device)


class ResidentPixels:
    """Pixels that were brought to the device once and stay there."""

    def __init__(self, xrays: XRays, device: torch.device):
        # In pieces: a copy of all that the file holds would not fit every machine's memory.
        pieces = np.array_split(np.arange(len(xrays)), max(1, len(xrays) // 1024))
        self._pixels = torch.cat([sent(torch.from_numpy(xrays.images(piece)), device) for piece in pieces])

    def __call__(self, positions: np.ndarray) -> torch.Tensor:
        return self._pixels[sent(torch.from_numpy(positions), self._pixels.device)]


class ChangedPixels:
    """Pixels read from the memory-mapped file and changed there, on the processor, before they go to the device.

    Args:
        change: of pictures, uint8 [B, H, W], to new ones of the same shape.
    """

    def __init__(self, xrays: XRays, device: torch.device, change: Callable[[np.ndarray], np.ndarray]):
        self._xrays = xrays
        self._device = device
        self._change = change

    def __call__(self, positions: np.ndarray) -> torch.Tensor:
        return sent(torch.from_numpy(self._change(self._xrays.images(positions))), self._device)


def pixels_of(xrays: XRays, device: torch.device) -> Pixels:
    """Where training reads pixels: on a GPU with memory to spare from that, elsewhere from the memory-mapped file."""
    n_bytes = len(xrays) * xrays.pixels[:1].nbytes
    if device.type == "cuda" and n_bytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return ResidentPixels(xrays, device)
    return MappedPixels(xrays, device)


def gather(xrays: XRays, pixels: Pixels, positions: np.ndarray, weight: np.ndarray | float = 1.0) -> Gathered:
    """X-rays at `positions`; `weight` is theirs: [len(positions)], or one for all."""
    there = pixels(positions)
    edges = xrays.boxes[positions].reshape(len(positions), 4 * xrays.boxes.shape[1])
    numbers = np.vstack([xrays.label[positions], np.broadcast_to(weight, len(positions)), edges.T]).astype(np.float32)
    return Gathered(there, sent(torch.from_numpy(numbers), there.device))


def batch_of(xrays: XRays, positions: np.ndarray, device: torch.device, weight: np.ndarray | float = 1.0) -> Batch:
    """X-rays at `positions`, on the device; `weight` is theirs: [len(positions)], or one for all."""
    return gather(xrays, MappedPixels(xrays, device), positions, weight).batch()


class Ahead(Generic[T, U]):
    """`make(item)` for each item in turn, the next one in a background thread while the present one is used.

    Attributes:
        waited: seconds that the loop over it has waited so far.
    """

    def __init__(self, make: Callable[[T], U], items: Sequence[T]):
        self._make = make
        self._items = items
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[T, U]]:
        """Yields each item and what was made of it; an error in the making is raised when its turn comes."""
        if not self._items:
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="gather") as thread:
            coming = thread.submit(self._make, self._items[0])
            for item, following in zip(self._items, [*self._items[1:], None], strict=True):
                started = time.perf_counter()
                made = coming.result()
                self.waited += time.perf_counter() - started
                if following is not None:
                    coming = thread.submit(self._make, following)
                yield item, made


class InFlight:
    """The steps that a GPU was given and has not finished: never more than two, so that progress is what was really done."""

    def __init__(self, device: torch.device):
        self._device = device
        self._steps: deque[torch.cuda.Event] = deque()

    def wait(self) -> None:
        """Note that one more was given to it, and wait until no more than two are unfinished."""
        if self._device.type != "cuda":
            return
        given = torch.cuda.Event()
        given.record()
        self._steps.append(given)
        if len(self._steps) > 2:
            self._steps.popleft().synchronize()


def to_device(model: Model, device: torch.device) -> Model:
    """Bring a model to the device, so that it can still be trained there: weights that are moved in inference mode cannot."""
    with torch.inference_mode(False):
        return model.to(device)


def in_batches(xrays: XRays, batch_size: int, device: torch.device, description: str) -> Iterator[Batch]:
    """All X-rays in order, for validation and prediction, with a progress bar."""
    pixels = MappedPixels(xrays, device)
    starts = range(0, len(xrays), batch_size)
    positions = [np.arange(start, min(start + batch_size, len(xrays))) for start in starts]
    with tqdm(total=len(xrays), desc=description, unit="X-ray", leave=False) as bar:
        for chosen, gathered in Ahead(lambda chosen: gather(xrays, pixels, chosen), positions):
            yield gathered.batch()
            bar.update(len(chosen))
