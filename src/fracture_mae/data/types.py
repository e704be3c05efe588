"""X-ray files, split and not."""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from fracture_mae.data import boxes
from fracture_mae.data.copies.links import as_table
from fracture_mae.data.reading import preprocessing
from fracture_mae.errors import FractureMaeError

PREDICTED = [
    "path",
    "sha256",
    "label",
    "group",
    "patient",
    "source",
]  # columns of the table of files, in each prediction


UNLABELLED = -1  # label of a file that nobody labelled; never a class
UNLABELLED_NAME = "unlabelled"
_SQUARE = "square"  # column of tables that have a row for each square of a file: its number


@dataclass(frozen=True)
class XRays:
    """The X-ray files of one split.

    Attributes:
        name: "train", "validation" or "test"; "external" for test where all are somebody else's X-rays.
        table: a row per file: path, label, label_name, sha256, bytes, height, width, group, patient, source, boxes, where each lies in
            its square (scale_x, scale_y, left, top, see `Placement`), preprocess (how it got there, the same for all), what a CSV says
            besides (see `attributes`) and more. Group
            is equal for the files of one X-ray; patient for those of one patient, whom no split, fold or draw may part: where nothing
            is known of patients, it is the X-ray.
        pixels: uint8 [N, image_size, image_size], memory-mapped, of all X-rays in the cache.
        rows: int64 [n], where in `pixels` each file of `table` stands: its middle square where it became several, see `squares`.
    """

    name: str
    table: pd.DataFrame
    pixels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def label(self) -> np.ndarray:
        """int64 [n], 1 is positive.

        Raises:
            FractureMaeError: not all files have a label: what asks for it must not take these for negative.
        """
        missing = int((self.table["label"] == UNLABELLED).sum())
        if missing:
            raise FractureMaeError(
                f"{missing:,} of {len(self):,} X-rays in {self.name} have no label, and this step needs the label of each. Only "
                "reconstruct_baseline and finetune_mae work without labels; give all others labelled X-rays alone."
            )
        return self.table["label"].to_numpy()

    @property
    def known_label(self) -> np.ndarray:
        """float32 [n], 1 is positive, NaN where there is no label: a loss that reads it is NaN too."""
        return self.table["label"].where(self.table["label"] != UNLABELLED).to_numpy(np.float32, na_value=np.nan)

    @property
    def group(self) -> np.ndarray:
        """[n], equal for files made from one X-ray."""
        return self.table["group"].to_numpy()

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes around the fractures of each file: float32 [n, M, 4], M the most that a file has, NaN where it has fewer.

        Left, upper, right and lower edge in shares of the stored square, in [0, 1].
        """
        return boxes.in_square(self.table, self.pixels.shape[-1])

    @property
    def has_boxes(self) -> np.ndarray:
        """bool [n]: whether it is known where the fracture is. Without, a fractured X-ray's place is unknown; others need no box."""
        return ~np.isnan(self.boxes).all(axis=(1, 2))

    @property
    def place_is_known(self) -> np.ndarray:
        """bool [n]: `has_boxes`; of one square of several also where the boxes lie in another one."""
        return (boxes.texts_of(self.table) != "").to_numpy() if _SQUARE in self.table else self.has_boxes

    @property
    def preprocess(self) -> str:
        """How the pictures became squares, see `preprocessing`."""
        return str(self.table["preprocess"].iloc[0])

    @property
    def n_squares(self) -> int:
        """How many squares became of each file, k; of those that `squares` tells apart, each is one."""
        if _SQUARE in self.table or "preprocess" not in self.table or not len(self):
            return 1
        return preprocessing.n_squares(self.preprocess)

    def squares(self) -> "XRays":
        """The same files with a row for each of their squares, those of a file in a row: n · k rows."""
        if self.n_squares == 1:
            return self
        number = np.tile(np.arange(self.n_squares), len(self))
        offset = number - self.n_squares // 2
        table = self.table.loc[np.repeat(self.table.index, self.n_squares)].reset_index(drop=True)
        for side, step in (("left", "step_x"), ("top", "step_y")):
            table[side] += offset * table[step]
        table[_SQUARE] = number
        return XRays(self.name, table, self.pixels, np.repeat(self.rows, self.n_squares) + offset)

    @property
    def shown_label(self) -> np.ndarray:
        """`known_label`, but 0 for a square that shows none of the boxes of its X-ray: what it shows is not broken."""
        if _SQUARE not in self.table:
            return self.known_label
        elsewhere = self.place_is_known & ~self.has_boxes
        return np.where(elsewhere, np.float32(0), self.known_label)

    def images(self, positions: np.ndarray) -> np.ndarray:
        """uint8 [len(positions), image_size, image_size]."""
        return self.pixels[self.rows[positions]]

    def subset(self, positions: np.ndarray) -> "XRays":
        return XRays(self.name, self.table.iloc[positions].reset_index(drop=True), self.pixels, self.rows[positions])


