from dataclasses import replace

import pandas as pd
import pytest

from fracture_mae.config import Evaluate
from fracture_mae.models import classifier as classifier_model
from fracture_mae.stages import evaluate
from fracture_mae.tracking.registered_models import LoadedClassifier
from tests import builders
from tests.builders import LABEL
from tests.lighter import lighter
from tests.unit.stages.judged import COMPARED, DECISION, DIFFERENCES, HELD_OUT, NAME, OF_CLASSIFIER, OF_MAE
from tests.unit.stages.versions import Registry


@pytest.fixture(scope="module", autouse=True)
def _lighter():
    with lighter():
        yield


@pytest.fixture
def versions(store, dataset, monkeypatch):
    test = builders.xrays("test", LABEL)
    others = dataset.index[dataset.index["split"] != "test"]
    dataset = replace(dataset, test=test, index=pd.concat([others, test.table.assign(split="test")], ignore_index=True))
    return Registry(store, dataset, monkeypatch)


@pytest.fixture
def registered(store, tmp_path, monkeypatch):
    """Version 1 of the classifier, made from an MAE that began as a preset, and judged on held-out sources."""
    experiment = store.create_experiment("made", artifact_location=(tmp_path / "artifacts").as_uri())
    runs = {}
    for name, tags in (("xray-mae", OF_MAE), (NAME, OF_CLASSIFIER)):
        run = runs[name] = store.create_run(experiment).info.run_id
        for key, value in tags.items():
            store.set_tag(run, key, value)
        store.create_registered_model(name)
        store.create_model_version(name, source="/nowhere", run_id=run)
    store.log_param(runs[NAME], "split", "grouped")
    store.log_param(runs[NAME], "epochs", "12")
    store.log_metric(runs[NAME], "train/n_xrays", 700)
    store.log_text(runs[NAME], HELD_OUT.to_csv(index=False), "held_out_sources/comparison.csv")
    return store


@pytest.fixture
def network(tiny_mae):
    return classifier_model.from_mae(tiny_mae, pool="mean", seed=0)


@pytest.fixture
def judged(tmp_path, dataset, network, accelerator):
    """A classifier, the data, and what an evaluation finds."""
    dataset.test.table["csv_age"] = ["7", "70", "7", "70", "7", "70"]
    loaded = LoadedClassifier(f"models:/{NAME}/1", "1", network, DECISION, builders.shown([]), tmp_path)
    report = evaluate.judge(loaded, dataset, Evaluate(n_draws=100, references=False), accelerator)
    report.tables |= {"test/comparison.csv": COMPARED, "test/comparison_differences.csv": DIFFERENCES}
    report.tags |= {"shortcut_warning": "none", "promotion": "not promoted: --promote never"}
    return loaded, dataset, report
