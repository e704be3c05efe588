import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracture_mae.config import FinetuneMae
from fracture_mae.stages import inputs


@pytest.fixture
def csv(tmp_path):
    """Ten X-rays of each label and a smaller copy of each; a box for the smaller copy of each fractured one."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        picture = rng.integers(0, 255, (40, 30), dtype=np.uint8)
        label = ("fractured", "healthy")[number % 2]
        for name, shown, box in ((f"{number}.png", picture, ",,,"), (f"{number} (1).png", picture[:-1], "3,4,15,20")):
            Image.fromarray(shown).save(tmp_path / name)
            rows.append(f"{name},{label},{box if label == 'fractured' else ',,,'}")
    (tmp_path / "xrays.csv").write_text("\n".join(["path,label,x0,y0,x1,y1", *rows]))
    return tmp_path / "xrays.csv"


def load(csv, **options):
    return inputs.load_training_data(
        FinetuneMae(data_dir=str(csv), group_by="names", **options), 32, preprocess="letterbox"
    )


def test_boxes_that_copies_one_leaves_behind_are_counted(csv, caplog):
    whole = load(csv)
    n_fractured = whole.train.table.loc[whole.train.label == 1, "group"].nunique()
    assert whole.train.has_boxes.sum() == n_fractured
    assert f"X-rays, {n_fractured} with boxes around fractures" in inputs.describe(whole)
    assert not caplog.text
    one = load(csv, copies="one")
    assert not one.train.has_boxes.any()
    assert "boxes" not in inputs.describe(one)
    assert f"{n_fractured} training X-rays have boxes on other files than the one" in caplog.text


def test_where_boxes_are_is_an_option(csv, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    table = pd.read_csv(csv)
    table[table["path"] == "0.png"].assign(x0=0, y0=0, x1=30, y1=40).to_csv(tmp_path / "elsewhere/b.csv", index=False)
    dataset = load(csv, boxes=str(tmp_path / "elsewhere/b.csv"))
    assert sum(side.has_boxes.sum() for side in dataset.sides) == 1
    assert not any(side.has_boxes.any() for side in load(csv, boxes="none").sides)
