"""What MLproject and MLflow's own loader make of parameters, and what the real commands make of that."""

import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from mlflow.projects._project_spec import load_project

import entrypoints

PROJECT = Path(__file__).resolve().parents[1]
NAMES = sorted(file.stem for file in (PROJECT / "entrypoints").glob("[!_]*.py"))
HEAVY = ("torch", "mlflow", "transformers", "pandas", "matplotlib", "sklearn", "cv2")


@pytest.fixture(scope="module")
def project():
    return load_project(PROJECT)


@pytest.fixture
def parsed(monkeypatch):
    """The configs that commands come to; instead of running one, each command ends there."""
    configs = []
    parse = entrypoints.parse

    def stop_at_config(config, values):
        configs.append(parse(config, values))
        raise click.exceptions.Exit(0)

    monkeypatch.setattr(entrypoints, "parse", stop_at_config)
    return configs


def command_of(name):
    return importlib.import_module(f"entrypoints.{name}").main


def run(name, arguments):
    return CliRunner().invoke(command_of(name), arguments)


def fields_of(name, parsed):
    """The parameters of an entry point."""
    run(name, [])
    return list(type(parsed[-1]).model_fields)


def test_mlproject_lists_the_entry_points(project):
    assert sorted(project._entry_points) == NAMES
    assert "main" in NAMES  # what `mlflow run .` runs


@pytest.mark.parametrize("name", NAMES)
def test_defaults_of_mlproject_make_the_default_config(project, parsed, name):
    command = project.get_entry_point(name).compute_command({}, storage_dir=None)
    python, m, module, *arguments = shlex.split(command)
    assert (python, m, module) == ("python", "-m", f"entrypoints.{name}")
    assert run(name, arguments).exit_code == 0
    (config,) = parsed
    assert config == type(config)()


@pytest.mark.parametrize("name", NAMES)
def test_mlproject_declares_the_data_and_leaves_the_rest_to_the_config(project, parsed, name):
    run(name, [])
    parameters = project.get_entry_point(name).parameters
    assert set(parameters) == {"data_dir"} & set(type(parsed[0]).model_fields)
    # Of a `path` MLflow demands that it exists, and the word synthetic does not.
    assert {parameter.type for parameter in parameters.values()} <= {"string"}


WITH_DATA = [name for name in NAMES if name != "roll_back"]  # which takes the number of a version alone


@pytest.mark.parametrize("name", WITH_DATA)
def test_values_reach_the_config_whole(project, parsed, name):
    given = {"data_dir": "/x rays/it's $HOME.csv", "image_size": "64", "seed": "3", "batch_size": "8.0"}
    given = {key: value for key, value in given.items() if key in fields_of(name, parsed)}
    command = project.get_entry_point(name).compute_command(given, storage_dir=None)
    assert run(name, shlex.split(command)[3:]).exit_code == 0
    config = parsed[-1].model_dump()
    assert {key: config[key] for key in given} == given | {
        key: value for key, value in {"image_size": 64, "seed": 3, "batch_size": 8}.items() if key in given
    }


@pytest.mark.parametrize("name", WITH_DATA)
def test_unknown_parameters_are_refused_by_their_name(project, parsed, name):
    command = project.get_entry_point(name).compute_command({"batch_sise": "8"}, storage_dir=None)
    result = run(name, shlex.split(command)[3:])
    assert result.exit_code == 2
    assert "No such option '--batch-sise'." in result.output
    if "batch_size" in fields_of(name, parsed):
        assert re.search(r"Did you mean.*'--batch-size'", result.output)


NO_VALUE = "no such value"  # of any parameter but those that take any text
WRONG = {
    "data_dir": "",
    "unlabelled_dir": "",
    "boxes": "",
    "reference_encoder": "",
    "positive_label": "",
    "model": "",
    "encoder": "",
    "encoders": "",
    "classifier": "",
    "split_seed": "-1",
    "seed": "0.5",
    "batch_size": "0",
    "image_size": "31",
    "num_workers": "nan",
    "epochs": "0",
    "mae_epochs": "-3",
    "learning_rate": "0",
    "weight_decay": "inf",
    "crop_scale": "2",
    "rotation": "181",
    "mask_ratio": "1",
    "n_figures": "65",
    "train_mask_ratio": "0",
    "drop_path": "1",
    "class_weight": "-2",
    "threshold": "1.01",
    "n_draws": "10",
    "n_folds": "1",
    "min_sensitivity": "1.5",
    "cost_false_negative": "0",
    "cost_false_positive": "-1",
    "n_trials": "-1",
    "study_name": "",
    "mae": "",
    "subgroups": "",
    "storage": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values_are_refused_by_their_flags(parsed, name):
    wrong = {field: WRONG.get(field, NO_VALUE) for field in fields_of(name, parsed)}
    arguments = {field: ["--" + field.replace("_", "-"), value] for field, value in wrong.items()}
    for field, (flag, value) in arguments.items():
        result = run(name, [flag, value])
        assert result.exit_code == 2, field
        assert f"Error: {flag}: found {value!r}, expected " in result.output
    everything = run(name, [word for pair in arguments.values() for word in pair])
    assert everything.output.count(": found ") == len(wrong)  # all at once, not one after the other


def test_refusals_and_help_import_nothing_heavy():
    script = f"""
        import importlib, sys
        for name in {NAMES}:
            main = importlib.import_module(f"entrypoints.{{name}}").main
            for arguments, expected in (["--help"], 0), (["--seed", "x"], 2), (["--sede", "1"], 2):
                try:
                    main(arguments)
                except SystemExit as end:
                    assert end.code == expected, (name, arguments, end.code)
        print(sorted(set({HEAVY}) & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
