"""The loss of patches, where boxes say which of them show a fracture."""

import torch
from torch.nn import functional as F


def place_loss(logit: torch.Tensor, inside: torch.Tensor, label: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each X-ray's patches against where its boxes are, [B].

    A fractured X-ray with boxes: half of its loss is the mean inside the boxes, where patches are to say fractured, half the mean
    outside, where they are not, so that a small box is not drowned by all that lies around it. A patch that a box covers in part is
    inside by that share and outside by the rest: no line between the two has to be chosen, and a box that is smaller than a patch
    has its patch all the same. Where one of the two is not shown, as with patch dropout, its half is 0.

    An X-ray that is not fractured: the mean over all patches, which are not to say fractured. A fractured one without boxes: 0, its
    label alone teaches.

    Args:
        logit: [B, K], of the patches that are shown.
        inside: [B, K] in [0, 1], share of each of these patches that lies in a box.
        label: [B], 0 or 1.
        known: bool [B], whether the X-ray has boxes, shown or not.
    """
    covered = torch.where(known.unsqueeze(1), inside, 0).float()
    within = _weighted_mean(F.softplus(-logit), covered)  # -log p
    outside = _weighted_mean(F.softplus(logit), 1 - covered)  # -log(1 - p)
    of_fractured = torch.where(known, (within + outside) / 2, 0)
    return torch.where(label > 0.5, of_fractured, F.softplus(logit).mean(dim=1))


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Over patches [B, K] → [B]; 0 where no patch has a weight."""
    total = weight.sum(dim=1)
    return (values * weight).sum(dim=1) / torch.where(total > 0, total, 1)
