"""The real X-rays, laid out for tests and searched for copies once for all of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fracture_mae.data import loading


def listing(source: Path) -> pd.DataFrame:
    """A row for each published file: its `image`, `label`, `published_name` and more."""
    return pd.read_csv(source / "listing.csv")


def contents(source: Path) -> pd.DataFrame:
    """The first row of each content; its place is its name in `nameless`."""
    return listing(source).drop_duplicates("image").reset_index(drop=True)


def prepare(source: Path, root: Path) -> None:
    """Make folders `published`, `nameless` and `cache` below `root`.

    In `nameless` each content stands once, called 0001.jpg, 0002.png, …; by these names, which tell nothing, they are searched for
    copies, and as links are remembered by the contents, all else that takes this cache goes by what was found so.
    """
    command = [sys.executable, source / "materialise.py", root / "published"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for row in contents(source).itertuples():
        file = root / "nameless" / row.label / f"{row.Index:04}{Path(row.image).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "images" / row.image, file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(root / "cache"))
        loading.load(str(root / "nameless"), image_size=32)
