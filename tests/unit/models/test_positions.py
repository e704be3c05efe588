import torch
from torch.testing import assert_close

from fracture_mae.models.positions import interpolate_positions, sincos_positions


def test_interpolated_positions_lie_on_the_sincos_curves():
    """A grid twice as fine: new patch j has its centre at (j + 1/2) / 2 - 1/2 old patches."""
    positions = sincos_positions(14, 64)
    finer = interpolate_positions(positions, 28)
    centres = (torch.arange(28) + 0.5) / 2 - 0.5
    frequencies = 1 / 10_000 ** (torch.arange(16) / 16)
    angles = torch.outer(centres, frequencies)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    grid = finer[0, 1:].view(28, 28, 64)
    inner = slice(4, -4)  # bicubic needs neighbours
    for row, column in [(4, 20), (13, 13), (23, 7)]:
        assert_close(grid[row, inner, :32], axis[inner], rtol=0, atol=0.05)
        assert_close(grid[inner, column, 32:], axis[inner], rtol=0, atol=0.05)
    assert finer[:, 0].equal(positions[:, 0])
    assert_close(interpolate_positions(positions, 14), positions, rtol=0, atol=1e-6)
