"""Where boxes may be kept: which files beside X-rays hold any."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from fracture_mae.data.reading.box_files import coco, csv_columns, label_files, yolo
from fracture_mae.data.reading.box_files.drawn import Drawn
from fracture_mae.data.reading.identities import real_path
from fracture_mae.errors import FractureMaeError

_TABLE = "boxes.csv"
_ANNOTATIONS = "annotations"  # folder of COCO's own data set


def beside(root: Path, files: pd.DataFrame) -> list[Drawn]:
    """Whatever boxes there are: columns of the CSV; boxes.csv and COCO's JSON in the folder, beside the CSV or beside pictures; YOLO's
    texts beside pictures or in a folder `labels`.

    Args:
        root: the folder or CSV that the X-rays were read from.
        files: the X-rays' columns path (absolute) and sha256.
    """
    own = csv_columns.read(root) if root.is_file() and root.name.lower() != _TABLE else None
    top = root.parent if root.is_file() else root
    found = [own, *_in_folders(_with_those_above({Path(real_path(path)).parent for path in files["path"]}, top))]
    texts = label_files.beside(files, top)
    found += [yolo.read(texts, str(top), certain=False)] if texts else []
    return [drawn for drawn in found if drawn is not None]


def named(option: str, files: pd.DataFrame) -> list[Drawn]:
    """The boxes that an option names: a CSV, a JSON file, or a folder of these or of YOLO's texts.

    Raises:
        FractureMaeError: there is no such file, or it holds no boxes.
    """
    place = Path(real_path(os.path.abspath(os.path.expanduser(option)))).resolve()
    found: list[Drawn | None] = []
    if place.is_dir():
        found = [*_in_folders([place, *sorted(each for each in place.rglob("*") if each.is_dir())])]
        texts = label_files.below(place, files)
        found += [yolo.read(texts, str(place), certain=not found)] if texts else []
    elif place.suffix.lower() == ".csv" and place.is_file():
        found = [csv_columns.read(place)]
    elif place.suffix.lower() == ".json" and place.is_file():
        found = [coco.read(place, certain=True)]
    found = [drawn for drawn in found if drawn is not None]
    if not found:
        what = "holds no boxes of these X-rays" if place.exists() else "does not exist"
        raise FractureMaeError(
            f"--boxes {option}: {place} {what}. Expected: a CSV with image,x0,y0,x1,y1, a JSON file of COCO's, a folder that holds "
            "these or YOLO's texts; or auto, or none."
        )
    return found


def _with_those_above(folders: set[Path], top: Path) -> list[Path]:
    """The folders, those above them as far as the top, and the top; sorted."""
    above = {each for folder in folders for each in folder.parents if each.is_relative_to(top)}
    return sorted({top, *folders, *above})


def _in_folders(folders: Sequence[Path]) -> Iterator[Drawn]:
    """boxes.csv and COCO's JSON in these folders, and in a folder `annotations` of one."""
    places = sorted({*folders, *(folder / _ANNOTATIONS for folder in folders)})
    names = ((place, name) for place in places for name in sorted(label_files.names_in(place)))
    for place, name in names:
        if name.lower() == _TABLE:
            drawn = csv_columns.read(place / name)
            if drawn is None:
                raise FractureMaeError(
                    f"{place / name} has no columns of boxes. Expected: image,x0,y0,x1,y1. Add them, or give it another name."
                )
            yield drawn
        elif name.lower().endswith(".json") and (drawn := coco.read(place / name)) is not None:
            yield drawn
