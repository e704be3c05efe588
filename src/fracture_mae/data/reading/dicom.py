"""DICOM files to grey pictures: which are radiographs, and how their values become grey levels.

What tags mean: DICOM PS3.3, C.7.6.3 (Image Pixel), C.11.1 (Modality LUT) and C.11.2 (VOI LUT).
"""

import io
import logging
import math
import re
import warnings
import zlib

import cv2
import numpy as np
import pydicom
from pydicom import config, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder

from fracture_mae.data.reading import dicom_codecs
from fracture_mae.data.reading.dicom_signature import PREAMBLE, PREFIX
from fracture_mae.data.reading.exposure import to_grey_levels
from fracture_mae.data.reading.unreadable import UnreadableImage

dicom_codecs.register()  # here, as an import happens once, but threads decode at once

MODALITIES = ("CR", "DX", "DR", "RF", "XA", "OT", "SC")  # X-rays of one exposure, and pictures that were captured
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_PALETTE = "PALETTE COLOR"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_BYTES_OF_PIXEL, _HEADER = 3, 2**24  # that inflating may yield for each pixel that is allowed, and besides
_LONGEST_REASON = 200  # characters of what a decoder says
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")


def parse(content: bytes, *, with_pixels: bool = True, max_bytes: int = 2**31) -> Dataset:
    """The data set in a file's bytes, in whatever order of bytes and with whatever is missing around it.

    Args:
        max_bytes: of what a deflated one may become.

    Raises:
        UnreadableImage: it cannot be read as DICOM.
    """
    _be_silent()
    if content[:4] == PREFIX:
        content = bytes(PREAMBLE) + content
    _check_deflated(content, max_bytes)
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=not with_pixels)
        meta = dataset.file_meta if hasattr(dataset, "file_meta") else FileMetaDataset()
        if "TransferSyntaxUID" not in meta:
            implicit, little = dataset.original_encoding
            meta.TransferSyntaxUID = _TRANSFER_SYNTAX[bool(implicit), bool(little)]
        dataset.file_meta = meta
    except Exception as error:  # of any kind; its text may quote a patient's name, and reasons are logged
        raise UnreadableImage(f"a damaged DICOM file ({type(error).__name__} in its header)") from None
    if not len(dataset):
        raise UnreadableImage("a DICOM file without any data element: truncated, or no DICOM after all")
    return dataset


def decode(content: bytes, max_pixels: int) -> np.ndarray:
    """The picture of a DICOM file as uint8 [height, width], bones white on black.

    Raises:
        UnreadableImage: it holds no single radiograph that can be read; says why.
    """
    dataset = parse(content, max_bytes=_BYTES_OF_PIXEL * max_pixels + _HEADER)
    try:
        check(dataset, max_pixels)
        return _to_grey(dataset)
    except UnreadableImage:
        raise
    except Exception as error:  # as in `parse`
        raise UnreadableImage(f"a damaged DICOM file ({type(error).__name__} in its pixels)") from None


def encoding_of(content: bytes) -> tuple[int, int]:
    """Samples of a pixel, and bits of each, of a file that `decode` reads."""
    dataset = parse(content, with_pixels=False)
    return int(dataset.SamplesPerPixel), int(dataset.BitsStored)


def has_no_picture(dataset: Dataset) -> bool:
    """Whether it is another kind of object, such as a report (SR), a presentation state (PR) or a directory (DICOMDIR).

    Read without pixels, a picture is told by its size.
    """
    return not any(name in dataset for name in ("Rows", "Columns", *_PIXELS))


def modality(dataset: Dataset) -> str:
    """As the header says, else the kind of object in words; "" where neither is known."""
    stated = text_of(dataset, "Modality").upper()
    return _named(stated) if stated else kind_of_object(dataset)


def kind_of_object(dataset: Dataset) -> str:
    """Its SOP class in words; "" where it is not known."""
    name = text_of(dataset, "SOPClassUID") or text_of(dataset.file_meta, "MediaStorageSOPClassUID")
    return _name_of(uid.UID(name)) if name else ""


