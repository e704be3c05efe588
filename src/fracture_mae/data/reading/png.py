"""PNG files, reduced to what their picture is made of."""

START = b"\x89PNG\r\n\x1a\n"
_END = b"IEND"
_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", _END}
_LENGTH, _NAME, _CHECKSUM = 4, 4, 4  # bytes of a chunk beside its content


def plain(content: bytes) -> bytes | None:
    """A PNG's chunks of picture, palette, transparency and turn alone, without animation, texts and profiles.

    OpenCV sets aside as much memory as a chunk says that it is long, 4 GB for a file of 92 bytes, and some animations whose chunks
    are damaged end its process.

    Returns:
        None where the file ends before a chunk of it does.
    """
    kept, position = [START], len(START)
    while position < len(content):
        name = content[position + _LENGTH : position + _LENGTH + _NAME]
        end = position + _LENGTH + _NAME + int.from_bytes(content[position : position + _LENGTH]) + _CHECKSUM
        if end > len(content):
            return None
        if name in _PICTURE:
            kept.append(content[position:end])
        if name == _END:
            break
        position = end
    return b"".join(kept)
