"""How a picture is encoded in its file: what tells one source of X-rays from another before a pixel is looked at."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from fracture_mae.data.reading import tiff
from fracture_mae.data.reading.decoding import FORMATS
from fracture_mae.data.reading.dicom_signature import SIGNATURE, is_dicom

_BITS = {"1": 1, "I": 32, "F": 32}  # of Pillow's modes; those that start with I;16 have 16, all others 8
_LOSSLESS_QUALITY = 101.0  # one more than the best JPEG

# Luminance, JPEG standard (ITU-T T.81, table K.1), row by row; libjpeg scales it by its parameter quality.
_STANDARD_TABLE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


class Encoding(NamedTuple):
    """What a file's header says."""

    format: str  # as Pillow names it: JPEG, PNG, …; or DICOM
    channels: int  # 1 grey or palette, 3 colour, 4 with alpha
    bit_depth: int  # of each channel
    jpeg_quality: (
        float  # 1 to 100 of the standard table next to the file's; 101 for other formats, most of which lose nothing
    )
    jpeg_deviation: (
        float  # mean distance of the file's luminance table from that standard table; 0 for libjpeg and OpenCV
    )


UNKNOWN = Encoding("", 0, 0, 0.0, 0.0)


def encoding_of(content: bytes) -> Encoding:
    """Read the header of a picture file that `decoding.decode` takes; the pixels are not decoded."""
    if is_dicom(content[:SIGNATURE]):
        from fracture_mae.data.reading import dicom  # pydicom takes a while to load, and most data have none

        return Encoding("DICOM", *dicom.encoding_of(content), _LOSSLESS_QUALITY, 0.0)
    if content.startswith(tiff.STARTS):
        with tiff.first_page(content) as page:
            if page.is_deep:
                return Encoding("TIFF", page.samples, page.bits, _LOSSLESS_QUALITY, 0.0)
    with Image.open(io.BytesIO(content), formats=FORMATS) as header:
        depth = 16 if header.mode.startswith("I;16") else _BITS.get(header.mode, 8)
        table = getattr(header, "quantization", {}).get(0)
        quality = (_LOSSLESS_QUALITY, 0.0) if table is None else _nearest_quality(np.array(table))
        return Encoding(header.format or "", len(header.getbands()), depth, *quality)


def _nearest_quality(table: np.ndarray) -> tuple[float, float]:
    """The quality of libjpeg whose luminance table [64] is nearest, and the mean distance from it."""
    distance = np.abs(_TABLES - table).mean(axis=1)
    best = int(distance.argmin())
    return float(best + 1), float(distance[best])


def _standard_tables() -> np.ndarray:
    """libjpeg's luminance tables of quality 1 to 100: int64 [100, 64]."""
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((_STANDARD_TABLE * percent[:, None] + 50) // 100).clip(1, 255)


_TABLES = _standard_tables()
