"""Files to grey pictures: decoding whatever X-rays come as, and letterboxing."""

import io
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from fracture_mae.data.reading import png
from fracture_mae.data.reading.dicom_signature import SIGNATURE, is_dicom
from fracture_mae.data.reading.exposure import to_grey_levels
from fracture_mae.data.reading.placement import Placement
from fracture_mae.data.reading.unreadable import UnreadableImage

__all__ = ["MAX_PIXELS", "VERSION", "UnreadableImage", "decode", "letterbox"]

# Of `decode` and `letterbox`: raised when they make other pixels of a file. All that is remembered of pixels carries it.
VERSION = 3
MAX_PIXELS = 2**26  # 67 megapixels; a bedside X-ray detector gives about 10
# What Pillow may look at a file as: formats that OpenCV decodes too, and none that runs a program, such as EPS.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LONGEST_SIDE = 2**20  # pixels that OpenCV decodes
_STRIP = 256  # rows that are laid on black at a time
# Bytes, more than the header of a PPM has; Pillow reads a comment in it byte by byte, 50 MB in half a minute.
_PPM_HEADER = 4096
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # first bytes of JPEG and PNG, and what marks their end
_TRUNCATED = "truncated: the file ends before its picture does"
_TAIL = 4096  # bytes at a file's end in which a whole one has its end marker
_PHOTOMETRIC, _WHITE_IS_ZERO, _ORIENTATION = 262, 0, 274  # tags of TIFF and EXIF
# What EXIF's orientation asks for before a picture is shown.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda picture: cv2.flip(picture, 1),
    3: lambda picture: cv2.rotate(picture, cv2.ROTATE_180),
    4: lambda picture: cv2.flip(picture, 0),
    5: cv2.transpose,
    6: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    7: lambda picture: cv2.rotate(cv2.transpose(picture), cv2.ROTATE_180),
    8: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def _only_unreadable(decoder: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Whatever else Pillow and OpenCV raise at damaged bytes, which is without number, becomes an `UnreadableImage`."""

    @wraps(decoder)
    def wrapped(*args, **kwargs):
        try:
            return decoder(*args, **kwargs)
        except UnreadableImage:
            raise
        except Exception as error:
            raise UnreadableImage(f"the picture is damaged and cannot be decoded ({type(error).__name__})") from None

    return wrapped


@cache
def dicom_module() -> ModuleType:
    """What reads DICOM, imported when it is needed: pydicom takes a while to load, and most data have none."""
    from fracture_mae.data.reading import dicom

    return dicom


@_only_unreadable
def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture in a file's bytes as uint8 [height, width].

    Colours become luma, transparency is laid on black, the EXIF turn is applied, of several frames the first is taken. Pictures of
    more than 8 bits, which often use 10 or 12 of them, are stretched between percentiles of the exposed field, see `to_grey_levels`.
    DICOM is told by its content, whatever the file is called, and is shown as its header says, see `dicom`.

    Raises:
        UnreadableImage: no picture, too many pixels, or a file that ends before its picture does.
    """
    if is_dicom(content[:SIGNATURE]):
        return dicom_module().decode(content, max_pixels)
    header = _check_header(content, max_pixels)
    if any(content.startswith(start) and end not in content[-_TAIL:] for start, end in _ENDS.items()):
        _check_whole(content)
    if content.startswith(png.START):
        content = png.plain(content)
        if content is None:
            raise UnreadableImage(_TRUNCATED)
    picture = _decode_grey(np.frombuffer(content, np.uint8), header)
    if picture is None:
        raise UnreadableImage("the picture is damaged and cannot be decoded")
    if picture.dtype == np.uint8:
        return picture
    grey = to_grey_levels(picture)
    return 255 - grey if header.white_is_zero else grey  # OpenCV turns those of 8 bits alone


def letterbox(picture: np.ndarray, size: int) -> tuple[np.ndarray, Placement]:
    """A picture [height, width] centred on black in a square [size, size], its sides in proportion; and where it lies there."""
    height, width = picture.shape
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((size, size), np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = cv2.resize(picture, (columns, rows), interpolation=interpolation)
    return square, Placement(columns / width, rows / height, left, top)


class _Header(NamedTuple):
    """transparent: whether parts of the picture may be; turn: EXIF's, of those, 1 where there is none; white_is_zero: a TIFF's."""

    transparent: bool
    turn: int
    white_is_zero: bool


def _check_header(content: bytes, max_pixels: int) -> _Header:
    """What the header says of a picture; refuses what is none, or too large a one."""
    if not content:
        raise UnreadableImage("the file is empty")
    try:
        start = content[:_PPM_HEADER] if content.startswith(b"P") else content
        with Image.open(io.BytesIO(start), formats=FORMATS) as header:
            width, height = header.size
            transparent = header.has_transparency_data
            white_is_zero = getattr(header, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
            # Of TIFF OpenCV applies it always, of other transparent files never.
            turn = header.getexif().get(_ORIENTATION, 1) if transparent and header.format != "TIFF" else 1
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than the {max_pixels:,} pixels allowed") from None
    except Exception:
        raise UnreadableImage("not an image file") from None
    if max(width, height) > _LONGEST_SIDE:
        raise UnreadableImage(f"{width} × {height} pixels: no side may be longer than {_LONGEST_SIDE:,}")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} × {height} pixels are more than the {max_pixels:,} allowed")
    return _Header(transparent, turn, white_is_zero)


def _check_whole(content: bytes) -> None:
    """Refuse a file that ends before its picture does; some decoders fill what is missing with grey and say nothing."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            picture.load()
    except Exception:
        raise UnreadableImage(_TRUNCATED) from None


def _decode_grey(content: np.ndarray, header: _Header) -> np.ndarray | None:
    if header.transparent:
        unchanged = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        if unchanged is not None and unchanged.ndim == 3 and unchanged.shape[2] == 4:
            return _TURNS.get(header.turn, np.ascontiguousarray)(_on_black(unchanged))
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)


def _on_black(bgra: np.ndarray) -> np.ndarray:
    """Luma times opacity, rounded; `full` is odd, so that no product lies in the middle between two levels."""
    grey = cv2.cvtColor(bgra, cv2.COLOR_BGRA2GRAY)
    if not np.issubdtype(bgra.dtype, np.integer):
        return grey * bgra[..., 3]
    full = np.iinfo(bgra.dtype).max
    for start in range(0, len(grey), _STRIP):
        rows = slice(start, start + _STRIP)
        grey[rows] = (grey[rows].astype(np.uint32) * bgra[rows, :, 3] + full // 2) // full
    return grey
