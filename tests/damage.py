"""Files that were damaged on their way, or on purpose: bytes set, left out, doubled, cut off, or taken from another file."""

import random
import struct
import zlib
from functools import cache

import numpy as np

from tests import pictures
from tests.dicom_files import EIGHT_BITS, RAMP, TOLERANCE, dicom_bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_HOW = ("set", "set", "set", "flip", "flip", "word", "cut", "double", "end")
_BYTES = (0, 1, 127, 128, 255)  # that decoders trip over
_HEAD = 200  # bytes in which most headers end


@cache
def wholes():
    """Name → content of every kind of file, also of those that are not read, and of DICOM."""
    found = pictures.read() | {name: content for name, (content, _) in pictures.refused().items() if content}
    for syntax in TOLERANCE:
        pixels = (RAMP // 16).astype(np.uint8) if syntax in EIGHT_BITS else RAMP
        found[f"DICOM {syntax}"] = dicom_bytes(pixels, syntax)
    return found


def file(seed):
    """Name of a whole file, and its content damaged; each format that is read comes as often as all that are not read."""
    rng = random.Random(seed)
    name = rng.choice(_by_kind()[rng.choice(sorted(_by_kind()))])
    content = wholes()[name]
    content = spoilt(content, changes(rng, len(content)))
    return name, with_checksums(content) if rng.random() < 0.7 else content


def changes(rng, length):
    """Where, what happens there, and with which byte or how many; mostly one, which gets furthest into a decoder."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.randrange(min(length, _HEAD) if rng.random() < 0.5 else length)
        yield place, rng.choice(_HOW), rng.choice(_BYTES) if rng.random() < 0.5 else rng.randrange(256)


@cache
def _by_kind():
    found = {}
    for name in sorted(wholes()):
        found.setdefault(kind_of(name), []).append(name)
    return found


def kind_of(name):
    """The format in a whole file's name; one word for all those that are not read."""
    if name in pictures.refused():
        return "not read"
    words = name.split()
    return (words[2] if words[0] == "turned" else words[0]).upper()


def with_checksums(content):
    """A PNG whose chunks have the checksums of what is in them, so that a decoder goes on to look at it."""
    if not content.startswith(_PNG):
        return content
    mended, position = bytearray(content), len(_PNG)
    while position + 12 <= len(mended):
        end = position + 8 + struct.unpack(">I", mended[position : position + 4])[0]
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(mended)


def spoilt(content, changes):
    """A file with changes, see `changes`."""
    spoilt = bytearray(content)
    for at, how, value in changes:
        if how == "flip":
            spoilt[at : at + 1] = bytes(byte ^ 1 << value % 8 for byte in spoilt[at : at + 1])
        elif how == "set":
            spoilt[at : at + 1] = bytes([value])
        elif how == "word":
            spoilt[at : at + 4] = value.to_bytes(1) * 4
        elif how == "cut":
            del spoilt[at : at + value]
        elif how == "end":
            del spoilt[at:]
        else:
            spoilt[at:at] = spoilt[at : at + value]
    return bytes(spoilt)
