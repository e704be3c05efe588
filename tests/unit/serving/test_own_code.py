"""Two versions whose code differs, in one Python."""

import shutil
import sys
from pathlib import Path

import pytest

import fracture_mae
from fracture_mae.serving import models, own_code
from fracture_mae.tracking.registry import SERVED_CODE

SOURCE = Path(fracture_mae.__file__).parent


@pytest.fixture
def version(tmp_path):
    """Makes a package that answers with a number, told by a module of its own."""

    def make(number):
        package = tmp_path / f"version {number}" / "code" / "fracture_mae"
        (package / "serving").mkdir(parents=True)
        for file in ("__init__.py", "serving/__init__.py"):
            (package / file).touch()
        (package / "number.py").write_text(f"NUMBER = {number}\n")
        (package / "serving" / "models.py").write_text(
            "from fracture_mae import number\n\n\nclass Served:\n    def predict(self):\n        return number.NUMBER\n"
        )
        return package

    return make


def test_each_version_answers_by_its_own_code(version):
    before, path = dict(sys.modules), list(sys.path)
    first, second = (own_code.served("Served", version(number))() for number in (1, 2))
    assert (first.predict(), second.predict()) == (1, 2)
    ours = {name: module for name, module in sys.modules.items() if name.startswith("fracture_mae")}
    assert ours == {name: module for name, module in before.items() if name.startswith("fracture_mae")}
    assert sys.path == path


def test_code_that_does_not_differ_is_shared(tmp_path):
    package = tmp_path / "fracture_mae"
    for name in SERVED_CODE:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE / name, package / name)
    assert own_code.served("ServedClassifier", package) is models.ServedClassifier
    (package / "errors.py").write_text((SOURCE / "errors.py").read_text() + "\nOTHER = 1\n")
    other = own_code.served("ServedClassifier", package)
    assert other is not models.ServedClassifier
    assert other.__name__ == "ServedClassifier"


def test_a_version_that_cannot_be_imported_leaves_the_loaded_one_in_place(version):
    package = version(1)
    (package / "serving" / "models.py").write_text("raise ImportError('a library is not there')\n")
    with pytest.raises(ImportError, match="a library"):
        own_code.served("Served", package)
    assert sys.modules["fracture_mae"] is fracture_mae
