"""DICOM files to grey pictures: expected levels are worked out by hand from DICOM PS3.3, C.7.6.3 and C.11."""

import io
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fracture_mae.data.reading import dicom
from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.encoding import encoding_of
from tests.dicom_files import EIGHT_BITS, RAMP, TOLERANCE, dicom_bytes, header, lut, written

PROJECT = Path(__file__).resolve().parents[4]
WHOLE_RANGE = {"WindowCenter": 2048, "WindowWidth": 4096}  # of 12 bits: 0 → 0, 4095 → 255
EIGHT = (RAMP // 16).astype(np.uint8)


def row(values, dtype=np.uint16):
    """A picture of one row."""
    return np.array([values], dtype)


@pytest.mark.parametrize("syntax", TOLERANCE)
def test_every_transfer_syntax_is_read(syntax):
    content = dicom_bytes(
        EIGHT if syntax in EIGHT_BITS else RAMP, syntax, **({} if syntax in EIGHT_BITS else WHOLE_RANGE)
    )
    expected = EIGHT if syntax in EIGHT_BITS else np.round(RAMP * (255 / 4095))
    assert np.abs(decode(content) - expected).max() <= np.ceil(TOLERANCE[syntax] * 255 / 4095)


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big_endian"])
def test_a_file_without_preamble_or_meta_information_is_read(syntax):
    content = dicom_bytes(RAMP, syntax, **WHOLE_RANGE)
    length = int.from_bytes(content[140:144], "little")
    assert (decode(content[132:]) == decode(content)).all()
    assert (decode(content[144 + length :]) == decode(content)).all()
    assert (decode(content[128:]) == decode(content)).all()


def test_colours_become_luma():
    colours = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    luma = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY).astype(int)
    for syntax in ("explicit", "rle", "jpeg_lossless_sv1", "jpeg_ls", "jpeg_2000"):
        assert (decode(dicom_bytes(colours, syntax)) == luma).all()
    for syntax, photometric in (("jpeg", "YBR_FULL_422"), ("jpeg_2000", "YBR_RCT"), ("jpeg_2000_lossy", "YBR_ICT")):
        assert np.abs(decode(dicom_bytes(colours, syntax, PhotometricInterpretation=photometric)) - luma).mean() < 2
    ybr = cv2.cvtColor(colours, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    shown = decode(dicom_bytes(np.ascontiguousarray(ybr), PhotometricInterpretation="YBR_FULL"))
    assert np.abs(shown - luma).max() <= 2
    planes = np.ascontiguousarray(colours.transpose(2, 0, 1)).reshape(32, 32, 3)
    assert (decode(dicom_bytes(planes, PlanarConfiguration=1)) == luma).all()


def test_a_palette_is_looked_up():
    table = np.arange(256, dtype=np.uint16)[::-1] * 257
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))
    }
    shown = decode(dicom_bytes(row([0, 100, 255, 7], np.uint8), PhotometricInterpretation="PALETTE COLOR", **palette))
    assert shown.tolist() == [[255, 155, 0, 248]]


def test_monochrome1_is_turned():
    turned = decode(dicom_bytes(RAMP, PhotometricInterpretation="MONOCHROME1", **WHOLE_RANGE))
    assert (turned == 255 - decode(dicom_bytes(RAMP, **WHOLE_RANGE))).all()


def test_bytes_without_a_window_stay_as_in_any_other_picture():
    assert (decode(dicom_bytes(EIGHT)) == EIGHT).all()


