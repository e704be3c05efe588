"""X-rays without labels, from files to a judged classifier, as a user starts the steps."""

import cv2
import numpy as np
import pytest

from fracture_mae.data.synthetic.xray import xray
from tests.workplace import SMALL, Workplace

pytestmark = pytest.mark.slow
DATA = "synthetic:n_xrays=30,copies=0.5,size=256"
OPTIONS = SMALL | {"data_dir": DATA, "epochs": 1}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("unlabelled") / "work").create()


@pytest.fixture(scope="module")
def pictures(workplace, tmp_path_factory):
    """A turned JPEG of every labelled file, those of test too, and twenty other X-rays; in no order."""
    done = workplace.python("reconstruct_baseline", model="vit-mae-nano", n_figures=0, **SMALL | {"data_dir": DATA})
    assert done.returncode == 0, done.stderr
    folder = tmp_path_factory.mktemp("pictures")
    files = sorted((workplace.root / "cache" / "synthetic").rglob("*.*g"))
    for number, file in enumerate(files):
        turned = cv2.rotate(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), cv2.ROTATE_90_CLOCKWISE)
        cv2.imwrite(str(folder / f"{number}.jpg"), turned, [cv2.IMWRITE_JPEG_QUALITY, 80])
    for number in range(20):
        picture = xray(np.random.default_rng(1000 + number), fractured=number % 2 == 0, size=256)
        cv2.imwrite(str(folder / f"other-{number}.png"), picture)
    return folder


def last(workplace, entry_point):
    return next(r for r in reversed(workplace.runs("fracture-mae")) if r.data.tags["entry_point"] == entry_point)


def test_from_unlabelled_xrays_to_a_classifier_nothing_leaks(workplace, pictures):
    steps = {
        "finetune_mae": {"unlabelled_dir": pictures, "model": "vit-mae-nano", "sampler": "xray", **OPTIONS},
        "train_classifier": OPTIONS,
        "evaluate": SMALL | {"data_dir": DATA, "n_draws": 100, "references": "false"},
    }
    for entry_point, parameters in steps.items():
        done = workplace.python(entry_point, **parameters)
        assert done.returncode == 0, done.stderr
    mae, classifier, judged = (last(workplace, name) for name in steps)
    assert mae.data.metrics["unlabelled/n_images"] >= 20
    assert mae.data.metrics["unlabelled/n_left_out"] > 0
    assert mae.data.metrics["train/n_images"] > classifier.data.metrics["train/n_images"] + 19
    assert "unlabelled files are left out" in mae.data.tags["mlflow.note.content"]
    found = {item.path for item in workplace.store.list_artifacts(mae.info.run_id, "data")}
    assert "data/unlabelled.csv" in found
    assert classifier.data.tags["encoder.split"] == "the same"
    for run in (classifier, judged):
        assert (run.data.metrics["leakage/with_label"], run.data.metrics["leakage/picture_only"]) == (0, 0)
        assert run.data.tags["leakage"] == "0%"


def test_alone_they_serve_the_autoencoder_and_nothing_else(workplace, pictures):
    options = OPTIONS | {"data_dir": pictures}
    done = workplace.python("finetune_mae", model="vit-mae-nano", **options)
    assert done.returncode == 0, done.stderr
    assert "none of them with a label" in last(workplace, "finetune_mae").data.tags["mlflow.note.content"]
    for entry_point in ("train_classifier", "tune", "compare", "audit_data"):
        parameters = {"data_dir": pictures} if entry_point == "audit_data" else SMALL | {"data_dir": pictures}
        parameters |= {"encoders": "vit-mae-nano"} if entry_point == "compare" else {}
        done = workplace.python(entry_point, **parameters)
        assert done.returncode == 1
        assert "holds no files in label folders. Expected: DIR/[train|val|test/]LABEL/FILE" in done.stderr
        assert "Traceback" not in done.stderr
