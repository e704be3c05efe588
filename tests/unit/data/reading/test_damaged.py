"""Files that are damaged or made to harm: they are refused in words, and cost neither the process nor much memory or time."""

import contextlib
import io
import os
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
from fracture_mae.data.reading.decoding import FORMATS, UnreadableImage, decode
from fracture_mae.data.reading.encoding import encoding_of
from fracture_mae.data.reading.preprocessing import PREPROCESSINGS, preprocess
from tests.unit.data.reading.test_png import chunk

RAMP = Image.fromarray(np.tile(np.arange(0, 200, 5, dtype=np.uint8), (24, 1)))
MODES = ("L", "RGB", "RGBA", "1", "P", "I;16", "F")
OPTIONS = ({}, {"progressive": True}, {"compression": "tiff_lzw"}, {"save_all": True, "append_images": [RAMP, RAMP]})


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def small_files():
    """A small file of each format, mode and way to compress; where Pillow cannot write one, there is none."""
    found = set()
    for kind in FORMATS:
        for mode in MODES:
            for options in OPTIONS:
                try:
                    found.add(saved(RAMP.convert(mode), kind, **options))
                except (OSError, ValueError, KeyError, RuntimeError):
                    continue
    return sorted(found)


FILES = small_files()


def with_checksums(content):
    """A PNG whose chunks have the checksums of what is in them, so that a decoder goes on to look at it."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    mended, position = bytearray(content), 8
    while position + 12 <= len(mended):
        end = position + 8 + struct.unpack(">I", mended[position : position + 4])[0]
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(mended)


def spoilt(content, changes):
    """Some bytes set, left out or doubled; places are shares of the length."""
    spoilt = bytearray(content)
    for place, how, value in changes:
        at = int(place * len(spoilt))
        if how == "set":
            spoilt[at : at + 1] = bytes([value])
        elif how == "word":
            spoilt[at : at + 4] = value.to_bytes(1) * 4
        elif how == "cut":
            del spoilt[at : at + value]
        else:
            spoilt[at:at] = spoilt[at : at + value]
    return with_checksums(bytes(spoilt))


CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True) | st.floats(0, 0.1),
        st.sampled_from(["set", "set", "word", "cut", "double"]),
        st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def test_the_small_files_are_of_all_formats_and_can_be_read():
    found = {encoding_of(content).format for content in FILES}
    assert found == set(FORMATS)
    for content in FILES:
        assert decode(content).shape == (24, 40)


# More of them: FRACTURE_MAE_EXAMPLES=100000 pytest tests/unit/data/reading/test_damaged.py
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=int(os.environ.get("FRACTURE_MAE_EXAMPLES", "300")), deadline=None, derandomize=True)
@given(st.sampled_from(FILES), CHANGES, st.sampled_from(sorted(PREPROCESSINGS)))
def test_damaged_files_are_read_or_refused(content, changes, how):
    content = spoilt(content, changes)
    try:
        picture = decode(content)
    except UnreadableImage:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 2
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

    if kind.startswith("16-bit"):
        content = cv2.imencode(f".{kind[-4:].lower().strip()}", np.full((20, 20, 3), 9_000, np.uint16))[1].tobytes()
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
    return with_checksums(animated.replace(b"fcTL", b"gcTL", 1).replace(b"fdAT", b"fd\0T", 1))


HARMFUL = {
    "a profile of 100 MB": after_header(chunk(b"iCCP", b"x\0\0" + zipped(10**8))),
    "a text of 100 MB": after_header(chunk(b"zTXt", b"x\0\0" + zipped(10**8))),
    "a text of 100 MB at the end": PNG[:-12] + chunk(b"zTXt", b"x\0\0" + zipped(10**8)) + PNG[-12:],
    "2,000 texts": after_header(*[chunk(b"zTXt", b"x\0\0" + zipped(900_000))] * 2_000),
    "a chunk of 4 GB": after_header(chunk(b"IDAT", b"", 2**32 - 1)),
    "an animation that ended the process": animation_with_a_damaged_chunk(),
    "a comment of 30 MB": b"P5\n#" + b"#" * 30_000_000 + b"\n1 1 255\n\0",
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