@dataclass(frozen=True)
class Leakage:
    """What was shown before of the X-rays that a model is judged or chosen on; false where that is nothing.

    Attributes:
        with_label: share of the test X-rays that were shown with their label, in training or validation.
        picture_only: share of those whose picture alone was shown, to the encoder.
        validation: share of the validation X-rays that stand in training too: epoch, calibration and threshold are chosen on them.
    """

    with_label: float = 0.0
    picture_only: float = 0.0
    validation: float = 0.0

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def __str__(self) -> str:
        if not self:
            return "0%"
        told = [f"of the test X-rays {' and '.join(self._of_test())} were shown in training"] if self._of_test() else []
        if self.validation:
            told.append(f"of the validation X-rays {_percent(self.validation)} stand in training too")
        return "; ".join(told)

    def lines(self) -> list[str]:
        """The same in lines of at most fifty letters; none where there is none."""
        told = [f"test shown, {', '.join(self._of_test())}"] if self._of_test() else []
        return told + ([f"{_percent(self.validation)} of validation is in training"] if self.validation else [])

    def _of_test(self) -> list[str]:
        return [f"{_percent(getattr(self, name))} {how}" for name, how in _SHOWN.items() if getattr(self, name)]


def _percent(share: float) -> str:
    """Whole, unless that would make it nothing."""
    return f"{share:.0%}" if share >= 0.005 else f"{100 * share:.1g}%"


_SHOWN = {"with_label": "with label", "picture_only": "as picture only"}


@dataclass(frozen=True)
class Dataset:
    """X-rays, split.

    Attributes:
        name: short name of where they come from.
        index: a row per usable file, byte-identical ones too, see `XRays.table`, with split and split_published.
        rejected: files that are not used: path and reason.
        label_names: of the negative and the positive class; None where the files have no labels.
        leakage: what the split lets through, and, where a model is judged, what it was shown besides; none for the grouped split.
        fingerprint: 16 hexadecimal digits of all contents and their labels.
        split_fingerprint: the same of contents, labels and splits.
        unlabelled: X-rays without labels that were looked at besides (`unlabelled_dir`): a row per usable file, as in `index`, and
            left_out, why a file is not in training, "" where it is. They stand in `train` alone, and in no fingerprint but their own.
        links: pairs of contents that show the same X-ray, with the evidence: columns of `links.Link`, a and b as sha256; none
            unless grouped by content.
        group_by: what made files copies of one X-ray: "content", "names" or "column".
    """

    name: str
    index: pd.DataFrame
    rejected: pd.DataFrame
    train: XRays
    validation: XRays
    test: XRays
    label_names: tuple[str, str] | None
    leakage: Leakage
    fingerprint: str
    split_fingerprint: str
    links: pd.DataFrame = field(default_factory=as_table)
    group_by: str = "content"
    unlabelled: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def added(self) -> pd.DataFrame:
        """Those of `unlabelled` that are trained on."""
        return self.unlabelled[self.unlabelled["left_out"] == ""] if len(self.unlabelled) else self.unlabelled

    @property
    def unlabelled_fingerprint(self) -> str:
        """16 hexadecimal digits of the contents of `added`; empty where there are none."""
        contents = " ".join(sorted(set(self.added["sha256"]))) if len(self.added) else ""
        return hashlib.sha256(contents.encode()).hexdigest()[:16] if contents else ""

    @property
    def preprocess(self) -> str:
        """How the pictures became squares, see `preprocessing`."""
        return str(self.index["preprocess"].iloc[0])

    @property
    def sides(self) -> tuple[XRays, XRays, XRays]:
        """Training, validation and test."""
        return self.train, self.validation, self.test


@dataclass(frozen=True)
class Files:
    """Every readable file, before any is set aside: byte-identical ones too, and those under both labels.

    Attributes:
        name: short name of where they come from.
        table: a row per file: path, label, label_name, split_published, scope, given_patient, given_xray, given_group, given_split,
            given_source, given_uid, sha256, bytes,
            row, height, width and preprocess and those of `Placement` and `Encoding`; index 0, 1, 2, …
        rejected: files that cannot be read: path and reason.
        label_names: of the negative and the positive class.
        pixels: uint8 [N, image_size, image_size] that `row` points into.
    """

    name: str
    table: pd.DataFrame
    rejected: pd.DataFrame
    label_names: tuple[str, str]
    pixels: np.ndarray

    @property
    def preprocess(self) -> str:
        """How the pictures became squares, see `preprocessing`."""
        return str(self.table["preprocess"].iloc[0])

    def xrays(self, table: pd.DataFrame) -> XRays:
        """Rows of the table as X-rays."""
        table = table.reset_index(drop=True)
        return XRays("all", table, self.pixels, table["row"].to_numpy(dtype=np.int64))
