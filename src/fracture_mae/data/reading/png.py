"""PNG files: whether they are whole, and reduced to what their picture is made of."""

import zlib
from collections.abc import Iterator

from fracture_mae.data.reading.unreadable import UnreadableImage

START = b"\x89PNG\r\n\x1a\n"
_END = b"IEND"
_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", _END}
_LENGTH, _NAME, _CHECKSUM = 4, 4, 4  # bytes of a chunk beside its content
_BITS = 24  # position in the file of the bits of a sample


def bits(content: bytes) -> int:
    """Of each sample, as the header says."""
    return content[_BITS]


def check(content: bytes) -> None:
    """Refuse a file that ends before its picture does, or a chunk of which is not as it was written; decoders differ in what they see.

    Raises:
        UnreadableImage: says which.
    """
    name = b""
    for name, start, end in _chunks(content):
        if zlib.crc32(content[start + _LENGTH : end - _CHECKSUM]) != int.from_bytes(content[end - _CHECKSUM : end]):
            raise UnreadableImage(f"the PNG picture is damaged (the checksum of {_shown(name)} is wrong)")
    if name != _END:
        raise UnreadableImage("truncated: the file ends before its picture does")


def plain(content: bytes) -> bytes:
    """A PNG's chunks of picture, palette, transparency and turn alone, without animation, texts and profiles.

    OpenCV sets aside as much memory as a chunk says that it is long, 4 GB for a file of 92 bytes, and some animations whose chunks
    are damaged end its process.
    """
    return START + b"".join(content[start:end] for name, start, end in _chunks(content) if name in _PICTURE)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk that is whole, up to the last one of the picture."""
    start, name = len(START), b""
    while name != _END:
        name = content[start + _LENGTH : start + _LENGTH + _NAME]
        end = start + _LENGTH + _NAME + int.from_bytes(content[start : start + _LENGTH]) + _CHECKSUM
        if end > len(content):
            return
        yield name, start, end
        start = end


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() else "a chunk"
