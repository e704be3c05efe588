"""Where all lies that can be made again, and the key of identities."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Folder of everything that can be made again: FRACTURE_MAE_CACHE, or ~/.cache/fracture-mae."""
    return Path(os.environ.get("FRACTURE_MAE_CACHE", "~/.cache/fracture-mae")).expanduser()
