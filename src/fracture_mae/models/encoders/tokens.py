"""What every encoder is to those who train it, judge it or look at it: grey pixels in, tokens of the cells of a grid out."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from fracture_mae.errors import FractureMaeError
from fracture_mae.models.attention import AUTO, use_attention
from fracture_mae.models.autoencoder import WEIGHTS
from fracture_mae.models.pixels import Normalisation


@dataclass(frozen=True)
class Tokens:
    """What an encoder makes of pictures.

    Attributes:
        patches: [B, K, d], of the cells of the grid that are shown; where all are, K = rows · columns, row by row.
        cls: [B, d], the summary token; None where the architecture has none.
        shown: int64 [B, K], numbers of the cells shown, row by row from 0; None: all, in their order.
    """

    patches: torch.Tensor
    cls: torch.Tensor | None
    shown: torch.Tensor | None = None


class Encoder(nn.Module):
    """A network and the normalisation it was made with; takes grey pixels in [0, 1] and gives `Tokens`.

    Args:
        network: as transformers builds it.
        normalisation: of its input.
        image_size: side of the pictures [pixels].
        source: where its weights are from, to be told.

    Attributes:
        preprocess: how X-rays become the squares that it takes, see `data.reading.preprocessing`; None: it does not say.
        start: what it began as, "random" numbers or "weights" that were pretrained elsewhere, whatever training it had here since.
        grid: rows and columns of the cells that a picture falls into.
        width: features d of a token.
        has_cls: whether there is a summary token.
        drop_rates: chance of each block to be skipped for a picture while training.
        patch_dropout: share of cells that are left out while training.
    """

    grid: tuple[int, int]
    width: int
    has_cls: bool

    def __init__(self, network: PreTrainedModel, normalisation: Normalisation, image_size: int, source: str = ""):
        super().__init__()
        use_attention(network, AUTO)
        self.network = network
        self.normalisation = normalisation
        self.image_size = image_size
        self.source = source
        self.preprocess: str | None = None
        self.start = WEIGHTS
        self.drop_rates: list[float] = []
        self.patch_dropout = 0.0

    @property
    def named(self) -> str:
        """The kind of network and where it is from."""
        return f"{type(self.network).__name__} ({self.source})" if self.source else type(self.network).__name__

    @property
    def n_patches(self) -> int:
        """Cells of a picture: L = rows · columns."""
        return self.grid[0] * self.grid[1]

    @property
    def blocks(self) -> list[nn.Module]:
        """What follows each other in the network and adds to its input, such as the layers of a transformer."""
        raise NotImplementedError

    @property
    def can_skip_blocks(self) -> bool:
        """Whether `drop_path` can be obeyed."""
        raise NotImplementedError

    @property
    def can_leave_out_patches(self) -> bool:
        """Whether `patch_dropout` can be obeyed."""
        raise NotImplementedError

    @property
    def n_draws(self) -> int:
        """Random numbers that a picture needs while training: one for each cell, then one for each block."""
        return self.n_patches + len(self.blocks)

    def forward(self, pixels: torch.Tensor, chance: torch.Tensor | None = None) -> Tokens:
        """Grey [B, 1, H, W] in [0, 1] → tokens.

        Args:
            chance: float32 [B, n_draws] in [0, 1), decides while training which cells and blocks are left out; None: drawn here.
        """
        raise NotImplementedError

    def regularise(self, *, drop_path: float = 0.0, patch_dropout: float = 0.0) -> None:
        """Set what is left out while training.

        Args:
            drop_path: chance that the last block is skipped for a picture, rising linearly from 0 at the first one (Huang et al.,
                "Deep Networks with Stochastic Depth", ECCV 2016).
            patch_dropout: share of cells that are left out, which regularises and saves their time (Liu et al., "PatchDropout",
                WACV 2023).

        Raises:
            FractureMaeError: the architecture cannot do so, or no cell would stay.
        """
        if patch_dropout and not self.can_leave_out_patches:
            raise FractureMaeError(
                f"--patch-dropout {patch_dropout}: {self.named} cannot leave out patches, since it reckons with all of them being "
                "there. Take 0, or auto."
            )
        if drop_path and not self.can_skip_blocks:
            raise FractureMaeError(
                f"--drop-path {drop_path}: {self.named} has no layer that could be skipped, as far as can be seen. Take 0, or auto."
            )
        if int(self.n_patches * (1 - patch_dropout)) < 1:
            raise FractureMaeError(
                f"--patch-dropout {patch_dropout} leaves none of the {self.n_patches} patches of an image; at least one must stay. "
                "Take a smaller share or a larger --image-size."
            )
        self.drop_rates = torch.linspace(0, drop_path, len(self.blocks)).tolist()
        self.patch_dropout = patch_dropout

    def depth_of(self, name: str) -> int:
        """How deep a weight lies: 0 before the blocks, 1 … N in them, N + 1 behind them.

        Args:
            name: of a parameter of `network`.
        """
        raise NotImplementedError

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay is for a parameter of `network`: not for biases, norms and tokens."""
        raise NotImplementedError

    def shown(self, chance: torch.Tensor | None) -> torch.Tensor | None:
        """Numbers of the cells to show, int64 [B, K]; None: all of them."""
        if not (self.training and self.patch_dropout):
            return None
        return chance[:, : self.n_patches].argsort(dim=1)[:, : int(self.n_patches * (1 - self.patch_dropout))]

    def described(self) -> str:
        """What its tokens depend on besides the weights."""
        raise NotImplementedError
