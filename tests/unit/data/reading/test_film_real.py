"""What the search for the exposed field leaves of real X-rays whose fractures are boxed."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fracture_mae.data.loading import read_picture
from fracture_mae.data.reading import film

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def boxes():
    """A row per box: path, x0, y0, x1, y1 [pixels]."""
    folder = Path(os.environ["FRACTURE_DATA"]).parent / "fracture-boxes"
    if not folder.exists():
        pytest.skip(f"there is no {folder}")
    table = pd.read_csv(folder / "boxes.csv").dropna(subset="finding")
    return table.assign(path=[str(folder / "images" / name) for name in table["image"]])


def test_boxes_stay_inside_the_field(boxes):
    whole = []
    for path, rows in boxes.groupby("path"):
        picture = read_picture(path)
        field = film.find(picture)
        corners = rows[["x0", "y0", "x1", "y1"]].to_numpy() - [field.left, field.top, field.left, field.top]
        size = np.array([field.right - field.left, field.bottom - field.top])
        whole += ((corners[:, :2] >= -1) & (corners[:, 2:] <= size + 1)).all(axis=1).tolist()
    assert np.mean(whole) >= 0.97
