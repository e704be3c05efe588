"""From what a CSV's column says of each X-ray to the few groups that it is judged by: ages in bins, other numbers in quarters."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd

NOT_GIVEN = "not given"
AGES = {18: "0-17", 40: "18-39", 65: "40-64", np.inf: "65+"}  # years below which a bin ends → its name
_MISSING = ("", "nan", "na", "n/a", "null", NOT_GIVEN)
_YEARS = {
    "": 1.0,
    "y": 1.0,
    "m": 1 / 12,
    "w": 7 / 365.25,
    "d": 1 / 365.25,
}  # of DICOM's age string (AS) and plain numbers
_AGE = re.compile(r"[<>≥≤~]?\s*0*(\d+(?:\.\d+)?)\s*(y|m|w|d)?(?:ea|r|o|n|s|th|ek|ay|\s|\+|/)*")
_OLDEST = 130  # a larger age stands for one that is not known, as 999 does
_MOST_NUMBERS = 10  # different ones from which on they are cut in quarters


def of_xrays(texts: pd.Series, group: pd.Series, name: str) -> pd.Series:
    """The value of each X-ray: index group. What is not given is NOT_GIVEN; files that differ: the first one that says something.

    Columns whose name holds the word age: AGES, of numbers, of DICOM's age strings (045Y, 006M) and of texts such as "45 years" or
    "90+"; other words stay. Other columns of more than ten different numbers: quarters of the X-rays. All others: as they are.

    Args:
        texts: what the column says of each file; group: its X-ray.
        name: of the column.
    """
    said = texts.str.strip().where(~texts.str.strip().str.lower().isin(_MISSING))
    value = said.groupby(group.to_numpy()).first()
    if re.search(r"(^|[^a-z])age([^a-z]|$)", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()):
        value = value.map(_age, na_action="ignore")
    else:
        value = _in_quarters(value)
    return value.astype(object).fillna(NOT_GIVEN).astype(str)


def in_order(values: pd.Series) -> list[str]:
    """The different values in the order in which they are shown: ages rising, else by name; what is not given last."""
    rank = {name: number for number, name in enumerate(AGES.values())}
    return sorted(set(values), key=lambda value: (value == NOT_GIVEN, rank.get(value, len(rank)), value))


def _age(text: str) -> str:
    """The bin of an age; NOT_GIVEN for one that nobody reaches; a word as it is."""
    found = _AGE.fullmatch(text.lower())
    if found is None:
        return text
    years = float(found[1]) * _YEARS[found[2] or ""]
    return NOT_GIVEN if years > _OLDEST else next(name for end, name in AGES.items() if years < end)


def _in_quarters(value: pd.Series) -> pd.Series:
    """Numbers cut at their quartiles, if they are many; anything else as it is."""
    number = pd.to_numeric(value, errors="coerce")
    if number.isna().sum() > value.isna().sum() or number.nunique() <= _MOST_NUMBERS:
        return value
    edges = np.unique(number.quantile([0, 0.25, 0.5, 0.75, 1]))
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return pd.cut(number, edges, labels=names, include_lowest=True).astype(object)
