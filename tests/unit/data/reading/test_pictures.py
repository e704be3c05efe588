"""Every kind of file is read as what it is, or refused with what it is."""

import re

import numpy as np
import pytest

from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.encoding import encoding_of
from tests import pictures

READ, REFUSED = pictures.read(), pictures.refused()
# Few grey levels, or a part that is transparent: what is read is Pillow's picture, not the whole one.
COARSE = re.compile(r"PNG [12]\b|transparent (level|colour)|\b1$|bool|TIFF [12] ph|group|ccitt|PBM")
# What Pillow does not know, or reads as something else: signed as unsigned, unsigned as signed, planes one after the other.
UNKNOWN_TO_PILLOW = (
    "float16",
    "float64",
    "uint64",
    "int8 ",
    "uint32",
    "white is zero",
    "float32 colours",
    "float32 planes",
)
UNKNOWN_TO_PILLOW += ("16 planes", "16 alpha planes", "uint16 MM", "int16 MM", "int32 MM", "16 LA", "12 white")


def expected(name):
    turn = int(name.split()[1]) if name.startswith("turned") else 1
    return pictures.TURNS[turn](pictures.PICTURE)


@pytest.mark.parametrize("name", READ)
def test_a_picture_is_read_as_what_it_is(name):
    """Correlation above 0.99 with the picture that was written, or where that was coarsened first, above 0.4 and as Pillow has it."""
    grey = decode(READ[name])
    assert grey.dtype == np.uint8
    assert encoding_of(READ[name]).format
    coarse = COARSE.search(name)
    assert pictures.likeness(grey, expected(name)) > (0.4 if coarse else 0.99)
    if coarse or not any(part in name for part in UNKNOWN_TO_PILLOW):
        assert pictures.likeness(grey, pictures.pillows_reading(READ[name])) > 0.99


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(name):
    content, reason = REFUSED[name]
    with pytest.raises(UnreadableImage, match=f"^{reason}"):
        decode(content)
