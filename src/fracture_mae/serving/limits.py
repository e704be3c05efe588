"""How much a request may ask of a server."""

import os
from dataclasses import dataclass, fields

from fracture_mae.errors import FractureMaeError

_PREFIX = "FRACTURE_MAE_SERVING_"


@dataclass(frozen=True)
class Limits:
    """Each can be changed by the environment variable FRACTURE_MAE_SERVING_ and its name in capitals.

    Attributes:
        max_bytes: of a request's body, base64 included.
        max_rows: pictures in a request.
        max_pixels: of a picture; a bedside X-ray detector gives about 10 million, a stitched long leg 30.
        max_total_pixels: of all pictures in a request.
    """

    max_bytes: int = 2**26
    max_rows: int = 256
    max_pixels: int = 2**25
    max_total_pixels: int = 2**28

    @classmethod
    def from_environment(cls) -> "Limits":
        """Raises FractureMaeError: a variable holds no whole number above 0."""
        found = {}
        for name in (field.name for field in fields(cls)):
            text = os.environ.get(variable(name), "").strip()
            if text and not (text.isascii() and text.isdigit() and int(text)):
                raise FractureMaeError(
                    f"{variable(name)}: found {text!r}, expected a whole number above 0, such as 256"
                )
            if text:
                found[name] = int(text)
        return cls(**found)


def variable(name: str) -> str:
    """The environment variable that changes a limit."""
    return _PREFIX + name.upper()


def exceeded(name: str, found: str, allowed: int) -> str:
    """What to say of a request that is beyond a limit."""
    return f"{found} are more than the {allowed:,} allowed ({variable(name)} of the server)"
