"""Files that are damaged or made to harm: they are refused in words, and cost neither the process nor much memory or time."""

import contextlib
import io
import re
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fracture_mae.data.reading import decoding
from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.encoding import encoding_of
from fracture_mae.data.reading.preprocessing import PREPROCESSINGS, preprocess
from tests import damage, fuzz, pictures
from tests.dicom_files import dicom_bytes
from tests.pictures import chunk, saved

RAMP = Image.fromarray(np.tile(np.arange(0, 200, 5, dtype=np.uint8), (24, 1)))


# More of them, also through the index and the server: python -m tests.fuzz --minutes 5
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.sampled_from(sorted(PREPROCESSINGS)))
def test_damaged_files_are_read_as_by_pillow_or_refused(seed, how):
    name, content = damage.file(seed)
    try:
        picture = decode(content)
    except UnreadableImage:
        return
    assert (picture.dtype, picture.ndim) == (np.uint8, 2)
    assert fuzz.other_than_pillows(content, picture) == "", name
    encoding_of(content)
    squares, _ = preprocess(picture, 32, how)
    assert squares.shape[1:] == (32, 32)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, derandomize=True)
@example(b"P5 1000000 1000000 255\n")
@example(b"II*\0\xff\xff\xff\xff")
def test_any_bytes_are_read_or_refused(content):
    with contextlib.suppress(UnreadableImage):
        decode(content)


@pytest.mark.parametrize(
    "raised", [cv2.error("x"), MemoryError(), struct.error(), RecursionError(), NotImplementedError(), OverflowError()]
)
@pytest.mark.parametrize(
    ("decoder", "kind"),
    [
        ("PIL.Image.open", "PNG"),
        ("PIL.ImageFile.ImageFile.load", "PNG"),
        ("simplejpeg.decode_jpeg_header", "JPEG"),
        ("simplejpeg.decode_jpeg", "JPEG"),
        ("fracture_mae.data.reading.tiff.TiffFile", "TIFF"),
        ("tifffile.TiffPage.asarray", "16-bit TIFF"),
        ("cv2.imdecode", "16-bit PNG"),
    ],
)
def test_whatever_a_decoder_raises_is_an_unreadable_image(monkeypatch, raised, decoder, kind):
    def fails(*_, **__):
        raise raised

    if kind == "16-bit TIFF":
        content = pictures.tiff(pictures.SIXTEEN)
    elif kind == "16-bit PNG":
        content = cv2.imencode(".png", np.full((20, 20, 3), 9_000, np.uint16))[1].tobytes()
    else:
        content = saved(RAMP, kind)
    monkeypatch.setattr(decoder, fails)
    with pytest.raises(UnreadableImage):
        decode(content)


PNG = saved(RAMP, "PNG")
HEADER = 8 + 25  # bytes before the second chunk


def after_header(*chunks):
    return PNG[:HEADER] + b"".join(chunks) + PNG[HEADER:]


def zipped(n_bytes):
    return zlib.compress(bytes(n_bytes), 9)


def animation_with_a_damaged_chunk():
    animated = saved(RAMP, "PNG", save_all=True, append_images=[RAMP.transpose(Image.Transpose.ROTATE_180)] * 2)
    return damage.with_checksums(animated.replace(b"fcTL", b"gcTL", 1).replace(b"fdAT", b"fd\0T", 1))


