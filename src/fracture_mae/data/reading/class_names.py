"""What people call the two classes: one table of spellings, in which case, blanks and hyphens do not matter."""

from collections.abc import Iterable, Sequence

import pandas as pd

_FRACTURED = """
    fractured fracture fractures fracturedbone bonefracture withfracture hasfracture fracturepresent fx broken brokenbone positive pos
    abnormal injured yes y true t
"""
_HEALTHY = """
    notfractured nonfractured unfractured notfracture nonfracture nofracture nofractures withoutfracture fracturefree fractureabsent
    nofx notbroken nonbroken unbroken intact negative neg normal healthy no n false f
"""
_POLARITY = dict.fromkeys(_FRACTURED.split(), 1) | dict.fromkeys(_HEALTHY.split(), 0)
_NUMBERS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
_ANSWERS = {"yes", "y", "true", "t", "no", "n", "false", "f"}  # which mean something only below the name of a column


def plain(name: str) -> str:
    """What is equal for two spellings of one name."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name.strip()


def polarity(name: str) -> int | None:
    """1 for a known name of fractured X-rays, 0 of healthy ones, None for any other."""
    return _NUMBERS.get(name.strip(), _POLARITY.get(plain(name)))


def is_one(name: str, names: Iterable[str]) -> bool:
    """Whether it is a known name of a class, or one of `names`."""
    return polarity(name) is not None or plain(name) in map(plain, names)


def is_answer(name: str) -> bool:
    """Whether it is 1, 0, yes, no or the like, which says nothing without a question."""
    return name.strip() in _NUMBERS or plain(name) in _ANSWERS


def classes(names: Iterable[str], positive_label: str) -> dict[str, int] | None:
    """1 for each name of the positive class and 0 for each of the other; None where that is not certain.

    It is certain where one of two names is the positive class's, or where all are known spellings of both classes; then a known
    spelling of the positive class means all of them. Two spellings of one and the same class are not two classes.
    """
    names = list(names)
    positive = {name for name in names if plain(name) == plain(positive_label)}
    known = {name: polarity(name) for name in names}
    if None not in known.values() and polarity(positive_label) is not None:
        both = set(known.values()) == {0, 1}
        return {name: int(kind == polarity(positive_label)) for name, kind in known.items()} if both else None
    others = {plain(name) for name in names if name not in positive}
    return {name: int(name in positive) for name in names} if positive and len(others) == 1 else None


def classes_of(names: Iterable[str], label_names: Sequence[str]) -> dict[str, int] | None:
    """The same by the two names, negative and positive, of a classifier; one class alone is enough. None where one fits neither."""
    by_name = {plain(name): label for label, name in enumerate(label_names)}
    kinds = [polarity(name) for name in label_names]
    by_kind = {kind: label for label, kind in enumerate(kinds) if kind is not None} if len(set(kinds)) == 2 else {}
    found = {name: by_name.get(plain(name), by_kind.get(polarity(name))) for name in names}
    return None if None in found.values() else found


def alike(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two pairs of names, negative and positive, mean the same."""
    return classes_of(some, others) == {some[0]: 0, some[1]: 1}


def shown(label_name: pd.Series, label: pd.Series, positive_label: str) -> tuple[str, str]:
    """One name for each class, negative and positive: of several spellings that of `positive_label`, or the most frequent."""
    counts = pd.crosstab(label_name, label)

    def order(name: str, kind: int) -> tuple[bool, bool, int, str]:
        return name != positive_label, plain(name) != plain(positive_label), -counts.at[name, kind], name

    return tuple(min(counts.index[counts[kind] > 0], key=lambda name: order(name, kind)) for kind in (0, 1))
