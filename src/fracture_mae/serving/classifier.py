"""The model-from-code script of `fracture-classifier`."""

import runpy
from pathlib import Path

from mlflow.models import set_model

_HERE = Path(__file__).resolve().parent
# Of a model its own code; while the model is made, the package that this script is a part of.
_PACKAGE = next(folder for folder in (_HERE / "code" / "fracture_mae", _HERE.parent) if folder.is_dir())

set_model(runpy.run_path(str(_PACKAGE / "serving" / "own_code.py"))["served"]("ServedClassifier", _PACKAGE)())
