import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracture_mae.data.reading.decoding import UnreadableImage
from fracture_mae.serving.cells import content_of

FILE = bytes(range(256)) + b"\xfb\xff\xfe"  # of 259 bytes: two = behind its base64, and all of its letters
TEXT = base64.b64encode(FILE).decode()
LINES = textwrap.wrap(TEXT, 76)
FORMS = {
    "plain": TEXT,
    "data URI": f"data:image/jpeg;base64,{TEXT}",
    "data URI in capitals, with more": f"DATA:image/png;charset=utf-8;BASE64,{TEXT}",
    "data URI without a type": f"data:;base64,{TEXT}",
    "data URI, percent-encoded": "data:image/png;base64," + TEXT.replace("+", "%2B").replace("=", "%3D"),
    "lines of MIME": "\r\n".join(LINES),
    "lines": "\n".join(LINES) + "\n",
    "lines of a data URI": "data:image/png;base64,\n" + "\n".join(LINES),
    "web-safe": base64.urlsafe_b64encode(FILE).decode(),
    "without padding": TEXT.rstrip("="),
    "web-safe without padding": base64.urlsafe_b64encode(FILE).decode().rstrip("="),
    "white space around": f" \t\n{TEXT} \r\n",
    "TensorFlow's": {"b64": TEXT},
    "bytes": FILE,
    "an array of bytes": bytearray(FILE),
}


@pytest.mark.parametrize("form", FORMS)
def test_base64_is_read_as_people_send_it(form):
    assert {*"+/="} <= {*TEXT}
    assert content_of(FORMS[form]) == FILE


@given(st.binary(min_size=1, max_size=100), st.integers(1, 90), st.sampled_from(["\n", "\r\n"]))
def test_lines_of_any_length_are_read(content, width, end):
    text = base64.b64encode(content).decode()
    assert content_of(end.join(text[start : start + width] for start in range(0, len(text), width))) == content


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("%%%", "found '%' at position 0"),
        ("  AAé=", "found 'é' at position 4"),
        ("data:image/png;base64,AA\x00A", "found '\\x00' at position 24"),
        ("AAA AAAA", "found ' ' at position 3"),  # most likely a + that was sent as part of a form
        ("/data/xray.jpg", "found '.' at position 10"),
        ("https://example.org/xray", "found ':' at position 5"),
        ("data:text/plain,hello", "found 'data:text/plain,', a data URI of text, without ;base64"),
        ("QUI=QUI=", "found letters behind the padding at position 4: two texts in one?"),
        ("AAAAA", "found 5 letters, one more than whole groups of four: is it cut off?"),
        ("iVBOR\ud800", "found '\\ud800' at position 5"),
    ],
)
def test_what_is_no_base64_is_told_where(cell, reason):
    with pytest.raises(UnreadableImage) as refused:
        content_of(cell)
    assert str(refused.value) == f"not base64 ({reason}), expected a picture file (JPEG, PNG, …) as base64 text"


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", "''"),
        (" \n", "' \\n'"),
        (None, "null"),
        (float("nan"), "null"),
        (3, "3"),
        ([], "[]"),
        ([1, 2], "[1, 2]"),
        ({"a": 1}, "{'a': 1}"),
        ({"b64": 3}, "3"),
        ({"b64": {"b64": "QUJD"}}, "{'b64': 'QUJD'}"),
        ("data:image/png;base64,", "nothing behind 'data:image/png;base64,'"),
    ],
)
def test_what_is_no_text_is_told(cell, found):
    with pytest.raises(UnreadableImage) as refused:
        content_of(cell)
    assert str(refused.value) == f"found {found}, expected a picture file (JPEG, PNG, …) as base64 text"


def test_a_long_text_that_is_no_base64_stays_out_of_the_message():
    with pytest.raises(UnreadableImage) as refused:
        content_of("A" * 10**6 + "%")
    assert "position 1000000" in str(refused.value)
    assert len(str(refused.value)) < 200
