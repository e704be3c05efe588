"""What a CSV says of X-rays besides path, label and the like: age, sex, device, whatever its columns are."""

from collections.abc import Iterable

import pandas as pd

# Columns by which a classifier is judged apart wherever they are there, in any case of letters.
KNOWN = ("body_part", "view", "age", "sex", "device", "hardware")
_PREFIX = "csv_"  # in the table of files, where a column's own name may mean something else


def column(name: str) -> str:
    """What a CSV's column is called in the table of files."""
    return _PREFIX + name


def names(table: pd.DataFrame) -> list[str]:
    """The CSV's columns that a table of files has, by their own names."""
    return [each.removeprefix(_PREFIX) for each in table if str(each).startswith(_PREFIX)]


def known(of: Iterable[str]) -> list[str]:
    """Those of some names that are in KNOWN, in its order, whatever their case, spaces and hyphens."""
    by_word = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in of}
    return [by_word[word] for word in KNOWN if word in by_word]


def texts(table: pd.DataFrame, name: str) -> pd.Series:
    """What a CSV's column says of each file of the table; "" where it does not."""
    return table[column(name)].fillna("").astype(str)