def _name_of(identifier: uid.UID) -> str:
    return "of an unknown kind" if identifier.name == identifier else identifier.name


def text_of(dataset: Dataset, name: str) -> str:
    """The value of an element, the first of several, as text; "" where there is none, or none that can be read."""
    try:
        value = dataset.get(name)
        if isinstance(value, MultiValue | list | tuple):
            value = value[0] if len(value) else None
        return "" if value is None else str(value).replace("\0", "").strip()
    except Exception:  # as in `parse`: elements are parsed when they are looked at
        return ""


def check(dataset: Dataset, max_pixels: int) -> None:
    """Refuse what is no single radiograph of up to `max_pixels` pixels with 8 or 16 bits.

    Raises:
        UnreadableImage: says what was found and what was expected.
    """
    found = modality(dataset)
    if has_no_picture(dataset):
        raise UnreadableImage(f"a DICOM object without a picture ({kind_of_object(dataset) or found or 'unknown'})")
    if found not in MODALITIES and (text_of(dataset, "Modality") or not _is_radiograph(found)):
        raise UnreadableImage(f"DICOM of modality {found or 'unknown'}, expected one of {', '.join(MODALITIES)}")
    n_frames = _whole(dataset, "NumberOfFrames", default=1)
    if n_frames > 1:
        raise UnreadableImage(f"DICOM with {n_frames} frames, expected one")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if rows < 1 or columns < 1:
        raise UnreadableImage(f"DICOM of {columns} × {rows} pixels")
    if rows * columns > max_pixels:
        raise UnreadableImage(f"{columns} × {rows} pixels are more than the {max_pixels:,} allowed")
    for name in _PIXELS[1:]:
        if name in dataset:
            raise UnreadableImage("DICOM with pixels of floating point numbers, expected integers of 8 or 16 bits")
    if "PixelData" not in dataset or not dataset["PixelData"].value:
        raise UnreadableImage("DICOM without pixels (no PixelData)")
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise UnreadableImage(f"DICOM pixels of {stored} in {allocated} bits, expected up to 16 in 8 or 16")
    photometric, samples = text_of(dataset, "PhotometricInterpretation"), _whole(dataset, "SamplesPerPixel")
    expected = 3 if photometric in _COLOURS else 1
    if photometric not in (*_MONOCHROME, *_COLOURS, _PALETTE) or samples != expected:
        raise UnreadableImage(
            f"DICOM of photometric interpretation {_named(photometric)} with {samples} samples, expected one of "
            f"{', '.join((*_MONOCHROME, _PALETTE, *_COLOURS[:2]))}"
        )


def _is_radiograph(kind: str) -> bool:
    """Whether an object of no stated modality is one of a kind that only radiographs and captures are, or of no stated kind."""
    words = (
        "Computed Radiography",
        "Digital X-Ray Image",
        "X-Ray Angiographic",
        "X-Ray Radiofluoroscopic",
        "Secondary Capture",
    )
    return not kind or kind.startswith(words)


