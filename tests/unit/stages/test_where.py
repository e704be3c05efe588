import mlflow
import pytest

from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import where
from fracture_mae.tracking.registered_models import LoadedClassifier
from tests import builders


@pytest.mark.parametrize(
    ("text", "found"),
    [("path,sha256\n/a.png,0f\n", [["/a.png", "0f"]]), ("", None), ('path,sha256\n"/a.png', None)],
)
def test_what_it_was_trained_on_is_what_its_run_lists(text, found, store, tmp_path):
    with mlflow.start_run() as run:
        mlflow.log_text(text, "data/splits.csv")
    loaded = LoadedClassifier(
        f"runs:/{run.info.run_id}/model", None, None, Decision(("a", "b")), builders.shown([]), tmp_path
    )
    table = where._trained_on(loaded)
    assert (None if table is None else table.to_numpy().tolist()) == found


def test_of_a_folder_nothing_is_known(store, tmp_path):
    loaded = LoadedClassifier(str(tmp_path), None, None, Decision(("a", "b")), builders.shown([]), tmp_path)
    assert where._trained_on(loaded) is None
