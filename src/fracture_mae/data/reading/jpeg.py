"""JPEG streams: what their frame header says, and their pixels, where nothing in them is damaged."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from fracture_mae.data.reading.unreadable import UnreadableImage

START = b"\xff\xd8\xff"
END = b"\xff\xd9"
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of JPEG and JPEG-LS
_START_OF_SCAN = b"\xff\xda"
_STAND_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a length
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_HIERARCHICAL = {0xC5, 0xC6, 0xCD, 0xCE}
_JPEG_LS = 0xF7
_MOST_MARKERS = 5_000  # a segment holds 64 kB
_MOST_SCANS = 100  # of a progressive one; ten are usual, and each costs a walk over all blocks
_COARSE = 8  # times smaller in each direction: decoded so, a stream is checked fastest
_GREY, _COLOURS, _FOUR_INKS = ("Gray", "YCbCr"), ("RGB",), ("CMYK", "YCCK")
# What libjpeg warns of without any harm to the picture: fields that nobody reads, or filling before the end.
_HARMLESS = re.compile(r"unknown JFIF revision|Invalid SOS parameters for sequential|bad ICC marker")
_UNKNOWN_TO_TURBOJPEG = "Could not determine subsampling"  # rare, but allowed
_FILLING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class Frame(NamedTuple):
    """marker: which process, SOF0 being 0xC0; bits: of a sample; samples: of a pixel."""

    marker: int
    bits: int
    rows: int
    columns: int
    samples: int


def frame(stream: bytes) -> Frame | None:
    """What the first frame header states; None where there is none."""
    for marker, place in _markers(stream):
        if marker in _START_OF_FRAME and place + 10 <= len(stream):
            return Frame(marker, *struct.unpack(">BHHB", stream[place + 4 : place + 10]))
    return None


def check_header(content: bytes) -> None:
    """Refuse a stream without a picture behind its header, or with a header of so many parts that it takes long to read.

    Raises:
        UnreadableImage: it is one.
    """
    if not any(marker == _START_OF_SCAN[1] for marker, _ in _markers(content)):
        raise UnreadableImage("a JPEG picture whose header is damaged")


def _markers(stream: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment up to the first scan."""
    place = 2
    for _ in range(_MOST_MARKERS):
        if not 2 <= place <= len(stream) - 4 or stream[place] != _START_OF_SCAN[0]:
            return
        marker = stream[place + 1]
        yield marker, place
        if marker == _START_OF_SCAN[1]:
            return
        if marker == 0xFF or marker in _STAND_ALONE:  # filling, or no length
            place += 1 if marker == 0xFF else 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")


def unsupported(stream: bytes) -> str:
    """What kind of JPEG it is that the decoders of pictures do not read; "" for all others."""
    found = frame(stream)
    if found is None:
        return ""
    if found.marker == _JPEG_LS:
        return "a JPEG-LS picture"
    if found.marker in _LOSSLESS:
        return f"a lossless JPEG picture of {found.bits} bits"
    if found.marker in _HIERARCHICAL:
        return "a hierarchical JPEG picture"
    return f"a JPEG picture of {found.bits} bits" if found.bits != 8 else ""


def decode(content: bytes) -> np.ndarray | None:
    """Luma uint8 [height, width], not turned; None where another decoder has to read it: for four inks, and rare subsampling.

    Decoders fill what is missing or damaged with grey or noise and go on; what libjpeg only warns of is refused here.

    Raises:
        UnreadableImage: the stream is damaged.
    """
    colours = _colours(content)
    if colours in _GREY:
        return _checked(content, colorspace="GRAY")[..., 0]
    if colours in _COLOURS:
        return cv2.cvtColor(_checked(content, colorspace="RGB"), cv2.COLOR_RGB2GRAY)
    check(content)
    return None


def check(stream: bytes) -> None:
    """Refuse a stream of 8 bits that is damaged, see `decode`.

    Raises:
        UnreadableImage: it is.
    """
    colours = _colours(stream)
    if not colours:
        return
    space = "CMYK" if colours in _FOUR_INKS else "RGB" if colours in _COLOURS else "GRAY"
    _checked(stream, colorspace=space, min_height=1, min_width=1, min_factor=_COARSE)


def _colours(content: bytes) -> str:
    """How its samples are meant; "" where TurboJPEG cannot read it, though it may be whole."""
    if content.count(_START_OF_SCAN) > _MOST_SCANS:
        raise UnreadableImage(f"a JPEG picture of more than {_MOST_SCANS} scans")
    try:
        return simplejpeg.decode_jpeg_header(content)[2]
    except ValueError as error:
        if _UNKNOWN_TO_TURBOJPEG in str(error):
            return ""
        raise _damaged(str(error)) from None


def _checked(content: bytes, **options) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(content, **options)
    except ValueError as error:
        said = str(error)
        if not (_HARMLESS.search(said) or _is_filled(content, said)):
            raise _damaged(said) from None
    return simplejpeg.decode_jpeg(content, **options, strict=False)


def _is_filled(content: bytes, said: str) -> bool:
    """Whether the bytes too many are nothing but zeros, with which some devices fill up their files."""
    found = _FILLING.search(said)
    if not found:
        return False
    end = content.rfind(END)
    return not any(content[end - int(found[1]) : end])


def _damaged(said: str) -> UnreadableImage:
    if said.startswith("Premature end of JPEG file"):
        return UnreadableImage("truncated: the file ends before its picture does")
    return UnreadableImage(f"the JPEG picture is damaged ({said.strip().rstrip('.')})")
