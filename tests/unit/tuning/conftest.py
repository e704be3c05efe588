from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from fracture_mae.config import Tune
from fracture_mae.data.shown import Shown
from fracture_mae.models import classifier as classifier_model
from fracture_mae.tracking import runs
from fracture_mae.tracking.report import Report
from fracture_mae.tuning.register_best import Conclusion
from fracture_mae.tuning.worker import open_database, take_part
from tests import builders
from tests.lighter import lighter


@pytest.fixture(scope="module", autouse=True)
def _lighter():
    with lighter():
        yield


@pytest.fixture
def registered(monkeypatch):
    """What would be registered: the folder's classifier, its decision and its contents; registering takes seconds."""
    kept = []

    def register(folder, tags):
        kept.append((*classifier_model.load(folder), Shown.load(folder).contents, tags))
        return "1"

    monkeypatch.setattr("fracture_mae.tracking.registry.register_classifier", register)
    monkeypatch.setattr("fracture_mae.data.loading.read_picture", lambda path: np.zeros((32, 32), np.uint8))
    return kept


@pytest.fixture
def session(store, accelerator, registered, monkeypatch):
    """Runs a session, as if in a process of its own; returns its run and what it printed.

    Unless it is to be whole, figures are not drawn, and the report on the best trial's predictions is left out.
    """
    monkeypatch.setattr("fracture_mae.tuning.worker._process_start", datetime.now)

    def run_session(dataset=None, whole=False, **options):
        if not whole:
            monkeypatch.setattr(runs.Run, "figure", lambda run, figure, path: run.table(pd.DataFrame(), path))
            monkeypatch.setattr(Conclusion, "_judged", lambda *args: Report())
            monkeypatch.setattr("fracture_mae.evaluation.judging.digest", lambda *args: pd.DataFrame())
        config = Tune(n_folds=2, study_name="study", batch_size=4, **options)
        with runs.run("tune", config) as run:
            storage = open_database(config)
            text = take_part(
                builders.tiny_encoder(),
                dataset or builders.dataset(),
                config,
                storage=storage,
                accelerator=accelerator,
                run=run,
            )
        return store.get_run(run.id), text

    return run_session
