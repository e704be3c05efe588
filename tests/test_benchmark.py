"""`benchmark`, as a user starts it."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests.workplace import SMALL, Workplace, given

pytestmark = pytest.mark.slow
KEYS = ["fine_tuning", "step", "forward", "ceiling", "loading", "tuning", "evaluation", "predicting", "processes"]
KEYS += [f"growth_{stage}" for stage in ("cache", "loading", "copies", "evaluation")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("benchmark") / "project").create()


def test_everything_in_a_quick_run(workplace):
    parameters = SMALL | {"model": "vit-mae-nano", "quick": "true", "group_by": "names", "batch_size": 8}
    done = workplace.mlflow("run", ".", "-e", "benchmark", *given(parameters))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "\r" not in done.stderr, "progress bars"
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("QUICK RUN, the figures tell nothing and no bar applies: preset vit-mae-nano") for line in lines
    )
    assert max(len(line) for line in lines if not line.startswith("20")) <= 120
    assert any(line.startswith("Bars: 0 met, 0 not met, ") for line in lines)

    (run,) = workplace.runs("fracture-mae")
    assert run.info.status == "FINISHED"
    assert run.data.params["quick"] == "True"
    assert run.data.params["growth_sizes"] == "25,50"
    artifacts = Path(run.info.artifact_uri)
    table = pd.read_csv(artifacts / "benchmark.csv").set_index("key")
    assert list(table.index) == KEYS
    document = json.loads((artifacts / "benchmark.json").read_text())
    assert [result["key"] for result in document["results"]] == KEYS
    assert document["machine"]["precision"] in ("bf16", "fp32")
    measured = [key for key in KEYS if key != "processes" or os.cpu_count() > 1]
    for key in measured:
        assert run.data.metrics[f"{key}/ratio"] == pytest.approx(table.loc[key, "ratio"])
        assert table.loc[key, "ratio_low"] <= table.loc[key, "ratio"] <= table.loc[key, "ratio_high"]
        assert f"{key}/met" not in run.data.metrics  # no bar applies to a quick run
    for figure in ("ratios.png", "roofline.png"):
        assert (artifacts / figure).read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(artifacts / "growth.csv")) == 4 * 2
    assert len(workplace.runs("fracture-mae")) == 1  # the trials are in a store that is gone


def test_a_part_by_itself_and_a_part_that_is_not_there(workplace):
    done = workplace.python("benchmark", **SMALL, model="vit-mae-nano", quick=True, group_by="names", only="loading")
    assert done.returncode == 0, done.stderr
    assert "loading an epoch, nothing else" in done.stdout
    done = workplace.python("benchmark", only="speed")
    assert done.returncode == 2
    assert "Error: --only: found 'speed', expected all, or any of fine_tuning, step, forward, ceiling, " in done.stderr


def test_a_model_that_is_not_to_be_had_is_an_error_that_says_what_to_do(workplace):
    done = workplace.python("benchmark", **SMALL, quick=True, only="loading")
    assert done.returncode == 1
    assert "facebook/vit-mae-base is neither a folder here nor whole in the Hugging Face cache" in done.stderr
    assert "take a preset with random weights: vit-mae-nano" in done.stderr
