"""Decoders of compressed DICOM pixels, as a plugin of pydicom.

imagecodecs (BSD) holds libjpeg-turbo, CharLS and OpenJPEG, so one package reads JPEG with 8 and 12 bits, JPEG lossless, JPEG-LS and
JPEG 2000; run-length encoding is pydicom's own. Before anything is decoded, the size that a stream states is held against that of the
header: a damaged one may state four thousand million pixels.
"""

import struct

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

from fracture_mae.data.reading import jpeg
from fracture_mae.data.reading.unreadable import UnreadableImage

PLUGIN = "imagecodecs"
_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS, *_JPEG_2000), ("imagecodecs",))  # asked for by pydicom
_J2K_START = b"\xff\x4f\xff\x51"


def is_available(_: str) -> bool:
    """What pydicom asks a plugin."""
    return True


def register() -> None:
    """Make the decoders known to pydicom; not for several threads at once."""
    for each in DECODER_DEPENDENCIES:
        if PLUGIN not in get_decoder(each).available_plugins:
            get_decoder(each).add_plugin(PLUGIN, (__name__, "decode_frame"))


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of a frame, colours by pixel; what `runner` believes of them is corrected.

    Raises:
        UnreadableImage: it is damaged, or of another size than the header says.
    """
    is_j2k = runner.transfer_syntax in _JPEG_2000
    size = _size_of_j2k(stream) if is_j2k else _size_of_jpeg(stream)
    expected = runner.rows, runner.columns, runner.samples_per_pixel
    if size != expected:
        raise UnreadableImage(
            "the compressed picture has {} × {} pixels of {} samples, ".format(*_shown(size))
            + "where the header says {} × {} of {}".format(*_shown(expected))
        )
    if is_j2k:
        pixels = imagecodecs.jpeg2k_decode(stream)
    elif runner.transfer_syntax in _JPEG_LS:
        if not stream.rstrip(b"\0").endswith(jpeg.END):  # for which CharLS looks for ten seconds where it is not
            raise UnreadableImage("truncated: the compressed picture has no end")
        pixels = imagecodecs.jpegls_decode(stream)
    else:
        pixels = _decode_jpeg(stream, runner)
    if pixels.size != np.prod(expected):
        raise UnreadableImage("the compressed picture is damaged")
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
        if runner.photometric_interpretation != "RGB" and (is_j2k or runner.transfer_syntax in _JPEG):
            runner.set_option("photometric_interpretation", "RGB")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.tobytes()


def _decode_jpeg(stream: bytes, runner: DecodeRunner) -> np.ndarray:
    """Colours become RGB; where the header says that they are, and the stream says nothing, they are left as they are."""
    if not jpeg.unsupported(stream):  # of 8 bits and lossy; of the others nothing tells whether they are damaged
        jpeg.check(stream)
    marked = b"JFIF" in stream[:64] or b"Adobe" in stream[:2048]
    if runner.samples_per_pixel == 3 and runner.photometric_interpretation == "RGB" and not marked:
        return imagecodecs.jpeg8_decode(stream, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg8_decode(stream)


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and samples that the first frame header states.

    Raises:
        UnreadableImage: there is none.
    """
    found = jpeg.frame(stream)
    if found is None:
        raise UnreadableImage("the compressed picture is damaged: it has no frame header")
    return found.rows, found.columns, found.samples


def _size_of_j2k(stream: bytes) -> tuple[int, int, int]:
    """The same of JPEG 2000, also in the boxes of a JP2 file."""
    place = stream.find(_J2K_START, 0, 4096)
    if place < 0 or len(stream) < place + 42:
        raise UnreadableImage("the compressed picture is damaged: it has no frame header")
    right, lower, left, upper = struct.unpack(">4I", stream[place + 8 : place + 24])
    return lower - upper, right - left, int.from_bytes(stream[place + 40 : place + 42], "big")


def _shown(size: tuple[int, int, int]) -> tuple[int, int, int]:
    rows, columns, samples = size
    return columns, rows, samples
