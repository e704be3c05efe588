"""What a model was made from, kept so that any copy of it is found again among other X-rays."""

import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from fracture_mae.data import loading
from fracture_mae.data.copies import search
from fracture_mae.data.copies.keypoints import shrink
from fracture_mae.data.copies.links import Searched, as_table
from fracture_mae.data.types import Dataset, Leakage
from fracture_mae.errors import FractureMaeError, first_line

WITH_LABEL, PICTURE_ONLY = "with label", "picture only"
_FILE, _OLD_FILE = "shown.zip", "seen.txt"
_QUALITY = 90  # of a thumbnail's JPEG
_PREFIX = "shown/"  # of a thumbnail's id in a search: it is not the content that it was made from


@dataclass(frozen=True)
class Shown:
    """The X-rays that a model, and whatever it started from, was shown before anyone judged it.

    Of each X-ray all contents are known by their SHA-256, 64 bytes each, and one picture, shrunk to 256 pixels, by which the search
    for copies finds it under any other bytes: 8 to 10 kB.

    Attributes:
        contents: sha256, and how it was shown: "with label" to a classifier, or "picture only" to an autoencoder.
        thumbnails: sha256 → JPEG, one of each X-ray; how it was shown stands in `contents`.
    """

    contents: pd.Series
    thumbnails: dict[str, bytes]

    @classmethod
    def of(cls, dataset: Dataset, how: str) -> "Shown":
        """What training on this dataset shows: of each X-ray for training and validation, also without label, all files."""
        table = pd.concat([dataset.index[dataset.index["split"] != "test"], dataset.added], ignore_index=True)
        area = table["height"] * table["width"]
        largest = table.loc[area.groupby(table["group"]).idxmax()].drop_duplicates("sha256")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(lambda path: _encoded(loading.read_picture(path)), largest["path"])
            bar = tqdm(made, "Keeping thumbnails", len(largest), unit="X-ray", leave=False)
            thumbnails = dict(zip(largest["sha256"], bar, strict=True))
        contents = sorted(set(table["sha256"]))
        return cls(pd.Series(how, index=pd.Index(contents, dtype=object), dtype=object), thumbnails)

    @classmethod
    def nothing(cls) -> "Shown":
        return cls(pd.Series(dtype=object), {})

    def __or__(self, other: "Shown") -> "Shown":
        """Both; what one of them was shown with its label counts so."""
        labelled = [each.contents[each.contents == WITH_LABEL] for each in (self, other)]
        contents = pd.concat([*labelled, self.contents, other.contents])
        contents = contents[~contents.index.duplicated()].sort_index()
        return Shown(contents, other.thumbnails | self.thumbnails)

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        with zipfile.ZipFile(folder / _FILE, "w") as file:
            file.writestr("contents.csv", self.contents.rename("shown").to_csv(index_label="sha256"))
            for content, picture in self.thumbnails.items():
                file.writestr(f"thumbnails/{content}.jpg", picture)

    @classmethod
    def load(cls, folder: Path) -> "Shown | None":
        """What `save` wrote there; None where nothing is known.

        Raises:
            FractureMaeError: it is damaged.
        """
        if (folder / _FILE).exists():
            try:
                return cls._read(folder / _FILE)
            except (zipfile.BadZipFile, KeyError, ValueError) as error:
                raise FractureMaeError(
                    f"{folder / _FILE}, which says what the model was shown, is damaged: {first_line(error)}. Without it nobody "
                    "can tell whether X-rays leak. Register the model anew, or take another."
                ) from error
        if (folder / _OLD_FILE).exists():  # of earlier versions, which knew bytes alone
            contents = (folder / _OLD_FILE).read_text(encoding="ascii").split()
            return cls(pd.Series(WITH_LABEL, index=pd.Index(contents, dtype=object), dtype=object), {})
        return None

    @classmethod
    def _read(cls, path: Path) -> "Shown":
        with zipfile.ZipFile(path) as file:
            contents = pd.read_csv(io.BytesIO(file.read("contents.csv")), index_col="sha256", dtype=object)["shown"]
            names = [name for name in file.namelist() if name.startswith("thumbnails/")]
            return cls(contents, {Path(name).stem: file.read(name) for name in names})

    def among_test(self, dataset: Dataset) -> pd.Series:
        """How each X-ray of test was shown: index group; "with label", "picture only", or "" where it was not.

        A file of the X-ray that stands on another side counts too, as the references are fitted there; so does a copy of it in any
        encoding, cropped, turned or mirrored, and so does another X-ray of the same patient.
        """
        index = dataset.index.drop_duplicates("sha256").set_index("sha256")
        test = dataset.test.table.drop_duplicates("sha256").set_index("sha256")
        leaky = index.loc[index["split"] != "test", "patient"]
        found = [pd.Series(WITH_LABEL, index=pd.Index(leaky.unique(), dtype=object), dtype=object)]
        here = self.contents[self.contents.index.isin(index.index)]
        found.append(pd.Series(here.to_numpy(), index=index.loc[here.index, "patient"].to_numpy(), dtype=object))
        # Contents that are here were searched for copies with all others; unless copies were told otherwise.
        elsewhere = [each for each in self.thumbnails if dataset.group_by != "content" or each not in index.index]
        found += [self._by_picture(test, elsewhere)]
        strongest = pd.concat(found).sort_values().groupby(level=0).last()  # "picture only" < "with label"
        how = test["patient"].map(strongest).astype(object).fillna("")
        return how.groupby(test["group"]).max().rename(None).rename_axis(None)

    def _by_picture(self, test: pd.DataFrame, elsewhere: Sequence[str]) -> pd.Series:
        """Patient of a test X-ray → how one of the thumbnails shows it."""
        if not elsewhere:
            return pd.Series(dtype=object)
        known = [_PREFIX + content for content in elsewhere]

        def read(id_: str) -> np.ndarray:
            if id_.startswith(_PREFIX):
                return _decoded(self.thumbnails[id_.removeprefix(_PREFIX)])
            return loading.read_picture(test.loc[id_, "path"])

        ids = [*known, *test.index]
        links = search.find(read, ids, searched=Searched(sorted(known), as_table()), num_workers=os.cpu_count())
        together = search.groups(links, ids)
        by_strength = sorted(elsewhere, key=self.contents.__getitem__)  # of copies the last one counts: "with label"
        how = pd.Series({together[_PREFIX + content]: self.contents[content] for content in by_strength}, dtype=object)
        of_test = together[test.index].map(how)
        return pd.Series(of_test.to_numpy(), index=test["patient"].to_numpy(), dtype=object).dropna()


def leakage_of(how: pd.Series, dataset: Dataset) -> Leakage:
    """In shares, what `Shown.among_test` found; of validation what the split lets through."""
    shares = {"with_label": (how == WITH_LABEL).mean(), "picture_only": (how == PICTURE_ONLY).mean()}
    return replace(dataset.leakage, **{name: float(share) for name, share in shares.items()})


def _encoded(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", shrink(picture), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _decoded(picture: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