def _to_grey(dataset: Dataset) -> np.ndarray:
    photometric = text_of(dataset, "PhotometricInterpretation")
    stored = _stored_pixels(dataset)
    if photometric == _PALETTE:
        return _luma(apply_color_lut(stored, dataset)[..., :3], _bits_of_palette(dataset))
    if photometric in _COLOURS:
        return _luma(stored, int(dataset.BitsStored))
    padding = _padding(stored, dataset)
    grey = _displayed(stored, dataset, ~padding)
    if photometric == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _stored_pixels(dataset: Dataset) -> np.ndarray:
    """The integers of PixelData [height, width] or [height, width, 3], colours as RGB."""
    syntax = uid.UID(text_of(dataset.file_meta, "TransferSyntaxUID"))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableImage(f"DICOM pixels {_name_of(syntax)} cannot be decoded here") from None
    stored_bits, shift = int(dataset.BitsStored), 0
    if not syntax.is_encapsulated:
        _check_length(dataset)
        # Old files have their bits at the upper end: read all below the highest, and drop those that are not stored.
        high = _whole(dataset, "HighBit", default=stored_bits - 1)
        if stored_bits <= high < int(dataset.BitsAllocated):
            shift = high + 1 - stored_bits
            dataset.BitsStored = high + 1
    plugin = dicom_codecs.PLUGIN if syntax in dicom_codecs.DECODER_DEPENDENCIES else "pydicom"
    try:
        pixels, _ = decoder.as_array(dataset, index=0, decoding_plugin=plugin if syntax.is_encapsulated else "")
    except RuntimeError as error:  # pydicom: "Unable to decode …:\n  PLUGIN: what it said"
        said = str(error).splitlines()[-1].strip().removeprefix(f"{plugin}: ")
        raise UnreadableImage(f"the DICOM pixels cannot be decoded ({said[:_LONGEST_REASON]})") from None
    dataset.BitsStored = stored_bits
    return pixels >> shift


def _check_length(dataset: Dataset) -> None:
    """Refuse a file that ends before its picture does; what lies behind the picture does no harm."""
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else int(dataset.SamplesPerPixel)
    expected = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.BitsAllocated) // 8
    found = len(dataset.PixelData)
    if found < expected:
        raise UnreadableImage(f"truncated: {found:,} bytes of pixels where the DICOM header says {expected:,}")


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Where nothing was exposed: bool [height, width], of PixelPaddingValue, up to PixelPaddingRangeLimit."""
    bits = int(dataset.BitsAllocated)
    ends = [_integer(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    ends = [end for end in ends if end is not None]
    if not ends or "PixelPaddingValue" not in dataset:
        return np.zeros(stored.shape, bool)
    if np.issubdtype(stored.dtype, np.signedinteger):  # some write it as if it were unsigned
        ends = [(end + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for end in ends]
    found = (stored >= min(ends)) & (stored <= max(ends))
    return np.zeros(stored.shape, bool) if found.all() else found


def _displayed(stored: np.ndarray, dataset: Dataset, exposed: np.ndarray) -> np.ndarray:
    """uint8 [height, width] by modality LUT, then VOI LUT or window, or percentiles where there is neither, or it shows nothing.

    What becomes of each value that occurs is worked out once, not for each pixel.
    """
    first = int(stored.min())
    place = stored.astype(np.int32) - first
    levels = np.arange(first, int(stored.max()) + 1)
    values = _rescaled(levels, dataset)
    for shown in (_by_voi_lut, _by_window):
        table = shown(values, dataset)
        if table is not None:
            grey = table[place]
            if grey[exposed].min() < grey[exposed].max():
                return grey
    if values is not levels:
        return to_grey_levels(values[place], exposed)
    if stored.dtype == np.uint8 and int(dataset.BitsStored) == 8:
        return stored.copy()  # as any other picture of 8 bits
    return to_grey_levels(stored, exposed)


def _rescaled(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """What stored values [n] mean, int64 or float64 [n]; the values themselves where the header does not say."""
    item = _first_item(dataset, "ModalityLUTSequence")
    if item is not None:
        table, first, _ = _lut(item, dataset)
        return table[(stored.astype(np.int64) - first).clip(0, len(table) - 1)]
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope is None or intercept is None or slope == 0 or (slope, intercept) == (1, 0):
        return stored
    plain = Dataset()
    plain.RescaleSlope, plain.RescaleIntercept = slope, intercept
    return apply_modality_lut(stored, plain)


def _by_voi_lut(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """The first VOI LUT's levels of values [n], uint8 [n]; None where there is none."""
    item = _first_item(dataset, "VOILUTSequence")
    if item is None:
        return None
    table, first, bits = _lut(item, dataset)
    place = (np.round(values).astype(np.int64) - first).clip(0, len(table) - 1)
    return (table * (255 / (2**bits - 1))).clip(0, 255).round().astype(np.uint8)[place]


