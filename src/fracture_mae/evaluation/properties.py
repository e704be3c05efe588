"""What an X-ray tells without its bone: of the file, and of the picture that a network is shown.

Nothing here looks at the anatomy. A label that can be guessed from these numbers is a shortcut (R. Geirhos et al., "Shortcut
learning in deep neural networks", Nature Machine Intelligence 2, 2020): a network may learn it in place of fractures.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from fracture_mae.data.loading import read_picture
from fracture_mae.data.reading.decoding import letterbox
from fracture_mae.data.reading.preprocessing import LETTERBOX
from fracture_mae.data.types import XRays

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # any other comes after them
_BLACK = 8  # grey levels below which a pixel counts as black

SIZE = ("file size", "height", "width", "aspect ratio", "bytes per pixel")
ENCODING = ("format", "channels", "bit depth", "JPEG quality", "JPEG table deviation")
BORDER = ("border brightness", "border variation", "corner brightness", "black share")
VISIBLE = ("visible aspect ratio", *BORDER, "sharpness", "fine detail")


def of_files(xrays: XRays, progress: str = "") -> pd.DataFrame:
    """What each file tells without its bone: columns SIZE, ENCODING and BORDER, float64.

    Border: mean and standard deviation of the picture's outermost pixels, brightness of its corners, and share of black pixels in
    it, 0 to 1; bars that letterboxing added are left out. They are measured on the whole picture, however the X-rays are preprocessed.

    Args:
        progress: name of a progress bar; none if empty.
    """
    table = xrays.table
    height, width, size = (table[name].to_numpy(float) for name in ("height", "width", "bytes"))
    encoding = ("format", "channels", "bit_depth", "jpeg_quality", "jpeg_deviation")
    known = [
        *(size, height, width, width / height, size / (height * width)),
        *table[list(encoding)].assign(format=table["format"].map(_format_code)).to_numpy(float).T,
    ]
    borders = [border(picture) for picture in map(without_bars, _each_letterboxed(xrays, progress), height, width)]
    return pd.DataFrame(np.column_stack([*known, np.array(borders)]), columns=[*SIZE, *ENCODING, *BORDER])


def visible(xrays: XRays, progress: str = "") -> pd.DataFrame:
    """What is left of these in the pixels that a network is shown, measured on them alone: columns VISIBLE, float64.

    The proportions of the part that is not wholly black around, its border, and its detail (mean absolute Laplacian over the
    standard deviation, of the blurred picture and of the picture itself): small and strongly compressed pictures have little.
    """
    return pd.DataFrame([_seen(image) for image in each_image(xrays, progress)], columns=list(VISIBLE), dtype=float)


def each_image(xrays: XRays, progress: str = "") -> Iterator[np.ndarray]:
    """Yield each picture, uint8 [image_size, image_size], under a progress bar of this name, if any."""
    for position in tqdm(range(len(xrays)), desc=progress, unit="X-ray", leave=False, disable=not progress or None):
        yield xrays.images(np.array([position]))[0]


def _each_letterboxed(xrays: XRays, progress: str) -> Iterator[np.ndarray]:
    """Yield each whole picture on black; from the files where the X-rays are preprocessed otherwise."""
    if xrays.preprocess == LETTERBOX:
        yield from each_image(xrays, progress)
        return
    for path in tqdm(xrays.table["path"], desc=progress, unit="X-ray", leave=False, disable=not progress or None):
        yield letterbox(read_picture(path), xrays.pixels.shape[1])[0]


def without_bars(image: np.ndarray, height: float, width: float) -> np.ndarray:
    """The picture itself, of height × width pixels once, inside its letterbox."""
    size = len(image)
    rows, columns = (max(1, round(size * side / max(height, width))) for side in (height, width))
    top, left = (size - rows) // 2, (size - columns) // 2
    return image[top : top + rows, left : left + columns]


def border(picture: np.ndarray) -> tuple[float, float, float, float]:
    """The values of BORDER of a picture, uint8 [height, width]."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]) / 255
    corner = max(1, min(picture.shape) // 10)
    corners = [picture[rows, columns].mean() for rows in _ends(corner) for columns in _ends(corner)]
    return edge.mean(), edge.std(), float(np.mean(corners)) / 255, float((picture < _BLACK).mean())


def _seen(image: np.ndarray) -> tuple[float, ...]:
    picture = _inside_black(image)
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    contrast = picture.std() + 1.0
    detail = [float(np.abs(cv2.Laplacian(each, cv2.CV_32F)).mean() / contrast) for each in (smooth, picture)]
    return picture.shape[1] / picture.shape[0], *border(picture), *detail


def _inside_black(image: np.ndarray) -> np.ndarray:
    """The picture without the wholly black rows and columns around it."""
    rows, columns = (np.flatnonzero(image.max(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return image
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _format_code(name: str) -> int:
    return _FORMATS.index(name) if name in _FORMATS else len(_FORMATS)


def _ends(n: int) -> tuple[slice, slice]:
    return slice(None, n), slice(-n, None)
