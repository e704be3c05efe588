import io

import cv2
import numpy as np
import pytest
from PIL import Image

from fracture_mae.data.reading.encoding import encoding_of

NOISE = np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 92, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_table(quality):
    content = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    assert encoding_of(content) == ("JPEG", 1, 8, quality, 0)
    assert encoding_of(saved(Image.fromarray(NOISE).convert("RGB"), "JPEG", quality=quality))[:4] == (
        "JPEG",
        3,
        8,
        quality,
    )


def test_tables_of_another_encoder_are_told_apart():
    flat = encoding_of(saved(Image.fromarray(NOISE), "JPEG", qtables=[[16] * 64]))
    assert flat.jpeg_deviation > 1
    assert 50 < flat.jpeg_quality < 100


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("L", "PNG", ("PNG", 1, 8)),
        ("RGBA", "PNG", ("PNG", 4, 8)),
        ("P", "PNG", ("PNG", 1, 8)),
        ("I;16", "PNG", ("PNG", 1, 16)),
        ("1", "TIFF", ("TIFF", 1, 1)),
        ("RGB", "BMP", ("BMP", 3, 8)),
    ],
)
def test_format_channels_and_depth(mode, kind, expected):
    picture = Image.fromarray(NOISE.astype(np.uint16)) if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
    assert encoding_of(saved(picture, kind)) == (*expected, 101, 0)
