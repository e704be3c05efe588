"""What a page is made of. All texts are text: what looks like markup in a file's name is shown as it is written."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fracture_mae import plots
from fracture_mae.models import map_pictures

_WIDE = 900  # pixels


@dataclass(frozen=True)
class Prose:
    """Markdown, see `markdown`."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows without their index; numbers are written with three decimals, what is missing is left blank.

    caption: what the rows are; it stands above them. sortable: whether another order would tell a reader anything.
    """

    kind: ClassVar[str] = "table"
    rows: pd.DataFrame
    caption: str = ""
    sortable: bool = True

    @property
    def cells(self) -> list[list[str]]:
        return [[cell(value) for value in row] for row in self.rows.itertuples(index=False, name=None)]


@dataclass(frozen=True)
class Picture:
    """A PNG. text: what is on it, for those who cannot see it."""

    kind: ClassVar[str] = "picture"
    png: bytes
    text: str

    @classmethod
    def of(cls, figure: Figure, text: str) -> "Picture":
        return cls(plots.png(figure), text)

    @classmethod
    def of_pixels(cls, pixels: np.ndarray, text: str) -> "Picture":
        """From red, green and blue, uint8 [h, w, 3]."""
        return cls(map_pictures.png(pixels), text)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height [pixels], as the file's header says."""
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])

    @property
    def is_wide(self) -> bool:
        """Whether it is better moved sideways than shrunk where there is little room."""
        return self.size[0] >= _WIDE

    @property
    def data(self) -> str:
        """As the address of an image."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Card:
    """One X-ray: pictures side by side, two in a row, below them smaller ones in a row, and below these name → text."""

    pictures: tuple[Picture, ...]
    told: Mapping[str, str]
    small: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Cards:
    """X-rays side by side under a heading."""

    kind: ClassVar[str] = "cards"
    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Folded:
    """Prose that opens by a click, and is printed whole."""

    kind: ClassVar[str] = "folded"
    title: str
    text: str


Block = Prose | Table | Picture | Cards | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; without anything below it there is no heading."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())

    @property
    def filled(self) -> list[Block]:
        """The blocks that hold anything."""
        return [block for block in self.blocks if not _is_empty(block)]


def _is_empty(block: Block) -> bool:
    if isinstance(block, Table):
        return block.rows.empty
    if isinstance(block, Cards):
        return not block.cards
    return isinstance(block, Prose | Folded) and not block.text.strip()


def cell(value: object) -> str:
    """A value as a reader wants it: 3 decimals, from 1,000 on none; words for yes and no; blank where there is none."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return str(value)
