"""Files to grey pictures: decoding whatever X-rays come as, and letterboxing."""

import io
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType

import cv2
import numpy as np
from PIL import Image

from fracture_mae.data.reading import jpeg, png, tiff, unsupported
from fracture_mae.data.reading.dicom_signature import SIGNATURE, is_dicom
from fracture_mae.data.reading.exposure import to_grey_levels
from fracture_mae.data.reading.placement import Placement
from fracture_mae.data.reading.unreadable import UnreadableImage

__all__ = ["MAX_PIXELS", "VERSION", "UnreadableImage", "decode", "letterbox"]

# Of `decode` and `letterbox`: raised when they make other pixels of a file. All that is remembered of pixels carries it.
VERSION = 4
MAX_PIXELS = 2**26  # 67 megapixels; a bedside X-ray detector gives about 10
# What Pillow may look at a file as; none that runs a program, such as EPS.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LONGEST_SIDE = 2**20  # pixels that OpenCV works on
_STRIP = 256  # rows that are made grey, or laid on black, at a time
# Bytes, more than the header of a PPM has; Pillow reads a comment in it byte by byte, 50 MB in half a minute.
_PPM_HEADER = 4096
_NETPBM_IN_LETTERS = (b"P1", b"P2", b"P3")
_MOST_COMMENTS = 1_000  # of these; five million cost Pillow two minutes
_TRUNCATED = "truncated: the file ends before its picture does"
_ORIENTATION = 274  # tag of EXIF
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
_OPAQUE = ("L", "RGB")  # modes of Pillow that are made grey as they are
_TRANSPARENT = ("LA", "RGBA")


def _only_unreadable(decoder: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Whatever else the decoders raise at damaged bytes, which is without number, becomes an `UnreadableImage`."""

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

    Colours become luma, transparency is laid on black, the EXIF turn is applied, of several frames the first is taken: what Pillow
    reads, turned. Pictures of more than 8 bits, which often use 10 or 12 of them, are stretched between percentiles of the exposed
    field, see `to_grey_levels`. DICOM is told by its content, whatever the file is called, and shown as its header says, see `dicom`.

    Raises:
        UnreadableImage: no picture, one of a kind that is not read, too many pixels, or damage.
    """
    if not content:
        raise UnreadableImage("the file is empty")
    if is_dicom(content[:SIGNATURE]):
        return dicom_module().decode(content, max_pixels)
    if content.startswith(jpeg.START):
        jpeg.check_header(content)
    if content.startswith(_NETPBM_IN_LETTERS) and content.count(b"#") > _MOST_COMMENTS:
        raise UnreadableImage(f"a PPM picture with more than {_MOST_COMMENTS:,} comments")
    if content.startswith(tiff.STARTS):
        grey, turn = _decode_tiff(content, max_pixels)
    else:
        grey, turn = _decode_other(content, max_pixels)
    return _TURNS.get(turn, np.ascontiguousarray)(grey)


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


def _decode_tiff(content: bytes, max_pixels: int) -> tuple[np.ndarray, int]:
    """The picture as uint8 [height, width], and the turn that is still to be applied."""
    with tiff.first_page(content) as page:
        _check_size(page.width, page.height, max_pixels)
        page.check()
        if page.is_deep:
            grey = to_grey_levels(page.read())  # which may turn it already
            return grey, page.turn
    return _decode_other(content, max_pixels)


def _decode_other(content: bytes, max_pixels: int) -> tuple[np.ndarray, int]:
    """The same of all other files, and of TIFFs of up to 8 bits."""
    with _opened(content, max_pixels) as picture:
        if picture.format in ("JPEG", "MPO"):
            grey = jpeg.decode(content)
            if grey is not None:
                return grey, _turn(picture)
        elif picture.format == "PNG":
            png.check(content)
        if _is_deep_colour(picture, content):
            return to_grey_levels(_decode_deep_colour(content)), _turn(picture)
        try:
            picture.load()
        except Exception as error:
            raise UnreadableImage(_cannot_be_loaded(picture, str(error))) from None
        return _grey(picture), _turn(picture)


def _cannot_be_loaded(picture: Image.Image, said: str) -> str:
    """What to say where Pillow said that."""
    if "truncated" in said:
        return _TRUNCATED
    return f"the {picture.format} picture is damaged, or of a rare kind that cannot be decoded ({said.strip()[:100]})"


def _opened(content: bytes, max_pixels: int) -> Image.Image:
    """What Pillow says of the header; refuses what is no picture that is read, or too large a one."""
    try:
        start = content[:_PPM_HEADER] if content.startswith(b"P") else content
        with Image.open(io.BytesIO(start), formats=FORMATS) as header:
            _check_size(*header.size, max_pixels)
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than the {max_pixels:,} pixels allowed") from None
    except Exception:
        raise UnreadableImage(unsupported.reason(content)) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < 1:
        raise UnreadableImage(f"a picture of {width} × {height} pixels")
    if max(width, height) > _LONGEST_SIDE:
        raise UnreadableImage(f"{width} × {height} pixels: no side may be longer than {_LONGEST_SIDE:,}")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} × {height} pixels are more than the {max_pixels:,} allowed")


