"""The libraries of the entry points, as they are read where nobody looks at progress bars; see `Workplace.python`."""

import os

os.environ["TQDM_DISABLE"] = "1"  # before tqdm is read

import fracture_mae.tracking.libraries  # noqa: F401
