"""Who somebody is, told without saying it: keyed hashes in place of names, numbers and dates, also in paths.

A hash without a key says who it is of as soon as somebody tries all numbers of eight digits, which takes seconds. The key of an
installation is random and lies in the cache folder, which nobody else needs to see; or it is what FRACTURE_MAE_IDENTITY_KEY says, where
several machines shall give the same patient the same hash.

A name that is no UTF-8 is shown legibly by the same means: `r\\xf6ntgen.jpg`, which `real_path` leads back.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Collection
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from fracture_mae.data.reading.cache_folder import cache_root, link_or_copy
from fracture_mae.errors import FractureMaeError, legible

VARIABLE = "FRACTURE_MAE_IDENTITY_KEY"
_FILE = "identity.key"
_KEY_BYTES = 32
_FEWEST_CHARACTERS = 16  # of a key that somebody chose
_DIGITS = 16  # hexadecimal ones of a hash
_MARK = "id-"  # begins what stands for a folder's or file's name
_HASHED_NAME = re.compile(rf"{_MARK}[0-9a-f]{{{_DIGITS}}}(\.\w+)?")
_UID = re.compile(r"\d+(\.\d+){5,}")
_BYTE = "\\x"  # begins what stands for a byte of a name, see `legible`
_SHORT = 4  # letters and digits: what has fewer counts only where it stands alone
_real: dict[str, str] = {}  # path as shown → as it is, of this process


def hashed(text: str) -> str:
    """16 hexadecimal digits that stand for a text: the same for the same text on one installation, and of no use without its key.

    Raises:
        FractureMaeError: there is no key, and none can be made.
    """
    return hashlib.blake2b(text.encode(), key=_key(), digest_size=_DIGITS // 2).hexdigest()


def shown_path(path: Path, root: Path, told: Collection[str]) -> str:
    """The path with a hash for each folder and file below root whose name holds a UID, or anything of what identifies a patient.

    `real_path` leads back, also in another process, as long as the file is where it was and the key the same.

    Args:
        told: texts that shall not be shown, such as a patient's name.
    """
    base = root if path.is_relative_to(root) else Path(path.anchor)
    parts = [shown_name(part, told) for part in path.relative_to(base).parts]
    shown = str(base.joinpath(*parts))
    if shown != str(path):
        _real[shown] = real_path(str(path))
    return shown


def legible_path(path: str) -> str:
    """The path as texts can hold it; `real_path` leads back."""
    shown = legible(path)
    if shown != path:
        _real[shown] = path
    return shown


def shown_name(name: str, told: Collection[str]) -> str:
    """The name of a folder or file, or its hash where it holds what shall not be shown; its ending stays."""
    return _hashed_name(name) if _UID.search(name) or any(_holds(name, each) for each in told) else name


def real_path(path: str) -> str:
    """Where the file is that is shown as `path`; the path itself if it is shown as it is, or nothing like it is there."""
    if f"{os.sep}{_MARK}" not in path and _BYTE not in path:
        return path
    if path not in _real:
        found = Path(path).anchor
        for part in Path(path).parts[1:]:
            found = os.path.join(found, _real_name(found, part))
        _real[path] = found
    return _real[path]


def _real_name(folder: str, name: str) -> str:
    is_hashed = _HASHED_NAME.fullmatch(name) is not None
    if not (is_hashed or _BYTE in name) or os.path.lexists(os.path.join(folder, name)):
        return name
    try:
        shown = ((each, legible(each)) for each in os.listdir(folder))
        return next((each for each, text in shown if name in (text, is_hashed and _hashed_name(text))), name)
    except OSError:
        return name


def _hashed_name(name: str) -> str:
    ending = Path(name).suffix
    return f"{_MARK}{hashed(name)}{ending if ending[1:].isalpha() and len(ending) <= len('.dicom') else ''}"


def _holds(name: str, text: str) -> bool:
    """Whether a name holds a text, in any case and with any signs between its letters and digits."""
    wanted = _plain(text)
    if len(wanted) < _SHORT:
        return bool(wanted) and wanted in (_plain(word) for word in re.split(r"[\W_]+", name))
    return wanted in _plain(name)


def _plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _key() -> bytes:
    given = os.environ.get(VARIABLE, "")
    if given:
        if len(given) < _FEWEST_CHARACTERS:
            raise FractureMaeError(
                f"{VARIABLE} has {len(given)} characters, expected {_FEWEST_CHARACTERS} or more: shorter ones can be guessed."
            )
        return hashlib.blake2b(given.encode(), digest_size=_KEY_BYTES).digest()
    return _key_in(cache_root() / _FILE)


@cache
def _key_in(file: Path) -> bytes:
    try:
        if not file.exists():
            _make_key(file)
        key = file.read_bytes()
    except OSError as error:
        raise FractureMaeError(
            f"the key by which patients are told apart, {file}, cannot be read or made: {error.strerror}. Name another folder in "
            f"FRACTURE_MAE_CACHE, or give a key in {VARIABLE}."
        ) from None
    if len(key) < _KEY_BYTES:
        raise FractureMaeError(
            f"{file}, the key by which patients are told apart, has {len(key)} bytes, expected {_KEY_BYTES}: it is damaged. Delete it; "
            "then patients get other hashes."
        )
    return key


def _make_key(file: Path) -> None:
    """A random one, whole or not at all, that only this user can read; whichever of several processes comes first makes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, prefix=_FILE, delete=False) as made:  # readable by its owner alone
        made.write(secrets.token_bytes(_KEY_BYTES))
    try:
        link_or_copy(Path(made.name), file)
    except FileExistsError:
        pass
    finally:
        os.unlink(made.name)
