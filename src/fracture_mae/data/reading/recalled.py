"""Files looked for again where they once lay, and known by their content: another file in the same place is not taken for them."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.data.reading import streaming
from fracture_mae.data.reading.identities import real_path
from fracture_mae.errors import FractureMaeError

NOT_KNOWN, GONE, CHANGED, UNREADABLE = (
    "it is not known where they lie",
    "no longer at their paths",
    "changed since",
    "unreadable",
)
_BATCH = 16


@dataclass(frozen=True)
class Found:
    """pixels: uint8 [size, size], the middle square; name: of the file, as shown."""

    pixels: np.ndarray
    name: str


def read(
    files: pd.DataFrame | None, contents: Collection[str], size: int, how: str
) -> tuple[dict[str, Found], dict[str, str]]:
    """By sha256 the contents that are still there, and of the others why not.

    Args:
        files: columns path, as shown (see `identities.real_path`), and sha256, such as a run's `splits.csv`; None: there is none.
        contents: sha256 of those that are wanted.
        size: side of the squares [pixels].
        how: a preprocessing.
    """
    missing = dict.fromkeys(contents, NOT_KNOWN)
    if files is None or not {"path", "sha256"} <= {*files}:
        return {}, missing
    listed = files[files["sha256"].isin(missing)].drop_duplicates(["path", "sha256"])
    missing |= dict.fromkeys(listed["sha256"], GONE)
    there = listed.assign(real=listed["path"].map(_real)).query("real != ''")
    found: dict[str, Found] = {}
    wanted = iter(zip(there["sha256"], there["path"], strict=True))
    for batch in streaming.read(there["real"].tolist(), size, how, batch_size=_BATCH, num_processes=0):
        squares = iter(batch.squares.numpy())
        for sha256, reason in zip(batch.sha256, batch.reason, strict=True):
            (content, path), picture = next(wanted), None if reason else next(squares)
            if sha256 and sha256 != content:
                missing[content] = CHANGED
            elif picture is None:
                missing[content] = UNREADABLE
            else:
                found[content] = Found(picture[len(picture) // 2], Path(path).name)
    return found, {content: reason for content, reason in missing.items() if content not in found}


def _real(path: object) -> str:
    """Where the file is that is shown as `path`; "" where there is none, or its name cannot be told from its hash."""
    try:
        real = real_path(str(path))
    except FractureMaeError:
        return ""
    return real if os.path.isfile(real) else ""
