"""Which text file holds a picture's boxes: the one that is called as the picture is, beside it or in a folder `labels`."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from fracture_mae.data.reading.identities import real_path
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

_LABELS, _IMAGES = "labels", "images"
_ABOUT_ALL = {
    "classes",
    "readme",
    "notes",
    "train",
    "val",
    "valid",
    "test",
    "obj",
    "labels",
    "requirements",
}  # of no picture


def beside(files: pd.DataFrame, top: Path) -> dict[str, Path]:
    """The text file of each picture that has one.

    At first, at the picture's own place: beside it, in its folder's folder `labels`, below `labels` where the picture is below
    `images`, and below the top's `labels` as it is below the top. Then, in a folder `labels` beside its own, or in the top.

    Args:
        files: columns path and sha256.

    Raises:
        FractureMaeError: of several pictures each may be meant.
    """
    listed: dict[str, set[str]] = {}
    found, flat = {}, set()
    for path in files["path"]:
        folder, name = os.path.split(real_path(path))
        text = os.path.splitext(name)[0] + ".txt"
        flat |= {os.path.join(os.path.dirname(folder), _LABELS), str(top / _LABELS)}
        for place in _own_places(folder, str(top)):
            if place not in listed:
                listed[place] = set(names_in(place))
            if text in listed[place]:
                found[path] = Path(place, text)
                break
    used = set(found.values())
    others = files[~files["path"].isin(found)]
    for labels in sorted(Path(each) for each in flat if os.path.isdir(each)):
        inside = others["path"].str.startswith(f"{labels.parent}{os.sep}")
        texts = [text for text in sorted(labels.rglob("*.txt")) if text not in used]
        found |= _by_name(texts, labels, others[inside])
    return found


def names_in(folder: str | Path) -> list[str]:
    """What is in a folder; nothing where there is none, or it may not be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def below(folder: Path, files: pd.DataFrame) -> dict[str, Path]:
    """The text file of each picture that has one anywhere in a folder, told by the end of their paths, or by name alone.

    Raises:
        FractureMaeError: of several pictures each may be meant.
    """
    return _by_name(sorted(folder.rglob("*.txt")), folder, files)


def _own_places(folder: str, top: str) -> Iterator[str]:
    yield folder
    yield os.path.join(folder, _LABELS)
    parts = folder.split(os.sep)
    if _IMAGES in parts:
        last = len(parts) - 1 - parts[::-1].index(_IMAGES)
        yield os.sep.join([*parts[:last], _LABELS, *parts[last + 1 :]])
    if folder.startswith(top + os.sep):
        yield os.path.join(top, _LABELS, os.path.relpath(folder, top))


def _by_name(texts: Sequence[Path], base: Path, files: pd.DataFrame) -> dict[str, Path]:
    content = dict(zip(files["path"], files["sha256"], strict=True))
    called = defaultdict(list)
    for path in content:
        called[Path(path).stem].append(path)
    n_texts = Counter(text.stem for text in texts)
    found, strangers = {}, []
    for text in texts:
        end = f"{os.sep}{text.relative_to(base).with_suffix('')}"
        pictures = [path for path in called[text.stem] if os.path.splitext(path)[0].endswith(end)]
        if not pictures and n_texts[text.stem] == 1:
            pictures = called[text.stem]
        if len({content[path] for path in pictures}) > 1:
            raise FractureMaeError(
                f"{text} may hold the boxes of {pictures[0]} or of {pictures[1]}. Expected: one picture of that name. Put it beside "
                "its picture, or into folders called as the picture's are."
            )
        found |= dict.fromkeys(pictures, text)
        if not pictures and text.stem.lower() not in _ABOUT_ALL:
            strangers.append(text)
    if strangers:
        logger.warning(
            "%d of %d text files in %s belong to no X-ray here, the first of them %s: they are not read.",
            *(len(strangers), len(texts), base, strangers[0].relative_to(base)),
        )
    return found
