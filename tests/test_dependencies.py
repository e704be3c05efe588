"""One list of pins, in three places: pyproject.toml, conda.yaml, and what a served model asks for."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src"


def pins():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(requirement.split("==") for requirement in project["dependencies"])


def imports(file):
    """Modules that a file imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def file_of(module):
    place = SOURCE.joinpath(*module.split("."))
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.exists()), None)


def reached_from(files):
    """The files of this package that `files` import, directly or not, themselves and all packages' `__init__` included."""
    reached, waiting = set(), set(files)
    while waiting:
        file = waiting.pop()
        reached.add(file)
        parts = [name.split(".") for name in imports(file) if name.startswith("fracture_mae")]
        modules = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
        waiting |= {found for module in modules if (found := file_of(module))} - reached
    return reached


def imported_beyond(files, requirements):
    """Foreign modules that `files` import and none of `requirements` holds."""
    foreign = {name.partition(".")[0] for file in files for name in imports(file)}
    foreign -= {"fracture_mae", "entrypoints", "benchmarks", *sys.stdlib_module_names}
    provider = packages_distributions()
    return {module for module in foreign if not normal(provider[module]) & normal(requirements)}


def normal(names):
    return {name.lower().replace("_", "-") for name in names}


def test_pins_are_what_is_installed():
    assert {name: version(name).partition("+")[0] for name in pins()} == pins()


def test_conda_yaml_restates_the_pins():
    environment = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))
    *_, from_pip = environment["dependencies"]
    assert dict(requirement.split("==") for requirement in from_pip["pip"]) == pins()


def test_every_import_is_pinned():
    files = [*SOURCE.rglob("*.py"), *(PROJECT / "entrypoints").glob("*.py"), *(PROJECT / "benchmarks").rglob("*.py")]
    assert imported_beyond(files, pins()) == set()


@pytest.mark.slow
def test_a_served_model_carries_and_asks_for_what_its_code_imports_and_nothing_else():
    from fracture_mae.tracking.registry import SERVED_CODE, SERVED_REQUIREMENTS

    served = reached_from((SOURCE / "fracture_mae/serving").glob("*.py"))
    # The walk goes on from module to module, and through what a package imports for itself.
    assert {SOURCE / "fracture_mae/data/reading/decoding.py", SOURCE / "fracture_mae/metrics/__init__.py"} <= served
    assert {SOURCE / "fracture_mae" / name for name in SERVED_CODE} == served
    assert set(SERVED_REQUIREMENTS) <= set(pins())
    assert imported_beyond(served, SERVED_REQUIREMENTS) == set()
    for requirement in SERVED_REQUIREMENTS:  # each is needed
        assert imported_beyond(served, set(SERVED_REQUIREMENTS) - {requirement})