def test_without_a_window_the_field_is_stretched():
    """Anatomy from 800 to 1,200 of 4,096, a marker at the top."""
    picture = np.tile(np.linspace(800, 1200, 300).astype(np.uint16), (200, 1))
    picture[10:30, 10:30] = 4095
    shown = decode(dicom_bytes(picture))
    assert shown[100, 5] < 20
    assert shown[100, -5] > 235


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            {"WindowCenter": 100, "WindowWidth": 101},
            [0, 0, 128, 255, 255],
        ),  # (x - 99.5) / 100 + 0.5 of x = 0, 49, 100, 150, 400
        ({"WindowCenter": 100, "WindowWidth": 102, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 128, 252, 255]),
        ({"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"}, [5, 29, 128, 225, 255]),
        ({"WindowCenter": [100, 2000], "WindowWidth": [101, 4000]}, [0, 0, 128, 255, 255]),  # the first one
        ({"WindowCenter": 210, "WindowWidth": 201, "RescaleSlope": 2, "RescaleIntercept": 10}, [0, 0, 128, 255, 255]),
    ],
)
def test_windows(tags, expected):
    shown = decode(dicom_bytes(row([0, 49, 100, 150, 400]), **tags))
    assert np.abs(shown.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_a_window_of_no_width_is_none(width):
    assert (decode(dicom_bytes(RAMP, WindowCenter=9, WindowWidth=width)) == decode(dicom_bytes(RAMP))).all()


def test_a_window_that_shows_nothing_is_none():
    assert (decode(dicom_bytes(RAMP, WindowCenter=30_000, WindowWidth=10)) == decode(dicom_bytes(RAMP))).all()


def test_a_voi_lut_goes_before_a_window():
    steps = lut([0, 10, 20, 30], first=5, bits=8)
    shown = decode(dicom_bytes(row([0, 5, 6, 8, 99]), VOILUTSequence=steps, **WHOLE_RANGE))
    assert shown.tolist() == [[0, 0, 10, 30, 30]]


def test_a_modality_lut_comes_before_the_window():
    steps = lut([0, 4095, 2048], first=0, bits=12)
    assert decode(dicom_bytes(row([0, 1, 2]), ModalityLUTSequence=steps, **WHOLE_RANGE)).tolist() == [[0, 255, 128]]


def test_empty_sequences_of_tables_are_none():
    empty = {"VOILUTSequence": Sequence([]), "ModalityLUTSequence": Sequence([Dataset()])}
    assert (decode(dicom_bytes(RAMP, **empty, **WHOLE_RANGE)) == decode(dicom_bytes(RAMP, **WHOLE_RANGE))).all()


def test_signed_values():
    shown = decode(dicom_bytes(row([-1000, 0, 1000], np.int16), WindowCenter=0.5, WindowWidth=2001))
    assert shown.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_bits_beyond_those_stored_are_dropped(dtype):
    """Overlays once lay in the upper four bits."""
    values = row([0, 100, 2000], np.uint16)
    content = dicom_bytes((values | 0x3000).view(dtype), bits=12, **WHOLE_RANGE)
    assert (decode(content) == decode(dicom_bytes(values, **WHOLE_RANGE))).all()


def test_bits_at_the_upper_end_are_read():
    values = row([0, 100, 4000])
    assert (
        decode(dicom_bytes(values << 4, HighBit=15, **WHOLE_RANGE)) == decode(dicom_bytes(values, **WHOLE_RANGE))
    ).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_has_no_part_in_the_window(photometric):
    picture = np.tile(np.linspace(800, 1200, 300).astype(np.uint16), (200, 1))
    plain = decode(dicom_bytes(picture, PhotometricInterpretation=photometric))
    picture[:, :100] = 4000
    picture[:, 100:120] = 3990
    padding = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 3990}
    shown = decode(dicom_bytes(picture, PhotometricInterpretation=photometric, **padding))
    assert (shown[:, :120] == 0).all()
    bright, dark = (-1, 150) if photometric == "MONOCHROME2" else (150, -1)
    assert shown[50, bright] > 230
    assert shown[50, dark] < 25
    assert (plain[:, :100] != 0).any()


def test_padding_of_signed_values_may_be_written_unsigned():
    picture = row([-2000, 0, 1000], np.int16)
    content = dicom_bytes(picture, bits=16, PhotometricInterpretation="MONOCHROME1", WindowCenter=0, WindowWidth=2000)
    unpadded = decode(content)
    made = dicom.parse(content)
    made.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    assert unpadded[0, 0] == 255
    assert decode(written(made))[0, 0] == 0


