import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fracture_mae.data.reading import png
from fracture_mae.data.reading.unreadable import UnreadableImage
from tests.pictures import chunk

RAMP = Image.fromarray(np.tile(np.arange(0, 200, 2, dtype=np.uint8), (60, 1)))


def saved(picture=RAMP, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_a_plain_file_stays_as_it_is():
    assert png.plain(saved()) == saved()


def test_what_is_no_part_of_the_picture_goes():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("name", "x" * 500, zip=True)
    others = saved(
        pnginfo=texts, icc_profile=bytes(300), dpi=(72, 72), save_all=True, append_images=[Image.new("L", RAMP.size)]
    )
    assert len(others) > len(saved())
    assert png.plain(others) == saved()


@pytest.mark.parametrize("mode", ["P", "LA", "1"])
def test_palette_transparency_and_turn_stay(mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = RAMP.convert(mode)
    whole = saved(picture, exif=exif, **({"transparency": 3} if mode == "P" else {}))
    with Image.open(io.BytesIO(png.plain(whole))) as plain:
        assert plain.getexif()[0x0112] == 6
        assert plain.convert("RGBA").tobytes() == Image.open(io.BytesIO(whole)).convert("RGBA").tobytes()


def test_bytes_behind_the_end_go():
    assert png.plain(saved() + b"more") == saved()


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2_000])
def test_a_chunk_that_is_said_to_be_longer_than_the_file_is_seen(length):
    whole = saved()
    with pytest.raises(UnreadableImage, match="truncated"):
        png.check(whole[:-12] + chunk(b"tEXt", b"x\0y", length) + whole[-12:])


def test_a_file_cut_within_a_length_is_seen():
    with pytest.raises(UnreadableImage, match="truncated"):
        png.check(saved()[:-10])


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_bit_that_is_not_as_it_was_written_is_seen(name):
    changed = bytearray(saved(RAMP.convert("P")))
    changed[changed.find(name) + 8] ^= 1
    with pytest.raises(UnreadableImage, match=rf"damaged \(the checksum of {name.decode()} is wrong\)"):
        png.check(bytes(changed))


def test_a_whole_file_is_let_through_whatever_stands_behind_it():
    png.check(saved() + b"more")
