"""What tests leave out that are of something else: drawing figures, making pictures for gates and growing trees take half of their
time.

What figures look like is tested by itself (`test_plots.py`), and so is what a gate refuses (`test_gate_fitting.py`, `test_gate.py`)
and what a forest tells (`test_references.py`, `test_properties.py`); that all of it can be drawn and fitted, by whole runs of
`mlflow run`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

WHITE = cv2.imencode(".png", np.full((8, 8), 255, np.uint8))[1].tobytes()
FOREIGN = 12  # pictures that are no X-rays
TREES = 30


def undrawn(figure: Figure) -> bytes:
    """In place of `plots.png`: a small white PNG file."""
    assert isinstance(figure, Figure)
    return WHITE


@contextmanager
def lighter() -> Iterator[None]:
    from fracture_mae import plots
    from fracture_mae.evaluation import gate_fitting, references

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(plots, "png", undrawn)
        monkeypatch.setattr(gate_fitting, "_FEWEST_FOREIGN", FOREIGN)
        monkeypatch.setattr(gate_fitting, "_MOST_FOREIGN", FOREIGN)
        monkeypatch.setattr(references, "_N_TREES", TREES)
        yield