HARMFUL = {
    "a profile of 100 MB": after_header(chunk(b"iCCP", b"x\0\0" + zipped(10**8))),
    "a text of 100 MB": after_header(chunk(b"zTXt", b"x\0\0" + zipped(10**8))),
    "a text of 100 MB at the end": PNG[:-12] + chunk(b"zTXt", b"x\0\0" + zipped(10**8)) + PNG[-12:],
    "2,000 texts": after_header(*[chunk(b"zTXt", b"x\0\0" + zipped(900_000))] * 2_000),
    "a chunk of 4 GB": after_header(chunk(b"IDAT", b"", 2**32 - 1)),
    "an animation that ended the process": animation_with_a_damaged_chunk(),
    "a comment of 30 MB": b"P5\n#" + b"#" * 30_000_000 + b"\n1 1 255\n\0",
    "five million comments": b"P2\n64 48\n255\n" + b"#\n" * 5_000_000,
    "filling between a JPEG's segments": b"\xff\xd8" + b"\xff" * 30_000_000,
    "filling behind its frame header": saved(RAMP, "JPEG").replace(b"\xff\xda", b"\xff" * 30_000_000 + b"\xff\xda"),
    "millions of segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 5_000_000,
    "2,000 frames": saved(
        RAMP, "GIF", save_all=True, append_images=[Image.new("L", (40, 24), i % 250) for i in range(2_000)]
    ),
}


@pytest.mark.parametrize("what", HARMFUL)
def test_a_harmful_file_costs_little(what):
    start = time.process_time()
    with contextlib.suppress(UnreadableImage), at_most(100):
        assert decode(HARMFUL[what]).ndim == 2
    assert (
        time.process_time() - start < 5
    )  # seconds; a moment now, and 15 for the comment, were it read letter by letter


