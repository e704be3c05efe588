"""All changes together, each X-ray with its own draw."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fracture_mae.config.options import Augmentation
from fracture_mae.processes import ranks
from fracture_mae.training.source_augmentation import detail, frames, marks, tones

# A picture, uint8 [H, W], chance, and a strength in [0, 1] → a picture of the same shape.
Change = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]
# In the order in which they happen to a film on its way to a collection, each with its chance at full strength.
CHANGES: tuple[tuple[Change, float], ...] = (
    (marks.paint_out, 0.5),
    (tones.contrast_curve, 0.6),
    (tones.gamma, 0.5),
    (tones.equalise, 0.4),
    (tones.negative, 0.25),
    (detail.sharpness, 0.5),
    (detail.resolution, 0.5),
    (marks.paint_in, 0.5),
    (frames.frame, 0.75),
    (detail.noise, 0.5),
    (detail.jpeg, 0.7),
)
_MOST_THREADS = 8


@dataclass(frozen=True)
class SourceAugmentation:
    """Changes what tells of an X-ray's source and leaves its bone: tones, detail, marks and frames, each with a chance of its own.

    A label that hangs together with the source can then no longer be learnt from these. Many changes on top of one another, each by
    chance and of a random size, carry networks over to pictures of hospitals that they never saw (L. Zhang et al., "Generalizing
    deep learning for medical image segmentation to unseen domains via deep stacked transformation", IEEE TMI 39, 2020). What moves an
    X-ray in its picture is `training.augmentation`'s.

    Attributes:
        strength: in (0, 1], of the chance and the size of each change.
        n_threads: among which pictures are shared out.
    """

    strength: float
    n_threads: int = 1

    @classmethod
    def of(cls, config: Augmentation, device: torch.device) -> "SourceAugmentation | None":
        """None where `config` asks for none.

        Args:
            device: that trains; where it is not the processor, the processor's cores have nothing else to do.
        """
        if not config.source_augmentation:
            return None
        own_cores = os.cpu_count() // ranks.world_size()
        return cls(config.source_augmentation, 1 if device.type == "cpu" else max(1, min(own_cores, _MOST_THREADS)))

    def __call__(self, images: np.ndarray, seed: int, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W] → new ones of the same shape.

        Args:
            seed: of the step.
            rows: int64 [B], place of each in the whole step: its chance hangs on this and the seed alone.
        """
        one = partial(self._one, seed)
        if self.n_threads == 1:
            return np.stack(list(map(one, images, rows)))
        with ThreadPoolExecutor(self.n_threads) as pool:
            return np.stack(list(pool.map(one, images, rows)))

    def _one(self, seed: int, picture: np.ndarray, row: int) -> np.ndarray:
        rng = np.random.default_rng([seed, row])
        for (change, chance), coin in zip(CHANGES, rng.random(len(CHANGES)), strict=True):
            if coin < self.strength * chance:
                picture = change(picture, rng, self.strength)
        return picture
