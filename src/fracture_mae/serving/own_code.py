"""A served model's class from the code that the model carries, also where another version's code is loaded in the same Python.

The scripts of served models run this file from their own folder, so it imports nothing of this package.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

_PACKAGE = "fracture_mae"


def served(name: str, package: Path) -> type:
    """The class of `serving.models` with that name, from the package in the folder `package`.

    Python knows one package by a name. Where that is another version's, whose code differs, this one is imported beside it: its
    modules know each other, and are then taken off Python's list again, on which the other version's stay.
    """
    loaded = sys.modules.get(_PACKAGE)
    if loaded is None or _is_same(loaded, package):
        return _class(name)
    others = _taken_off()
    sys.path.insert(0, str(package.parent))
    try:
        return _class(name)
    finally:
        sys.path.remove(str(package.parent))
        _taken_off()
        sys.modules.update(others)


def _class(name: str) -> type:
    return getattr(importlib.import_module(f"{_PACKAGE}.serving.models"), name)


def _is_same(loaded: ModuleType, package: Path) -> bool:
    """Whether the loaded package has all that this one has, with the same content."""
    folder = Path(loaded.__file__).parent
    return all(_content(folder / file.relative_to(package)) == file.read_bytes() for file in package.rglob("*.py"))


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _taken_off() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]
    return {name: sys.modules.pop(name) for name in names}
