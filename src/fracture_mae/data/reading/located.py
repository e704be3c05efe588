"""Which files a list means: as it writes them, or as Windows or another machine did."""

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd

from fracture_mae.data.reading.identities import legible_path, real_path
from fracture_mae.data.reading.lists import bare
from fracture_mae.errors import FractureMaeError, legible

logger = logging.getLogger(__name__)

_MOST_FILES = 500_000  # among which a name is looked for that no path leads to


def find(names: pd.Series, lines: pd.Series, file: Path) -> pd.Series:
    """The file that each name means: its real path, legibly; "" where there is none.

    A name is a path that starts at the list's folder, or an absolute one, with slashes or backslashes, `~`, blanks and quotes
    around it. One that leads nowhere here, as it is another machine's (`C:\\\\xrays\\\\1.jpg`), means the file below the list's folder
    that has the longest end of its parts, in any case of letters, with any ending where it has none. A warning counts these.

    Args:
        lines: of each name, for errors.
        file: the list.

    Raises:
        FractureMaeError: several files may be meant, or two names would mean the same.
    """
    found = {name: _direct(name, file.parent) for name in names.unique()}
    lost = [name for name, path in found.items() if not path and bare(name)]
    by_end = {name: _by_end(name, file.parent) for name in lost}
    if still := [name for name, path in by_end.items() if not path]:
        by_end |= _by_listing(still, file, lines[names.isin(still)].iloc[0])
    _check_each_for_itself(by_end, found, names, lines, file)
    found |= by_end
    if n_found := sum(map(bool, by_end.values())):
        logger.warning(
            "%d names in %s are no paths that lead from its folder to a file; the files in and below %s that end so are taken.",
            *(n_found, legible(file.name), legible(str(file.parent))),
        )
    return names.map({name: legible_path(path) for name, path in found.items()})


def _direct(name: str, folder: Path) -> str:
    for text in dict.fromkeys((name, name.strip(), bare(name))):
        for path in (text, _as_path(text)) if text else ():
            whole = real_path(os.path.join(folder, path))
            if os.path.isfile(whole):
                return os.path.realpath(whole)
    return ""


def _as_path(text: str) -> str:
    if text.lower().startswith("file:"):
        text = unquote(urlsplit(text).path)
    return os.path.expanduser(text.replace("\\", "/"))


def _parts(name: str) -> list[str]:
    return [
        part for part in re.split(r"[\\/]+", bare(name)) if part not in ("", ".", "..", "~") and not part.endswith(":")
    ]


def _by_end(name: str, folder: Path) -> str:
    parts = _parts(name)
    ends = (os.path.join(folder, *parts[start:]) for start in range(len(parts)))
    return next((os.path.realpath(end) for end in ends if os.path.isfile(end)), "")


def _by_listing(names: Iterable[str], file: Path, line: int) -> dict[str, str]:
    """Among all files below the list's folder, by the parts of their paths."""
    listed = defaultdict(list)
    below = (
        os.path.join(folder, each) for folder, _, inside in os.walk(file.parent, followlinks=False) for each in inside
    )
    for path in islice(below, _MOST_FILES):
        key = _key(os.path.basename(path))
        listed[key].append(path)
        if (stem := os.path.splitext(key)[0]) != key:
            listed[stem].append(path)
    found = {}
    for name in names:
        parts = [_key(part) for part in _parts(name)]
        candidates = listed.get(parts[-1], []) if parts else []
        candidates = [path for path in candidates if Path(path).suffix.lower() not in (".txt", ".xml", ".json", ".csv")]
        ends = {path: _common_end(parts[:-1], path) for path in candidates}
        best = sorted(path for path, length in ends.items() if length == max(ends.values()))
        if len(best) > 1:
            raise FractureMaeError(
                f"{file}, line {line}: {bare(name)} may mean {best[0]} or {best[1]}. Expected: a path that starts at {file.parent}."
            )
        found[name] = os.path.realpath(best[0]) if best else ""
    return found


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _common_end(folders: list[str], path: str) -> int:
    theirs = [_key(part) for part in Path(path).parts[:-1]]
    pairs = zip(reversed(folders), reversed(theirs), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(folders))


def _check_each_for_itself(
    by_end: dict[str, str], found: dict[str, str], names: pd.Series, lines: pd.Series, file: Path
) -> None:
    """Refuse that a path which leads nowhere means the file of another one: more likely one of the two is not here."""
    meant: dict[str, str] = {path: name for name, path in found.items() if path}
    for name, path in by_end.items():
        other = meant.setdefault(path, name) if path else name
        if other != name and _parts(other) != _parts(name):
            one, two = (lines[names == each].iloc[0] for each in (other, name))
            raise FractureMaeError(
                f"{file}: lines {one} and {two} name different paths, of which one leads nowhere here, and both would mean {path}. "
                f"Expected: each file at its path, starting at {file.parent}."
            )