@pytest.mark.parametrize("modality", dicom.MODALITIES)
def test_radiographs_and_captures_are_read(modality):
    assert decode(dicom_bytes(RAMP, Modality=modality)).shape == RAMP.shape


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        *(
            ({"Modality": name}, f"modality {name}, expected one of CR")
            for name in ("CT", "MR", "US", "NM", "PT", "MG")
        ),
        ({"Modality": None, "SOPClassUID": uid.CTImageStorage}, "modality CT Image Storage, expected"),
        ({"NumberOfFrames": 2}, "2 frames, expected one"),
        ({"Rows": 65_535, "Columns": 65_535}, "65535 × 65535 pixels are more than"),
        ({"Rows": 0}, "64 × 0 pixels"),
        ({"Rows": 500}, "truncated: 6,144 bytes of pixels where the DICOM header says 64,000"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 in 32 bits, expected up to 16 in 8 or 16"),
        ({"BitsAllocated": 12}, "12 in 12 bits"),
        ({"BitsStored": 20}, "20 in 16 bits"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation HSV"),
        ({"PhotometricInterpretation": "RGB"}, "RGB with 1 samples"),
        ({"FloatPixelData": b"\0" * 4}, "floating point"),
    ],
)
def test_what_is_no_single_radiograph_is_refused_with_the_reason(tags, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(dicom_bytes(RAMP, **tags))


@pytest.mark.parametrize(
    "kind",
    [uid.BasicTextSRStorage, uid.GrayscaleSoftcopyPresentationStateStorage, uid.KeyObjectSelectionDocumentStorage],
)
def test_objects_without_a_picture_say_what_they_are(kind):
    with pytest.raises(UnreadableImage, match=f"without a picture .{kind.name}"):
        decode(written(header(SOPClassUID=kind, Modality="OT")))


def test_missing_pixels_are_told():
    made = dicom.parse(dicom_bytes(RAMP))
    for empty in (True, False):
        made.PixelData = b""
        if not empty:
            del made.PixelData
        with pytest.raises(UnreadableImage, match="no PixelData"):
            decode(written(made))


@pytest.mark.parametrize("syntax", ["jpeg_lossless_sv1", "jpeg_ls", "jpeg_2000"])
def test_a_stream_of_another_size_is_not_decoded(syntax):
    """CharLS took seventeen seconds for a stream that states 12,288 × 16,387 pixels, and more memory than many machines have."""
    with pytest.raises(UnreadableImage, match="has 64 × 48 pixels of 1 samples, where the header says 64 × 49 of 1"):
        decode(dicom_bytes(RAMP, syntax, Rows=49))


def test_an_unknown_compression_is_told():
    made = dicom.parse(dicom_bytes(RAMP, "jpeg_2000"))
    with pytest.raises(UnreadableImage, match=r"MPEG2 Main Profile.* cannot be decoded"):
        decode(written(made, uid.MPEG2MPML))


def test_a_deflated_file_that_becomes_too_large_is_refused():
    content = dicom_bytes(np.zeros((4000, 4000), np.uint8), "deflated")
    assert len(content) < 30_000
    with pytest.raises(UnreadableImage, match="deflated DICOM file of more than"):
        dicom.parse(content, max_bytes=10**7)


def test_reasons_name_nobody():
    """A number that is none would be quoted by Python's own error."""
    content = dicom_bytes(RAMP, PatientName="Doe^Jane", Modality="JANE^DOE").replace(b"MONOCHROME2", b"DOE^JANE^^^")
    with pytest.raises(UnreadableImage) as told:
        decode(content)
    assert "JANE" not in str(told.value).upper()


def test_the_encoding_of_a_file_says_dicom():
    assert encoding_of(dicom_bytes(RAMP))[:3] == ("DICOM", 1, 12)
    assert encoding_of(dicom_bytes(np.zeros((4, 4, 3), np.uint8)))[:3] == ("DICOM", 3, 8)


# Each made pydicom, or a decoder, stumble once: an unknown kind of value, and one byte of run lengths too many.
_STUMBLED = {
    "value of pixels": lambda content: content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O\x80"),
    "run lengths": lambda content: content[:-40] + b"\x7f" * 40,
    "group length": lambda content: content[:140] + b"\xff\xff\xff\x7f" + content[144:],
}


@pytest.mark.parametrize("syntax", ["explicit", "rle"])
@pytest.mark.parametrize("change", _STUMBLED)
def test_what_once_stumbled_is_read_or_refused(syntax, change, capfd):
    _read_or_refused(_STUMBLED[change](dicom_bytes(RAMP, syntax)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", TOLERANCE)
def test_damaged_files_are_read_or_refused_in_silence(syntax, capfd):
    rng = random.Random(syntax)
    whole = dicom_bytes(EIGHT[:24, :32] if syntax in EIGHT_BITS else RAMP[:24, :32], syntax, **WHOLE_RANGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            # Of damaged JPEG-LS the header alone: on some damaged codes CharLS spends twelve seconds before it says so.
            end = whole.index(b"\xff\xda") if "jpeg_ls" in syntax else len(whole)
            _read_or_refused(_damaged(whole[:end], rng) + whole[end:])
        for length in range(0, len(whole), len(whole) // 40):
            _read_or_refused(whole[:length])
    assert capfd.readouterr() == ("", "")


def _damaged(whole, rng):
    content = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(128, 900) if rng.random() < 0.6 else rng.randrange(len(content))
        place = min(place, len(content) - 1)
        kind = rng.random()
        if kind < 0.6:
            content[place] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind < 0.8:
            del content[place : place + rng.randrange(1, 30)]
        else:
            content[place:place] = rng.randbytes(rng.randrange(1, 12))
    return bytes(content)


def _read_or_refused(content):
    try:
        shown = decode(content)
    except UnreadableImage:
        return
    assert shown.dtype == np.uint8
    assert shown.ndim == 2


def test_a_file_is_never_told_by_its_name(tmp_path):
    for name in ("1.jpg", "1", "1.2.840.113"):
        (tmp_path / name).write_bytes(dicom_bytes(RAMP))
        assert decode((tmp_path / name).read_bytes()).shape == RAMP.shape
    buffer = io.BytesIO(cv2.imencode(".png", EIGHT)[1].tobytes())
    assert (decode(buffer.getvalue()) == EIGHT).all()


def test_many_threads_may_begin_at_once():
    """Decoders are made known to pydicom once, which two threads must not do at the same time."""
    code = """
from concurrent.futures import ThreadPoolExecutor
from fracture_mae.data.reading.decoding import decode
from tests.dicom_files import RAMP, dicom_bytes
content = dicom_bytes(RAMP, "jpeg_ls")
with ThreadPoolExecutor(16) as pool:
    assert len({picture.tobytes() for picture in pool.map(decode, [content] * 64)}) == 1
"""
    environment = os.environ | {"PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
