"""`mlflow run .` with no manager named, as people start it, where there is neither conda nor pyenv."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.workplace import SMALL, Workplace, given

pytestmark = pytest.mark.slow
OPTIONS = {"model": "vit-mae-nano", "n_figures": 2}
COMMAND = ["run", ".", "-e", "reconstruct_baseline"]


@pytest.fixture
def workplace(tmp_path):
    found = Workplace(tmp_path / "work").create(searched=True)
    found.environment["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for name in ("conda", "pyenv"):
        assert shutil.which(name, path=found.environment["PATH"]) is None
    return found


def test_it_runs_in_the_experiment_of_direct_runs_and_logs_what_is_used(workplace):
    done = workplace.mlflow(*COMMAND, *given(SMALL | OPTIONS | {"mask_ratio": "7.5e-1"}))
    assert done.returncode == 0, done.stderr
    done = workplace.python("reconstruct_baseline", **SMALL, **OPTIONS)
    assert done.returncode == 0, done.stderr
    bare, direct = workplace.runs("fracture-mae")
    assert bare.info.status == direct.info.status == "FINISHED"
    assert bare.info.run_name == direct.info.run_name == "reconstruct_baseline"
    assert bare.data.params == direct.data.params  # as they are used, not as they were typed
    assert bare.data.params["mask_ratio"] == "0.75"
    assert workplace.runs("Default") == []


def test_conda_means_conda(workplace):
    done = workplace.mlflow(*COMMAND, "--env-manager", "conda", "--run-name", "mine", *given(SMALL | OPTIONS))
    assert done.returncode == 1
    assert "Could not find Conda executable" in done.stderr
    (run,) = workplace.runs("fracture-mae")
    assert (run.info.status, run.info.run_name) == ("FAILED", "mine")
    assert "Could not find Conda executable" in run.data.tags["failure_reason"]


def test_an_experiment_and_a_name_that_the_user_gives_are_kept(workplace):
    named = ["--experiment-name", "wrists", "--run-name", "mine"]
    done = workplace.mlflow(*COMMAND, *named, *given(SMALL | OPTIONS | {"batch_sise": 8}))
    assert done.returncode == 1
    assert "No such option '--batch-sise'. Did you mean '--batch-size'?" in done.stderr
    (run,) = workplace.runs("wrists")
    assert (run.info.status, run.info.run_name) == ("FAILED", "mine")
    assert "--batch-sise" in run.data.tags["failure_reason"]
    assert workplace.store.get_experiment_by_name("fracture-mae") is None


def test_another_project_is_left_to_mlflow(workplace, tmp_path):
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "conda.yaml").write_text("dependencies: [python=3.11]\n")
    project = "name: another\nconda_env: conda.yaml\nentry_points: {main: {command: 'true'}}\n"
    (tmp_path / "another" / "MLproject").write_text(project)
    done = workplace.mlflow("run", str(tmp_path / "another"))
    assert done.returncode == 1
    assert "Could not find Conda executable" in done.stderr
    assert workplace.store.get_experiment_by_name("fracture-mae") is None
    (run,) = workplace.runs("Default")
    assert run.info.status == "RUNNING"  # as MLflow leaves it
