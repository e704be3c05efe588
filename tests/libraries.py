"""The libraries of the entry points, as they are read where nobody looks at progress bars; see `Workplace.python`."""

import os

os.environ["TQDM_DISABLE"] = "1"  # before tqdm is read

from mlflow.utils import requirements_utils

import fracture_mae.tracking.libraries  # noqa: F401

requirements_utils._init_modules_to_packages_map()  # what is installed: most of a second for every model that is logged
