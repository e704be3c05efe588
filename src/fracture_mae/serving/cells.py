"""A row's cell to the bytes of a picture file: base64 as people send it."""

import base64
import re
import reprlib
from urllib.parse import unquote

import pandas as pd

from fracture_mae.data.reading.decoding import UnreadableImage

_EXPECTED = "expected a picture file (JPEG, PNG, …) as base64 text"
_DATA_URI = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_FOREIGN = re.compile(r"[^A-Za-z0-9+/_=\r\n-]")
_PADDING = re.compile(r"=[=\r\n]*")
_AS_STANDARD = str.maketrans("-_", "+/", "\r\n")  # web-safe letters, and no line breaks


def content_of(cell: object) -> bytes:
    """The file in a cell.

    Base64 may begin with `data:…;base64,`, be broken into lines, have `-_` for `+/`, and lack its padding. A file's own bytes are
    taken as they are, and so is what `{"b64": …}` holds, as TensorFlow's servers have it.

    Raises:
        UnreadableImage: it is something else, or no base64; says what was found where, counted from 0.
    """
    if isinstance(cell, dict) and set(cell) == {"b64"}:
        cell = cell["b64"]
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    if not isinstance(cell, str) or not cell.strip():
        raise UnreadableImage(f"found {found(cell)}, {_EXPECTED}")
    return _from_base64(cell)


def found(value: object) -> str:
    """A value for a message, cut short; JSON's null arrives as None or NaN."""
    missing = pd.api.types.is_scalar(value) and pd.isna(value)
    return "null" if missing else reprlib.repr(value)


def _from_base64(text: str) -> bytes:
    uri = _DATA_URI.match(text.lstrip())
    if uri:
        if not uri[0][:-1].lower().endswith(";base64"):
            raise _no_base64(f"found {found(uri[0])}, a data URI of text, without ;base64")
        start = len(text) - len(text.lstrip()) + uri.end()
        text = unquote(text) if "%" in text else text  # + and = of a URI may be written so
    else:
        start = 0
    body = text[start:].strip()
    start += len(text[start:]) - len(text[start:].lstrip())
    if not body:
        raise UnreadableImage(f"found nothing behind {found(text[:start])}, {_EXPECTED}")
    foreign = _FOREIGN.search(body)
    if foreign:
        raise _no_base64(f"found {foreign[0]!r} at position {start + foreign.start()}")
    padding = _PADDING.search(body)
    if padding and padding.end() < len(body):
        raise _no_base64(f"found letters behind the padding at position {start + padding.end()}: two texts in one?")
    letters = body.translate(_AS_STANDARD).rstrip("=")
    if len(letters) % 4 == 1:
        raise _no_base64(f"found {len(letters):,} letters, one more than whole groups of four: is it cut off?")
    return base64.b64decode(letters + "=" * (-len(letters) % 4))


def _no_base64(why: str) -> UnreadableImage:
    return UnreadableImage(f"not base64 ({why}), {_EXPECTED}")