@contextlib.contextmanager
def at_most(megabytes):
    """What is done takes no more memory than that beyond what the process has; where the system does not tell, nothing is held."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the most from here on
        before = most_memory()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        assert most_memory() - before < megabytes


def most_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PNG", "PPM", "JPEG2000"])
@pytest.mark.parametrize("size", [(1_100_000, 1), (1, 1_100_000)])
def test_a_side_longer_than_can_be_decoded_is_named(kind, size):
    with pytest.raises(UnreadableImage, match=f"{size[0]} × {size[1]} pixels: no side may be longer than 1,048,576"):
        decode(saved(Image.new("L", size), kind))


@pytest.mark.parametrize("how", sorted(PREPROCESSINGS))
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 100_000), (100_000, 1), (2, 3)])
def test_pictures_of_any_shape_become_squares(how, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert preprocess(picture, 32, how)[0].shape[1:] == (32, 32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_pixels_are_rounded_as_exactly_as_in_floating_point(dtype):
    full = np.iinfo(dtype).max
    levels = np.arange(256) * (full // 255)
    grey, opacity = (part.astype(dtype) for part in np.meshgrid(levels, levels))
    expected = np.round(grey.astype(float) * opacity / full)
    assert (decoding._on_black(grey, opacity) == expected).all()


def test_a_large_transparent_picture_takes_no_more_than_its_pixels():
    content = saved(Image.new("LA", (3_000, 3_000), (100, 128)), "PNG")
    with at_most(110):  # 9 million pixels of four bytes, twice; in floating point it took 250
        picture = decode(content)
    assert (picture == 50).all()


def xray_jpeg(**options):
    """Noise, of which nearly every byte is needed."""
    noise = np.random.default_rng(0).integers(0, 255, (80, 96), np.uint8)
    return saved(Image.fromarray(noise), "JPEG", quality=90, **options)


def without_its_middle(content):
    return content[: len(content) // 2] + content[len(content) // 2 + 60 :]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}])
def test_a_jpeg_stream_that_is_damaged_inside_is_refused(options):
    whole = xray_jpeg(**options)
    assert decode(whole).shape == (80, 96)
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 40] = bytes([0xFF, 0x55] * 20)
    for each in (without_its_middle(whole), bytes(damaged)):
        with pytest.raises(UnreadableImage, match=r"^the JPEG picture is damaged"):
            decode(each)


def test_a_jpeg_in_colours_of_four_inks_that_is_damaged_is_refused():
    whole = saved(Image.merge("CMYK", [Image.open(io.BytesIO(xray_jpeg()))] * 4), "JPEG")
    assert decode(whole).shape == (80, 96)
    with pytest.raises(UnreadableImage, match="the JPEG picture is damaged"):
        decode(without_its_middle(whole))


def test_zeros_that_fill_a_jpeg_up_do_no_harm_and_anything_else_does():
    whole = xray_jpeg()
    for filling in (bytes(7), b"\0\5" * 4):
        filled = whole[:-2] + filling + whole[-2:]
        if any(filling):
            with pytest.raises(UnreadableImage, match="extraneous bytes before marker 0xd9"):
                decode(filled)
        else:
            assert (decode(filled) == decode(whole)).all()


def test_a_jpeg_in_a_tiff_or_in_dicom_that_is_damaged_inside_is_refused():
    noise = np.random.default_rng(0).integers(0, 255, (80, 96), np.uint8)
    in_tiff, in_dicom = pictures.tiff(noise, compression="jpeg"), dicom_bytes(noise, "jpeg")
    assert decode(in_tiff).shape == decode(in_dicom).shape == (80, 96)
    for whole in (in_tiff, in_dicom):
        damaged = bytearray(whole)
        start = damaged.rfind(b"\xff\xda") + 200
        damaged[start : start + 40] = bytes([0xFF, 0x55] * 20)
        with pytest.raises(UnreadableImage, match="the JPEG picture is damaged"):
            decode(bytes(damaged))


def test_a_jpeg_of_endless_scans_is_refused():
    whole = xray_jpeg(progressive=True)
    scans = re.findall(rb"\xff\xda.*?(?=\xff[\xc4\xda\xd9])", whole, re.DOTALL)
    with pytest.raises(UnreadableImage, match="more than 100 scans"):
        decode(whole[:-2] + scans[-1] * 100 + whole[-2:])


def test_a_jpeg_ls_stream_without_an_end_is_refused_at_once():
    """CharLS looks for it for ten seconds."""
    whole = dicom_bytes(syntax="jpeg_ls")
    end = whole.rfind(b"\xff\xd9")
    start = time.process_time()
    for damaged in (whole[: end + 1] + b"\0" + whole[end + 2 :], whole[:end] + b"\0" + whole[end + 1 :]):
        with pytest.raises(UnreadableImage, match="the compressed picture has no end"):
            decode(damaged)
    assert time.process_time() - start < 1  # seconds


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_no_more_is_read_than_the_header_until_the_pixels_are_counted(kind):
    """Also of transparent files, whose turn may stand behind the pixels."""
    exif = Image.Exif()
    exif[274] = 6
    content = saved(Image.new("LA" if kind != "WEBP" else "RGBA", (4_000, 4_000)), kind, exif=exif)
    with at_most(20), pytest.raises(UnreadableImage, match="4000 × 4000 pixels are more than the 1,000,000 allowed"):
        decode(content, max_pixels=1_000_000)


def test_a_png_with_a_changed_bit_is_refused_with_the_name_of_its_chunk():
    changed = bytearray(PNG)
    changed[PNG.find(b"IDAT") + 20] ^= 4
    with pytest.raises(UnreadableImage, match=r"the PNG picture is damaged \(the checksum of IDAT is wrong\)"):
        decode(bytes(changed))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_level_that_is_transparent_becomes_black_and_no_other(bits):
    levels = pictures.PICTURE if bits == 8 else pictures.SIXTEEN
    level = int(levels[30, 40])
    grey = decode(pictures.png(bits, 0, levels, chunk(b"tRNS", level.to_bytes(2))))
    assert not grey[levels == level].any()
    assert (grey[(levels != level) & (levels > np.median(levels))] > 0).all()


def test_lzw_is_left_to_libtiff(monkeypatch):
    """A damaged stream, of 7 kB, ended the process in the other decoder, now and then."""

    def ends_the_process(*_, **__):
        raise AssertionError

    monkeypatch.setattr("imagecodecs.lzw_decode", ends_the_process)
    monkeypatch.setattr("tifffile.TiffPage.asarray", ends_the_process)
    whole = pictures.tiff(pictures.SIXTEEN, compression="lzw")
    assert pictures.likeness(decode(whole), pictures.PICTURE) > 0.99
    with pytest.raises(UnreadableImage, match="compressed by LZW, which is damaged"):
        decode(whole[:400] + bytes(range(250, 256)) * 9 + whole[454:])
