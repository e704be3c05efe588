import io

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fracture_mae.data.reading.decoding import UnreadableImage, decode, letterbox
from fracture_mae.data.reading.placement import Placement

RAMP = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (60, 1))  # 60 x 100, dark left, bright right


def encoded(picture: np.ndarray, ending: str = ".png") -> bytes:
    return cv2.imencode(ending, picture)[1].tobytes()


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff", ".webp"])
def test_grey_comes_back_as_it_was(ending):
    tolerance = 0 if ending != ".webp" else 6
    assert np.abs(decode(encoded(RAMP, ending)).astype(int) - RAMP).max() <= tolerance


def test_jpeg_comes_back_nearly():
    assert np.abs(decode(encoded(RAMP, ".jpg")).astype(int) - RAMP).max() <= 4


def test_colour_becomes_luma():
    blue_green_red = np.zeros((4, 4, 3), np.uint8)
    blue_green_red[..., 1] = 100
    assert np.abs(decode(encoded(blue_green_red)).astype(int) - 59).max() <= 1  # 0.587 * 100


def test_palette_is_looked_up():
    palette = Image.fromarray(RAMP).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    assert np.abs(decode(saved(palette)).astype(int) - RAMP).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_is_black_and_half_transparent_half_as_bright(mode):
    picture = Image.new(mode, (2, 1))
    bright = (200, 200, 200) if mode == "RGBA" else (200,)
    picture.putpixel((0, 0), (*bright, 0))
    picture.putpixel((1, 0), (*bright, 128))
    assert decode(saved(picture)).tolist() == [[0, 100]]


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_16_bit_anatomy_beside_a_marker_keeps_its_grey_levels(ending):
    picture = np.tile(np.linspace(800, 1200, 300).astype(np.uint16), (200, 1))
    picture[10:30, 10:30] = 65_535
    shown = decode(encoded(picture, ending))
    assert (shown[10:30, 10:30] == 255).all()
    assert shown[100, 10] < 20
    assert shown[100, -10] > 235
    assert (np.diff(shown[100].astype(int)) >= 0).all()
    assert len(np.unique(shown)) > 200


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_turned(dtype):
    """What a TIFF of this kind stores as 0 is white; Pillow turns 8 bits itself where it writes them."""
    picture = np.tile(np.linspace(0, np.iinfo(dtype).max, 100).astype(dtype), (60, 1))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    content = saved(Image.fromarray(picture), "TIFF", tiffinfo=tags)
    shown = decode(content)
    brighter_right = shown[:, -5:].mean() > shown[:, :5].mean() + 200
    assert brighter_right == (dtype == np.uint8)


TURNED = {  # what EXIF's orientations mean, on [[1, 2], [3, 4]]
    1: [[1, 2], [3, 4]],
    2: [[2, 1], [4, 3]],
    3: [[4, 3], [2, 1]],
    4: [[3, 4], [1, 2]],
    5: [[1, 3], [2, 4]],
    6: [[3, 1], [4, 2]],
    7: [[4, 2], [3, 1]],
    8: [[2, 4], [1, 3]],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["RGBA PNG", "LA PNG", "P PNG", "RGBA WebP", "RGBA TIFF"])
def test_transparent_pictures_are_turned_too(kind, orientation):
    mode, _, kind = kind.partition(" ")
    quarters = np.kron(np.array([[1, 2], [3, 4]], np.uint8), np.ones((8, 8), np.uint8)) * 50
    picture = Image.fromarray(quarters)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WebP" else {}
    if mode == "P":
        picture = picture.convert("P")
        options["transparency"] = 0
    else:
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray(np.full(quarters.shape, 254, np.uint8)))  # an opaque one may be left out
    shown = decode(saved(picture, kind, exif=exif, **options))
    assert (np.round(shown[4::8, 4::8] / 50).astype(int)).tolist() == TURNED[orientation]


def test_exif_turn_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned = decode(saved(Image.fromarray(RAMP), "JPEG", exif=exif, quality=95))
    assert turned.shape == (100, 60)
    assert turned[-1].mean() > turned[0].mean() + 100


def test_a_truncated_jpeg_is_refused_and_says_so():
    whole = encoded(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8), ".jpg")
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[: len(whole) // 2])


def test_a_truncated_png_is_refused_and_says_so():
    whole = encoded(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[: len(whole) // 2])


def test_a_progressive_jpeg_cut_between_scans_is_refused():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    whole = saved(picture, "JPEG", progressive=True)
    last_scan = whole.rfind(b"\xff\xda")
    assert decode(whole).shape == (200, 200)
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[:last_scan])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm():
    assert decode(encoded(RAMP, ".jpg") + bytes(9000)).shape == RAMP.shape


def test_the_first_of_several_frames_is_taken():
    first, second = Image.fromarray(RAMP), Image.new("L", (100, 60))
    for kind in ("GIF", "TIFF", "PNG"):
        assert (decode(saved(first, kind, save_all=True, append_images=[second])) == RAMP).all()


def test_four_ink_jpeg():
    assert np.abs(decode(saved(Image.fromarray(RAMP).convert("CMYK"), "JPEG")).astype(int) - RAMP).max() <= 6


def test_a_picture_with_holes_in_its_values_is_refused():
    holed = RAMP.astype(np.float32)
    holed[0, 0] = np.nan
    with pytest.raises(UnreadableImage, match="no number"):
        decode(encoded(holed, ".tiff"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"no picture at all", "not an image")],
)
def test_what_is_no_picture_is_refused(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(content)


def test_pixels_are_counted_before_decoding():
    with pytest.raises(UnreadableImage, match="100 × 60 pixels are more than the 5,999 allowed"):
        decode(encoded(RAMP), max_pixels=5_999)
    assert decode(encoded(RAMP), max_pixels=6_000).shape == (60, 100)


def test_letterbox_keeps_proportions_and_centres_on_black():
    square, placement = letterbox(np.full((50, 100), 200, np.uint8), 32)
    assert square.shape == (32, 32)
    assert (square[8:24] == 200).all()
    assert (square[:8] == 0).all()
    assert (square[24:] == 0).all()
    assert placement == Placement(0.32, 0.32, left=0, top=8)


def test_letterbox_of_an_upright_picture_enlarges_it_and_has_bars_at_the_sides():
    square, placement = letterbox(np.full((8, 4), 200, np.uint8), 32)
    assert (square[:, 8:24] == 200).all()
    assert not square[:, :8].any()
    assert not square[:, 24:].any()
    assert placement == Placement(4, 4, left=8, top=0)


def test_letterbox_of_a_sliver_keeps_a_row():
    square, placement = letterbox(np.full((1, 1000), 9, np.uint8), 32)
    assert square.any()
    assert placement == Placement(0.032, 1, left=0, top=15)  # a pixel high, where in proportion it would vanish


def test_a_placement_says_where_each_pixel_went():
    picture = np.zeros((60, 90), np.uint8)
    picture[30:40, 60:75] = 255
    square, placement = letterbox(picture, 48)
    (left, top), (right, bottom) = placement.apply(np.array([[60, 30], [75, 40]]))
    rows, columns = np.nonzero(square > 127)
    assert np.abs([columns.min() - left, columns.max() + 1 - right]).max() <= 0.5
    assert np.abs([rows.min() - top, rows.max() + 1 - bottom]).max() <= 0.5
