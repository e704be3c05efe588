"""Boxes in COCO's JSON: pictures in `images`, boxes in `annotations` (https://cocodataset.org/#format-data)."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fracture_mae.data.reading.box_files.drawn import EDGES, Drawn
from fracture_mae.errors import FractureMaeError, first_line

logger = logging.getLogger(__name__)

_NAMED = ".coco.json"


def read(file: Path, *, certain: bool = False) -> Drawn | None:
    """The boxes of a JSON file: x, y, width and height in pixels of the picture whose size stands there; None where it holds others.

    Args:
        certain: it is meant to be read so; otherwise, one that holds something else is passed over, unless its name says COCO.

    Raises:
        FractureMaeError: it is damaged, or an annotation is; names it.
    """
    certain = certain or file.name.lower().endswith(_NAMED)
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        if certain:
            raise FractureMaeError(
                f"{file} is no JSON that can be read: {first_line(error)}. Expected: COCO's, with images and annotations. Replace "
                "it, or leave all boxes out with --boxes none."
            ) from None
        logger.warning("%s is no JSON that can be read, and not looked at for boxes: %s.", file, first_line(error))
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in ("images", "annotations")):
        if certain:
            raise FractureMaeError(f"{file} lacks images or annotations. Expected: COCO's JSON, which lists both.")
        return None
    return Drawn.of(str(file), file.parent, pd.DataFrame(_rows(found, file)))


def _rows(found: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    images = {str(each["id"]): each for each in _listed(found["images"], ("id", "file_name"), "image", file)}
    categories = _listed(found.get("categories") or [], ("id",), "category", file)
    findings = {str(each["id"]): str(each.get("name", "")) for each in categories}
    rows, drawn = [], set()
    for annotation in _listed(found["annotations"], ("image_id",), "annotation", file):
        place = f"annotation {annotation.get('id', '?')}"
        image = images.get(str(annotation["image_id"]))
        if image is None:
            raise _wrong(file, place, f"image_id {annotation['image_id']!r}", "the id of one of its images")
        drawn.add(str(image["id"]))
        edges = dict(zip(EDGES, _edges(annotation.get("bbox"), file, place), strict=True))
        finding = findings.get(str(annotation.get("category_id")), "")
        rows.append(_picture(image, file) | edges | {"finding": finding, "place": place})
    none = [image for id_, image in images.items() if id_ not in drawn]
    return rows + [_picture(image, file) | {"place": f"image {image['id']}"} for image in none]


def _listed(found: Any, keys: tuple[str, ...], kind: str, file: Path) -> list[dict[str, Any]]:
    for number, each in enumerate(found if isinstance(found, list) else [found]):
        missing = [key for key in keys if not isinstance(each, dict) or key not in each]
        if missing:
            raise _wrong(file, f"{kind} number {number}", f"no {missing[0]}", " and ".join(keys))
    return found


def _picture(image: dict[str, Any], file: Path) -> dict[str, Any]:
    size = {side: image.get(side) for side in ("width", "height")}
    if None in size.values():
        size = dict.fromkeys(size, np.nan)
    elif not all(isinstance(value, int | float) and value > 0 for value in size.values()):
        raise _wrong(file, f"image {image['id']}", f"a size of {size['width']} x {size['height']}", "pixels")
    return {"name": str(image["file_name"]), "file": str(file)} | size


def _edges(bbox: Any, file: Path, place: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError):
        x = y = width = height = np.nan
    if not np.isfinite([x, y, width, height]).all():
        raise _wrong(file, place, f"bbox {bbox!r}", "bbox [x, y, width, height], four numbers")
    return x, y, x + width, y + height


def _wrong(file: Path, place: str, found: str, expected: str) -> FractureMaeError:
    return FractureMaeError(
        f"{file}: {place} has {found}. Expected: {expected}. Correct it, or leave all boxes out with --boxes none."
    )
