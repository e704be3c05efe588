"""Where a picture lies in the square that a network is shown."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Placement:
    """The map from a file's decoded picture into the stored square: x' = scale_x · x + left, y' = scale_y · y + top.

    Coordinates are continuous, x to the right and y down, and count pixels: the first one reaches from 0 to 1. All four are in
    pixels of the square. What the square does not show lies outside of it: left and top may be negative.

    Attributes:
        scale_x: pixels of the square for each pixel of the picture, to the right.
        scale_y: the same downwards.
        left: where the picture's left edge lies.
        top: where its upper edge lies.
    """

    scale_x: float
    scale_y: float
    left: float
    top: float

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points of the picture [..., 2], x before y, as points of the square: float64 [..., 2]."""
        return np.asarray(points, dtype=np.float64) * (self.scale_x, self.scale_y) + (self.left, self.top)

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Points of the square [..., 2], x before y, as points of the picture: float64 [..., 2]."""
        return (np.asarray(points, dtype=np.float64) - (self.left, self.top)) / (self.scale_x, self.scale_y)
