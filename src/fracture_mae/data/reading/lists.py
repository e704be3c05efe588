"""Lists as people keep them: what Excel, Windows and other programs write as CSV, read as text."""

import codecs
import csv
import io
import logging
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

LINE = "line in the file"  # column that is added to a list's own
ENDINGS = {".csv", ".tsv", ".tab", ".txt"}
# What the column that names a picture is called, as `word` gives it; the first that there is.
PATH_WORDS = (
    *(
        "path",
        "image",
        "file",
        "filepath",
        "imagepath",
        "imgpath",
        "filename",
        "imagename",
        "imagefile",
        "imagefilename",
        "imageid",
    ),
    *("img", "imgname", "picture", "filestem"),
)
_SEPARATORS = (",", ";", "\t", "|")
_MARKS = {  # of encodings, the longer before those that they begin with
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_OTHER_FORMATS = {b"PK\x03\x04": "an Excel workbook or a zip file", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
_TITLES = 5  # rows among which the header is
_QUOTES = "\"'“”„‘’«»"
_NO_SIGN = "\ufeff\u200b\u200e\u200f\u2060"  # marks that are not seen


def word(name: str) -> str:
    """What is equal for columns that are called the same, whatever their case, blanks, hyphens and underscores."""
    return "".join(letter for letter in bare(name).casefold() if letter not in " _-\t\n\xa0")


def bare(cell: str) -> str:
    """A cell without blanks, quotes and unseen marks around it."""
    return cell.strip().strip(_NO_SIGN).strip().strip(_QUOTES).strip()


def read(file: Path, known: Collection[str], example: str) -> pd.DataFrame:
    """What a list says, as text, cell by cell as it is written; with the line of each row in LINE.

    UTF-8, UTF-16 and UTF-32, with a mark of bytes or without, or else Windows' cp1252; cells parted by commas, semicolons, tabs or
    bars, whichever makes columns with known names; Excel's first line `sep=;` too. Empty rows and columns without a name are left out.

    Args:
        known: names of columns, as `word` gives them.
        example: of a header, for errors.

    Raises:
        FractureMaeError: it cannot be read; names the line.
    """
    line = 0
    try:
        text = _text(file.read_bytes())
        separator, text = _separator(text, known)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        rows = []
        for cells in reader:
            line = reader.line_num
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
    except (ValueError, OSError, csv.Error) as error:
        where = f" in line {line + 1} or below" if isinstance(error, csv.Error) else ""
        raise FractureMaeError(
            f"{file} is no CSV that can be read: {error}{where}. Expected: columns {example}."
        ) from None
    if not rows:
        raise FractureMaeError(f"{file} is no CSV that can be read: it is empty. Expected: columns {example}.")
    (_, header), *rows = rows[_header(rows, known) :]
    names = [bare(name) for name in header]
    for line, cells in rows:
        if any(cell.strip() for cell in cells[len(names) :]):
            raise FractureMaeError(
                f"{file} is no CSV that can be read: line {line} has {len(cells)} cells, the header {len(names)}. Expected: as many; "
                f"a cell that holds the sign {separator!r} stands in quotes."
            )
    cells = [[*cells, *[""] * len(names)][: len(names)] for _, cells in rows]
    lines = [line for line, _ in rows]
    return _columns(cells, names, lines, file).assign(**{LINE: lines})


def _header(rows: list[tuple[int, list[str]]], known: Collection[str]) -> int:
    """Which row names the columns: the first, unless that is a title above them."""
    n_known = [sum(word(cell) in known for cell in cells) for _, cells in rows[:_TITLES]]
    return next((number for number, n in enumerate(n_known) if n > 1), 0) if n_known[0] == 0 else 0


def _text(content: bytes) -> str:
    for start, format_ in _OTHER_FORMATS.items():
        if content.startswith(start):
            raise ValueError(f"it is {format_}, so save it as CSV first (in Excel: Save As, CSV UTF-8)")
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    if b"\0" in content[:2]:
        return content.decode("utf-16-be" if content.startswith(b"\0") else "utf-16-le")
    if b"\0" in content:
        raise ValueError("it holds zero bytes, so it is no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"the byte {content[error.start]:#x} in line {line} is neither UTF-8 nor Windows' cp1252, so save it as CSV UTF-8"
        ) from None


def _separator(text: str, known: Collection[str]) -> tuple[str, str]:
    """The sign between cells, and the text without a line that names it."""
    first, _, rest = text.partition("\n")
    told = first.strip().strip('"').lower()
    if told.startswith("sep=") and len(told) == len("sep=;"):
        return told[-1], "\n" + rest  # an empty line, so that lines keep their numbers
    if first.rstrip("\r\n").lower() == "sep=\t":
        return "\t", "\n" + rest
    header = next((line for line in text.splitlines() if line.strip()), "")

    def fit(separator: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=separator))
        return sum(word(name) in known for name in names), len(names)

    return max(_SEPARATORS, key=fit), text


def _columns(cells: list[list[str]], names: list[str], lines: list[int], file: Path) -> pd.DataFrame:
    """A table of the columns that have a name; of two of one name the one that says something.

    Raises:
        FractureMaeError: both do, and not the same.
    """
    table: dict[str, list[str]] = {}
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(names)
    for name, column in zip(names, columns, strict=True):
        said = [bare(cell) for cell in column]
        if not name or name.startswith("Unnamed: ") or (name in table and not any(said)):
            continue
        before = [bare(cell) for cell in table.get(name, [])]
        if any(before) and before != said:
            line = next(line for line, one, other in zip(lines, before, said, strict=True) if one != other)
            raise FractureMaeError(
                f"{file} has two columns called {name}, which differ in line {line}. Expected: each name once. Take one away, or "
                "rename it."
            )
        table[name] = list(column)
    return pd.DataFrame(table, dtype=object, index=range(len(lines)))
