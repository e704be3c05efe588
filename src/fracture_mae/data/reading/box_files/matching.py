"""Which X-ray a box belongs to, by the name of the picture that stands beside it."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from fracture_mae.data.reading.box_files.drawn import Drawn
from fracture_mae.data.reading.identities import real_path
from fracture_mae.errors import FractureMaeError


def path_of(drawn: Drawn, table: pd.DataFrame) -> pd.Series:
    """The file that each row's name means: its path, "" where no file is called so.

    A name is a path that starts at the folder of the boxes, or else the end of a path, or else, where the folders are others, the
    file's own name, if one file alone and one name alone are called so. Of files with equal bytes it may be any.

    Args:
        table: columns path and sha256 of the files.

    Raises:
        FractureMaeError: several files may be meant.
    """
    files = dict(zip(table["path"], table["sha256"], strict=True))
    shown = {real_path(path): path for path in files}  # some names are hashed, but not in what names the boxes
    alike = defaultdict(list)
    for path in shown:
        alike[os.path.basename(path)].append(path)
    names = drawn.table["name"].drop_duplicates()
    claims = Counter(_basename(name) for name in names)
    found = {}
    for row, name in names.items():
        plain = name.replace("\\", "/")
        exact = os.path.normpath(drawn.base / plain)
        exact = exact if exact in shown else os.path.realpath(exact)
        if exact in shown:
            found[name] = shown[exact]
            continue
        candidates = [path for path in alike[_basename(name)] if path.endswith("/" + plain.removeprefix("./"))]
        if not candidates and claims[_basename(name)] == 1:
            candidates = alike[_basename(name)]
        candidates = [shown[path] for path in candidates]
        if len({files[path] for path in candidates}) > 1:
            raise _ambiguous(drawn.table.loc[row], candidates)
        found[name] = candidates[0] if candidates else ""
    return drawn.table["name"].map(found)


def _basename(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _ambiguous(row: pd.Series, candidates: Sequence[str]) -> FractureMaeError:
    return FractureMaeError(
        f"{row['file']}: {row['place']} names the picture {row['name']}, which may be {candidates[0]} or {candidates[1]}. Expected: a "
        f"name that one X-ray alone has. Write its path, starting at {Path(row['file']).parent}."
    )
