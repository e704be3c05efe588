import errno
import io
import os
import sys

import pytest

from fracture_mae.processes import output


@pytest.fixture
def streams(monkeypatch):
    """Sets standard output and error for this test alone."""

    def given(stdout, stderr=None):
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr or io.StringIO())
        output.outlive_readers()

    return given


@pytest.mark.parametrize(("encoding", "written"), [("ascii", b"? 0.5 ?"), ("cp1252", b"? 0.5 \xfc"), ("utf-8", None)])
def test_letters_that_a_terminal_has_not_are_replaced(streams, encoding, written):
    raw = io.BytesIO()
    streams(io.TextIOWrapper(raw, encoding, newline="\n"))
    print("→ 0.5 ü")
    assert raw.getvalue() == (written or "→ 0.5 ü".encode()) + b"\n"  # at once, without a flush


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_line_that_cannot_be_written_ends_nothing(streams, number):
    class Gone(io.RawIOBase):
        def writable(self):
            return True

        def write(self, _):
            raise OSError(number, os.strerror(number))

    streams(io.TextIOWrapper(io.BufferedWriter(Gone()), "utf-8"))
    print("epoch 1", flush=True)
    assert sys.stdout.encoding == "utf-8"


def test_a_stream_that_was_closed_leads_nowhere(streams, monkeypatch):
    streams(None)
    print("epoch 1")
    sys.stdout.flush()
