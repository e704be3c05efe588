"""Labels of place: how much of each patch of an X-ray, as training shows it, lies inside a box."""

import torch

POINTS = 4  # along each side of a patch, at whose centres boxes are looked for


def patch_labels(
    boxes: torch.Tensor, affine: torch.Tensor | None, grid: tuple[int, int], points: int = POINTS
) -> torch.Tensor:
    """The share of each patch that lies inside any box, wherever augmentation has moved it: float32 [B, rows · columns].

    Boxes stay upright rectangles of the stored square; instead of them the points of the patches are moved, back to where these were
    before. So no corner of a turned box is cut off or filled up. What was outside of the square, such as the corners that a
    rotation lays bare, is in no box.

    Args:
        boxes: float32 [B, M, 4], left, upper, right and lower edge in shares of the stored square; NaN is no box.
        affine: float32 [B, 2, 3], from places of what is shown to places of the stored square, as `Augment.moved` gives them and
            `F.affine_grid` takes them with align_corners=False; None: shown as it is stored.
        grid: rows and columns of patches, which the labels follow in reading order.
        points: along each side of a patch that are looked at; a label is a whole number of points² parts.
    """
    n_rows, n_columns = grid
    x, y = (_centres(n * points, boxes) for n in (n_columns, n_rows))
    place = torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))]).expand(len(boxes), 2, -1)  # in reading order
    if affine is not None:  # not as a matrix product: autocast would round places to 1/256
        place = affine[:, :, :1] * place[:, :1] + affine[:, :, 1:2] * place[:, 1:] + affine[:, :, 2:]
    low, high = (2 * boxes - 1).mT.unsqueeze(2).chunk(2, dim=1)  # [B, 2, 1, M] each
    place = place.unsqueeze(3)  # [B, 2, points, 1]
    inside = ((place >= low) & (place < high)).all(dim=1).any(dim=-1)
    by_patch = inside.view(len(boxes), n_rows, points, n_columns, points)
    return by_patch.to(boxes.dtype).mean(dim=(2, 4)).flatten(1)


def _centres(n: int, like: torch.Tensor) -> torch.Tensor:
    """Centres of n equal parts of [-1, 1]."""
    return (2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1