def _turn(picture: Image.Image) -> int:
    """EXIF's orientation, of a picture that was loaded: a PNG's may stand behind its pixels."""
    return picture.getexif().get(_ORIENTATION, 1)


def _is_deep_colour(picture: Image.Image, content: bytes) -> bool:
    """Whether Pillow would cut a PNG's colours or transparency of 16 bits to 8."""
    return picture.format == "PNG" and png.bits(content) > 8 and not picture.mode.startswith("I")


def _decode_deep_colour(content: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png.plain(content), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim == 2:
        raise UnreadableImage("the PNG picture is damaged and cannot be decoded")
    if picture.shape[2] == 4:
        return _on_black(cv2.cvtColor(picture, cv2.COLOR_BGRA2GRAY), picture[..., 3])
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


def _grey(picture: Image.Image) -> np.ndarray:
    """A picture that Pillow has loaded as uint8 [height, width], not turned."""
    if picture.mode[0] in "IF":
        return _stretched(picture)
    grey = np.empty((picture.height, picture.width), np.uint8)
    for top in range(0, picture.height, _STRIP):
        rows = picture.crop((0, top, picture.width, min(top + _STRIP, picture.height)))
        grey[top : top + _STRIP] = _of_rows(rows, picture.has_transparency_data)
    return grey


def _of_rows(rows: Image.Image, transparent: bool) -> np.ndarray:
    if rows.mode not in (_TRANSPARENT if transparent else _OPAQUE):
        rows = rows.convert("RGBA" if transparent else "L" if rows.mode == "1" else "RGB")
    samples = np.asarray(rows)
    if rows.mode in ("RGB", "RGBA"):
        luma = cv2.cvtColor(samples, cv2.COLOR_RGB2GRAY if rows.mode == "RGB" else cv2.COLOR_RGBA2GRAY)
    else:
        luma = samples[..., 0] if transparent else samples
    return _on_black(luma, samples[..., -1]) if transparent else luma


def _stretched(picture: Image.Image) -> np.ndarray:
    """One of more than 8 bits; what has the level that is transparent becomes black."""
    levels = np.asarray(picture)
    if not isinstance(picture.info.get("transparency"), int):
        return to_grey_levels(levels)
    hidden = levels == picture.info["transparency"]
    grey = to_grey_levels(levels, ~hidden)
    grey[hidden] = 0
    return grey


def _on_black(grey: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Luma times opacity, of the same integers, rounded; `full` is odd, so that no product lies in the middle between two levels."""
    full = np.iinfo(grey.dtype).max
    shown = np.empty_like(grey)
    for start in range(0, len(grey), _STRIP):
        rows = slice(start, start + _STRIP)
        shown[rows] = (grey[rows].astype(np.uint32) * opacity[rows] + full // 2) // full
    return shown
