"""DICOM files of a few hundred bytes, in each transfer syntax that is read."""

import io

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence

ROOT = "1.2.826.0.1.3680043.8.498."
RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (48, 1))  # 48 x 64, of 12 bits

# What each may change of 12-bit values.
TOLERANCE = {
    "implicit": 0,
    "explicit": 0,
    "big_endian": 0,
    "deflated": 0,
    "rle": 0,
    "jpeg": 0,  # of 8 bits, see EIGHT_BITS
    "jpeg_12_bits": 40,
    "jpeg_lossless": 0,
    "jpeg_lossless_sv1": 0,
    "jpeg_ls": 0,
    "jpeg_ls_near": 2,
    "jpeg_2000": 0,
    "jpeg_2000_lossy": 40,
}
EIGHT_BITS = ("jpeg",)
_NATIVE = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big_endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
}
_COMPRESSED = {
    "jpeg": (uid.JPEGBaseline8Bit, lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, level=95)),
    "jpeg_12_bits": (
        uid.JPEGExtended12Bit,
        lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12),
    ),
    "jpeg_lossless": (
        uid.JPEGLossless,
        lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=2, bitspersample=bits),
    ),
    "jpeg_lossless_sv1": (
        uid.JPEGLosslessSV1,
        lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits),
    ),
    "jpeg_ls": (uid.JPEGLSLossless, lambda pixels, bits: imagecodecs.jpegls_encode(pixels)),
    "jpeg_ls_near": (uid.JPEGLSNearLossless, lambda pixels, bits: imagecodecs.jpegls_encode(pixels, level=2)),
    "jpeg_2000": (
        uid.JPEG2000Lossless,
        lambda pixels, bits: imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=bits),
    ),
    "jpeg_2000_lossy": (
        uid.JPEG2000,
        lambda pixels, bits: imagecodecs.jpeg2k_encode(
            pixels, codecformat="J2K", level=70, reversible=False, bitspersample=bits
        ),
    ),
}


def header(number: int = 1, **tags) -> Dataset:
    """A radiograph's header without what is said of pixels; tags that are None are left out."""
    made = Dataset()
    told = {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "SOPInstanceUID": f"{ROOT}3.{number}",
        "StudyInstanceUID": f"{ROOT}1.{number}",
        "SeriesInstanceUID": f"{ROOT}2.{number}",
        "Modality": "CR",
        "PatientID": f"patient-{number}",
        "PatientName": "Somebody^Some",
        **tags,
    }
    for name, value in told.items():
        if value is not None:
            setattr(made, name, value)
    return made


def dicom_bytes(
    pixels: np.ndarray = RAMP, syntax: str = "explicit", *, number: int = 1, bits: int = 0, **tags
) -> bytes:
    """A file of a picture [height, width] or [height, width, 3], MONOCHROME2 or RGB unless told.

    Args:
        bits: stored ones; 0: 8 of bytes and 12 of others.
        tags: further elements by their keywords, also in place of those that follow from the pixels.
    """
    made = header(number)
    bits = bits or (8 if pixels.dtype.itemsize == 1 else 12)
    samples = 1 if pixels.ndim == 2 else 3
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = samples
    made.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    made.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    for name, value in tags.items():
        if value is not None:
            setattr(made, name, value)
        elif name in made:
            delattr(made, name)
    if syntax in _NATIVE:
        transfer = _NATIVE[syntax]
        stored = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big_endian" else "<")).tobytes()
        made.PixelData = stored + bytes(len(stored) % 2)
        made["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    else:
        if syntax == "rle":
            transfer = uid.RLELossless
            options = {
                "rows": pixels.shape[0],
                "columns": pixels.shape[1],
                "samples_per_pixel": samples,
                "bits_allocated": 8 * pixels.dtype.itemsize,
                "bits_stored": bits,
                "pixel_representation": made.PixelRepresentation,
                "photometric_interpretation": made.PhotometricInterpretation,
                "number_of_frames": 1,
                "planar_configuration": 0,
            }
            stream = get_encoder(transfer).encode(pixels, encoding_plugin="pydicom", **options)
        else:
            transfer, encode = _COMPRESSED[syntax]
            stream = encode(pixels, bits)
        made.PixelData = encapsulate([stream])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
    return written(made, transfer)


def written(made: Dataset, transfer: str = uid.ExplicitVRLittleEndian) -> bytes:
    """A data set as DICOM Part 10."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = transfer
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", "")
    made.file_meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID", "")
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lut(data: list[int], first: int, bits: int) -> Sequence:
    """A sequence of one lookup table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return Sequence([item])