def _by_window(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """The first window's levels of values [n], uint8 [n]; None where there is none that can be applied."""
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = text_of(dataset, "VOILUTFunction").upper() or "LINEAR"
    if center is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    values = values.astype(np.float64)
    if function == "SIGMOID":
        levels = 1 / (1 + np.exp((-4 * (values - center) / width).clip(-500, 500)))
    elif function == "LINEAR_EXACT":
        levels = (values - center) / width + 0.5
    else:
        levels = (values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5
    return (255 * levels.clip(0, 1)).round().astype(np.uint8)


def _lut(item: Dataset, dataset: Dataset) -> tuple[np.ndarray, int, int]:
    """A lookup table int64 [n], the value that its first entry is of, and the bits of its entries."""
    n, first, bits = (int(value) for value in item.LUTDescriptor)
    data = item.LUTData
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    if first >= 2**15 and signed:  # read as unsigned where the header does not say otherwise
        first -= 2**16
    n = n or 2**16
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID != uid.ExplicitVRBigEndian else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * n else "u1")
    table = np.atleast_1d(np.asarray(data)).astype(np.int64)[:n]
    if not len(table) or not 1 <= bits <= 16:
        raise UnreadableImage("a lookup table of the DICOM header is empty or damaged")
    return table, first, bits


def _luma(rgb: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [height, width] of colours [height, width, 3] of so many bits."""
    if bits > 8:
        rgb = rgb >> (bits - 8)
    return cv2.cvtColor(np.ascontiguousarray(rgb.clip(0, 255).astype(np.uint8)), cv2.COLOR_RGB2GRAY)


def _bits_of_palette(dataset: Dataset) -> int:
    name = "RedPaletteColorLookupTableDescriptor"
    return int(dataset[name].value[2])


def _first_item(dataset: Dataset, name: str) -> Dataset | None:
    """The first item of a sequence of lookup tables; None where there is none with a table."""
    sequence = dataset.get(name)
    item = sequence[0] if sequence else None
    return item if item is not None and item.get("LUTDescriptor") and item.get("LUTData") is not None else None


def _whole(dataset: Dataset, name: str, default: int = 0) -> int:
    found = _integer(dataset, name)
    return default if found is None else found


def _integer(dataset: Dataset, name: str) -> int | None:
    number = _number(dataset, name)
    return None if number is None else int(number)


def _number(dataset: Dataset, name: str) -> float | None:
    """The value of an element, the first of several; None where it is missing, empty or no finite number."""
    try:
        number = float(text_of(dataset, name))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_TRANSFER_SYNTAX = {
    (True, True): uid.ImplicitVRLittleEndian,
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
    (True, False): uid.ExplicitVRBigEndian,
}


def _check_deflated(content: bytes, max_bytes: int) -> None:
    """Refuse a deflated data set that would become larger: pydicom inflates whatever there is."""
    head = content[: PREAMBLE + 2**12]
    if uid.DeflatedExplicitVRLittleEndian.encode() not in head:
        return
    start = PREAMBLE + 4
    if content[start : start + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise UnreadableImage("a deflated DICOM file whose header does not say where it ends")
    begin = start + 12 + int.from_bytes(content[start + 8 : start + 12], "little")
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflating.decompress(content[begin:], max_bytes)
    except zlib.error as error:
        raise UnreadableImage(f"a deflated DICOM file that is damaged ({error})") from None
    if inflating.unconsumed_tail:
        raise UnreadableImage(f"a deflated DICOM file of more than {max_bytes:,} bytes")


def _be_silent() -> None:
    """What pydicom finds odd in a header it would tell the terminal; here a file is read, or there is a reason why not."""
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")


def _named(code: str) -> str:
    """A word of the standard's own; "unknown" for what only stands in its place: that may be anybody's name."""
    return code if _CODE.fullmatch(code) else "unknown"
