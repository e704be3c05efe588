from dataclasses import replace

import pandas as pd
import pytest

from tests import builders
from tests.builders import LABEL
from tests.unit.stages.versions import Registry


@pytest.fixture
def versions(store, dataset, monkeypatch):
    test = builders.xrays("test", LABEL)
    others = dataset.index[dataset.index["split"] != "test"]
    dataset = replace(dataset, test=test, index=pd.concat([others, test.table.assign(split="test")], ignore_index=True))
    return Registry(store, dataset, monkeypatch)
