"""What a server answers to a request that it cannot obey: an error whose message alone reaches the client."""

import base64
import struct
import zlib

from mlflow.exceptions import MlflowException


def _grey_png(side: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(bytes([0, *range(side)]) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


# Short, and whole: who sends it as it stands gets an answer.
EXAMPLE = f'{{"dataframe_records": [{{"image": "{base64.b64encode(_grey_png(8)).decode()}"}}]}}'
_HOW = (
    f"A request that works, with Content-Type application/json: {EXAMPLE}. A picture file itself works too: curl "
    "ADDRESS/invocations -H 'Content-Type: image/jpeg' --data-binary @xray.jpg"
)


class BadRequest(MlflowException):
    """An error 400 that keeps its message: the scoring server would put the whole request, megabytes of base64, before it."""

    status = 400

    @property
    def message(self) -> str:
        return self.args[0]

    @message.setter
    def message(self, _: str) -> None:
        pass

    def get_http_status_code(self) -> int:
        return self.status


class TooLarge(BadRequest):
    """More than a server's limits allow."""

    status = 413


class UnknownContent(BadRequest):
    """A body of a kind that is not read."""

    status = 415


def refuse(message: str, kind: type[BadRequest] = BadRequest, *, with_example: bool = False) -> BadRequest:
    """The error to raise, with a request that works behind its message where the form of the request is what is wrong."""
    return kind.invalid_parameter_value(f"{message}. {_HOW}" if with_example else message)
