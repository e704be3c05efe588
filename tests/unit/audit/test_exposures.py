import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracture_mae.audit import exposures, honesty
from fracture_mae.data import loading
from fracture_mae.data.synthetic.xray import xray

LABELS = ["fractured", "not fractured"]


@pytest.fixture
def folder(tmp_path):
    """Twelve X-rays of 256 pixels, two of which carry the same lettering."""
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = xray(rng, fractured=number % 2 == 0, size=256)
        if number in (1, 4):
            place = (10, 20) if number == 1 else (140, 140)
            picture = cv2.putText(
                picture.copy(), "K7RB2XN4ME", place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 245, 1, cv2.LINE_AA
            )
        file = tmp_path / "xrays" / LABELS[number % 2] / f"wrist {number * 37}x.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    return tmp_path / "xrays"


def audited(data_dir):
    files = loading.read_files(str(data_dir), image_size=64, num_workers=1)
    table = honesty.find_copies(files, 1).table
    return table, exposures.find(table, 1)


def test_the_csv_keeps_both_x_rays_on_one_side_as_two_x_rays_of_one_patient(folder, tmp_path):
    table, found = audited(folder)
    assert len(found.pairs) == 1
    report = exposures.show(found, table, "xrays", loading.read_picture)
    assert report.metrics == {"same_marker/n_pairs": 1, "same_marker/n_common": 0}
    assert len(report.figures["same_marker.png"].axes[0].patches) == 2  # a frame in each
    pair = {str(folder / "fractured/wrist 148x.png"), str(folder / "not fractured/wrist 37x.png")}
    assert set(report.tables["same_marker.csv"][["a", "b"]].loc[0]) == pair
    assert "1 pair, perhaps further exposures" in exposures.sentence(found)

    csv = tmp_path / "patients.csv"
    report.tables["patients.csv"].to_csv(csv, index=False)
    assert (pd.read_csv(csv, keep_default_na=False)["patient"] != "").sum() == 2
    for seed in range(4):
        dataset = loading.load(str(csv), image_size=64, split_seed=seed, num_workers=1)
        assert dataset.index["group"].nunique() == len(dataset.index) == 12
        both = dataset.index[dataset.index["path"].isin(pair)]
        assert both[["patient", "split"]].nunique().tolist() == [1, 1]
    # What is known is not told again.
    _, again = audited(csv)
    assert again.pairs.empty
    assert exposures.sentence(again) == "same marker on different X-rays: none"
    assert exposures.show(again, table, "xrays", loading.read_picture).tables == {}


def test_patients_that_a_csv_names_become_one_and_keep_their_x_rays_apart():
    given = {
        "patient": ["p", "p", "q", "r", ""],
        "xray": ["1", "2", "1", "1", ""],
        "group": "",
        "split": "",
        "source": "s",
    }
    table = pd.DataFrame({"path": [f"/d/{name}.png" for name in "abcde"], "label_name": "fractured", "scope": "f"})
    table = table.assign(sha256=list("abcde"), patient=["a", "a", "c", "d", "e"])
    table = table.assign(**{f"given_{name}": values for name, values in given.items()})
    found = exposures.patients(table, pd.DataFrame({"a": ["/d/a.png"], "b": ["/d/c.png"]}))
    assert found["patient"].tolist() == ["p", "p", "p", "r", ""]
    assert found["xray"].tolist() == ["p/1", "p/2", "q/1", "1", ""]
    assert found["source"].tolist() == ["s"] * 5
    unnamed = exposures.patients(table, pd.DataFrame({"a": ["/d/e.png"], "b": ["/d/d.png"]}))
    assert unnamed["patient"].tolist() == ["p", "p", "q", "r", "r"]


def test_a_stamp_is_said():
    none = pd.DataFrame(columns=["a", "b", "inliers", "correlation"])
    text = exposures.sentence(exposures.Exposures(none, 1))
    assert text == "same marker on different X-rays: none (1 more marker is on over 5 X-rays each: a stamp)"
