"""An entry point in an environment that MLflow and uv make from conda.yaml alone."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.workplace import Workplace, given

pytestmark = pytest.mark.slow


def test_an_entry_point_runs_in_an_environment_made_by_uv(tmp_path):
    workplace = Workplace(tmp_path / "project").create()
    workplace.environment["MLFLOW_ENV_ROOT"] = str(tmp_path / "environments")
    if "PIP_FIND_LINKS" in os.environ:  # uv looks for wheels where pip does, unless it is told otherwise
        folders = ",".join(os.environ["PIP_FIND_LINKS"].split())  # which uv wants commas between
        workplace.environment.setdefault("UV_FIND_LINKS", folders)
    tiny = {"data_dir": "synthetic:n_xrays=24,size=64", "model": "vit-mae-nano", "image_size": 32, "n_figures": 2}
    done = workplace.mlflow("run", ".", "-e", "reconstruct_baseline", "--env-manager", "uv", *given(tiny))
    shutil.rmtree(tmp_path / "environments")  # gigabytes
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = workplace.runs("fracture-mae")
    assert (run.info.status, run.data.tags["mlflow.project.env"]) == ("FINISHED", "uv")
    assert 0 < run.data.metrics["test/masked_mse"] < 10
    # Not this interpreter's packages, and no copy of the project among those of the environment.
    assert str(tmp_path / "environments") in done.stderr
    assert "fracture-mae" not in done.stderr.partition("Installing dependencies")[2].partition("Running command")[0]
    assert Path(sys.prefix).name != "environments"
