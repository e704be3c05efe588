"""`--help` explains every parameter: what it is, what is allowed, and what it is by default."""

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner

NAMES = sorted(file.stem for file in Path(__file__).resolve().parents[1].glob("entrypoints/[!_]*.py"))


def help_of(name):
    result = CliRunner().invoke(importlib.import_module(f"entrypoints.{name}").main, ["--help"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_flag(name):
    usage, _, options = help_of(name).partition("Options: --")
    assert usage.startswith(f"Usage: python -m entrypoints.{name} [OPTIONS] ")
    explained = {option.split()[0]: option for option in options.split(" --")}
    command = importlib.import_module(f"entrypoints.{name}").main
    flags = {option.opts[0].removeprefix("--") for option in command.params}
    assert flags <= set(explained)
    for flag in flags:
        assert " Expected: " in explained[flag]
        assert " Default: " in explained[flag]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("finetune_mae", "--batch-size VALUE X-rays per step. Expected: a whole number, at least 1, at most 4096. Default: 32"),
        ("finetune_mae", "Expected: a number, above 0, below 1. Default: 0.75"),  # mask_ratio
        ("train_classifier", "Default: auto (recipe default: 0.0, recipe original: 0.0, recipe robust: 0.5)"),
        ("finetune_mae", "Expected: masked | all. Default: auto (recipe default: masked, recipe original: all)"),
        ("main", "at least 32, at most 1024, a multiple of 16 or auto. Default: auto"),  # image_size
        ("train_classifier", "Expected: none | balanced or a number, above 0, at most 1000. Default: auto (recipe"),
        ("train_classifier", "--freeze VALUE train the head alone. Expected: true or false. Default: False"),
    ],
)  # fmt: skip
def test_help_by_hand(name, words):
    assert words in help_of(name)
