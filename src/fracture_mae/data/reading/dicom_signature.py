"""What tells a DICOM file by its first bytes, without its library."""

PREAMBLE, PREFIX = 128, b"DICM"
SIGNATURE = 140  # bytes that are looked at
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of what has no preamble; the last one big endian
_LAST_ELEMENT = 0x30  # of these groups that a data set begins with


def is_dicom(start: bytes) -> bool:
    """Whether a file that begins so, with SIGNATURE bytes or all there are, is DICOM Part 10, or a data set without its preamble."""
    if start[PREAMBLE : PREAMBLE + 4] == PREFIX or start[:4] == PREFIX:
        return True
    element = int.from_bytes(start[2:4], "big" if start[:2] == b"\x00\x08" else "little")
    if start[:2] not in _FIRST_GROUPS or len(start) < 12 or element > _LAST_ELEMENT:
        return False
    return start[4:6].isalpha() or start[6:8] == b"\x00\x00"  # a value representation, or a length below 65,536
