"""TIFF files: those of more than 8 bits, or of signed or floating point numbers, which Pillow reads in part or wrongly; and damage."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from tifffile import TiffFile, TiffPage

from fracture_mae.data.reading import jpeg
from fracture_mae.data.reading.unreadable import UnreadableImage

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # photometric interpretations
_UNSIGNED, _SIGNED, _FLOATING, _UNTYPED = 1, 2, 3, 4  # sample formats
_UNASSOCIATED = 2  # alpha that colours are not multiplied by yet
_LZW, _JPEG = 5, 7  # compressions
_PLANES = 2  # planar configuration
_ON_ITS_SIDE = 5  # the first orientation that exchanges height and width
_ORIENTATION, _RAW = 274, 50706  # tags
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # what it finds odd it would tell the terminal


class Page:
    """The first picture of a TIFF file.

    Raises:
        UnreadableImage: there is none.
    """

    def __init__(self, page: TiffPage, content: bytes):
        self._page, self._content = page, content
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.turn = _first(page.tags.valueof(_ORIENTATION, 1))
        self.bits = max(_all(page.bitspersample))
        self.samples = int(page.samplesperpixel)
        self._photometric = int(page.photometric)
        self._format = max(_all(page.sampleformat))

    @property
    def is_deep(self) -> bool:
        """Whether it has more than 8 bits, or signed or floating point numbers."""
        return self.bits > 8 or self._format not in (_UNSIGNED, _UNTYPED)

    @property
    def numbers(self) -> str:
        """In words."""
        kind = {_SIGNED: "signed integers", _FLOATING: "floating point numbers"}.get(self._format, "integers")
        return f"{kind} of {self.bits} bits"

    @property
    def colours(self) -> str:
        """The photometric interpretation's name."""
        return str(getattr(self._page.photometric, "name", self._photometric))

    def check(self) -> None:
        """Refuse what is no picture of one plane, or is damaged where a decoder would not say so.

        Raises:
            UnreadableImage: it is.
        """
        if self._page.imagedepth != 1:
            raise UnreadableImage(f"a TIFF volume of {self._page.imagedepth} planes, expected a single picture")
        if _RAW in self._page.tags:
            raise UnreadableImage("a raw photograph (DNG), which is not supported")
        if self._page.compression == _JPEG and self.bits == 8:
            for stream in _streams(self._page):
                jpeg.check(stream)

    def read(self) -> np.ndarray:
        """The numbers of a deep one as luma [height, width], black below white; still to be turned by `turn`.

        Raises:
            UnreadableImage: it is damaged, or its colours or numbers are not known.
        """
        if self._photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or self._page.dtype is None:
            raise UnreadableImage(f"a TIFF of {self.numbers}, {self.colours}, which is not supported")
        samples = self._by_libtiff() if self._page.compression == _LZW else self._by_tifffile()
        n_colours = 3 if self._photometric == _RGB else 1
        samples = samples.reshape(self.height, self.width, -1)
        if samples.dtype.kind not in "uif" or samples.shape[2] < n_colours:
            raise UnreadableImage(f"a TIFF of {self.numbers} and {samples.shape[2]} samples, which is not supported")
        if samples.dtype.itemsize == 1 or samples.dtype == np.float16:
            samples = samples.astype(np.float32)
        if self._photometric == _WHITE_IS_ZERO:
            samples = -samples if samples.dtype.kind == "f" else ~samples
        return _on_black(_luma(samples, n_colours), samples, n_colours, self._page.extrasamples, self.bits)

    def _by_tifffile(self) -> np.ndarray:
        try:
            samples = self._page.asarray(maxworkers=1)
        except Exception as error:
            raise UnreadableImage(f"the TIFF picture of {self.numbers} cannot be decoded ({_said(error)})") from None
        return np.moveaxis(samples, 0, 2) if samples.ndim == 3 and self._page.planarconfig == _PLANES else samples

    def _by_libtiff(self) -> np.ndarray:
        """LZW: a damaged stream ends the process in imagecodecs' decoder. OpenCV has libtiff's, for most kinds of numbers."""
        samples = cv2.imdecode(np.frombuffer(self._content, np.uint8), cv2.IMREAD_UNCHANGED)  # turned already
        size = (self.width, self.height) if self.turn >= _ON_ITS_SIDE else (self.height, self.width)
        expected = size if self.samples == 1 else (*size, self.samples)
        is_known = (self.bits, self._photometric) != (8, _WHITE_IS_ZERO)  # signed ones OpenCV turns, not as signed
        is_known &= self.samples == 1 or self._page.planarconfig != _PLANES
        if samples is None or samples.shape != expected or samples.dtype.name != self._page.dtype.name or not is_known:
            raise UnreadableImage(f"a TIFF of {self.numbers} compressed by LZW, which is damaged, or not supported")
        self.height, self.width = size
        self.turn = 1
        return samples if self.samples == 1 else samples[..., [2, 1, 0, 3][: self.samples]]


@contextmanager
def first_page(content: bytes) -> Iterator[Page]:
    """Raises UnreadableImage: the header is damaged."""
    try:
        file = TiffFile(io.BytesIO(content))
    except Exception as error:
        raise UnreadableImage(f"a TIFF whose header is damaged ({_said(error)})") from None
    with file:
        try:
            page = Page(file.pages.first, content)
        except Exception as error:
            raise UnreadableImage(f"a TIFF whose header is damaged ({_said(error)})") from None
        yield page


def unsupported(content: bytes) -> str:
    """Why Pillow does not know a TIFF of up to 8 bits."""
    try:
        with first_page(content) as page:
            return f"a TIFF of {page.samples} × {page.numbers}, {page.colours}, which is not supported"
    except UnreadableImage as error:
        return str(error)


def _luma(samples: np.ndarray, n_colours: int) -> np.ndarray:
    if n_colours == 1:
        return np.ascontiguousarray(samples[..., 0])
    if samples.dtype in (np.uint16, np.float32):
        return cv2.cvtColor(np.ascontiguousarray(samples[..., :3]), cv2.COLOR_RGB2GRAY)
    return samples[..., :3] @ _LUMA


def _on_black(grey: np.ndarray, samples: np.ndarray, n_colours: int, extra: tuple[int, ...], bits: int) -> np.ndarray:
    if not extra or extra[0] != _UNASSOCIATED or samples.shape[2] == n_colours:
        return grey
    full = 1.0 if samples.dtype.kind == "f" else 2.0**bits - 1
    return (grey * (samples[..., n_colours] / full)).astype(np.float32)


def _streams(page: TiffPage) -> Iterator[bytes]:
    """The JPEG streams of a page, whole: with the tables that they share."""
    tables = page.jpegtables
    for segment, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if segment:
            yield tables[:-2] + segment[2:] if tables else segment


def _all(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)


def _first(value: int | tuple[int, ...]) -> int:
    return _all(value)[0]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:100]}".rstrip(": ")
