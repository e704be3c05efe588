"""What people call the sides of a split: one table, in which case, blanks and hyphens do not matter."""

import re

SPLITS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}
_NAME = re.compile(
    rf"({'|'.join(SPLITS)})(?:set|data|dataset|images|imgs|split)?(?:20\d\d)?"
)  # such as COCO's train2017


def split_of(name: str) -> str:
    """train, validation or test; "" for any other name."""
    found = _NAME.fullmatch("".join(letter for letter in name.casefold() if letter.isalnum()))
    return SPLITS[found[1]] if found else ""
