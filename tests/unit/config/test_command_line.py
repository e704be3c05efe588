from typing import Annotated, ClassVar, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from fracture_mae.config import AuditData, Config, NumberOrWord, TrainClassifier
from fracture_mae.config.command_line import flag, mlflow_run, options_from, parse


class Example(Config):
    """A config with a field of each kind."""

    n_files: int = Field(3, ge=1, le=9, description="how many")
    share: float = Field("auto", gt=0, lt=1, description="how much")
    side: Annotated[int, Field(multiple_of=16)] | Literal["auto"] = Field("auto", description="how wide")
    weight: Annotated[Literal["none"] | Annotated[float, Field(gt=0)], NumberOrWord] = Field(
        "none", description="how heavy"
    )
    flip: bool = Field(True, description="whether")
    name: str = Field("x", description="which")

    recipes: ClassVar = {"default": {"share": 0.5}, "other": {"share": 0.25}}


def test_flag():
    assert flag("batch_size") == "--batch-size"


def command_line(*arguments):
    """What a command made from Example is called with."""
    called = {}
    command = click.command()(options_from(Example)(lambda **values: called.update(values)))
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return called


def test_options_hand_on_text_and_defaults():
    given = command_line("--n-files", "007", "--name", "1e-4")
    assert set(given) == set(Example.model_fields)
    assert (given["n_files"], given["name"], given["flip"], given["share"]) == ("007", "1e-4", "True", "auto")


def test_parse_makes_types_of_text():
    config = parse(Example, {"n_files": "7", "share": "1e-4", "side": "48", "weight": "2", "flip": "false"})
    assert config.model_dump() == {"n_files": 7, "share": 1e-4, "side": 48, "weight": 2.0, "flip": False, "name": "x"}
    assert isinstance(config.weight, float)


def test_parse_fills_auto_from_the_recipe():
    assert parse(Example, {}).share == 0.5


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("n_files", "0", "a whole number, at least 1, at most 9"),
        ("n_files", "2.5", "a whole number, at least 1, at most 9"),
        ("share", "1", "a number, above 0, below 1"),
        ("share", "nan", "a number, above 0, below 1"),
        ("side", "100", "a whole number, a multiple of 16 or auto"),
        ("weight", "heavy", "none or a number, above 0"),
        ("flip", "perhaps", "true or false"),
    ],
)
def test_wrong_text_is_refused_with_what_was_found_and_expected(name, text, expected):
    with pytest.raises(click.UsageError) as refused:
        parse(Example, {name: text})
    assert refused.value.message == f"{flag(name)}: found {text!r}, expected {expected}"


def test_all_mistakes_are_named_at_once_each_once():
    with pytest.raises(click.UsageError) as refused:
        parse(Example, {"side": "1", "n_files": "0", "colour": "red", "name": "y"})
    lines = refused.value.message.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["--n-files", "--side", "--colour"]
    assert lines[-1] == "--colour: there is no such parameter; --help lists those there are"


def test_help_has_meaning_range_and_default():
    command = click.command()(options_from(Example)(lambda **values: None))
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "--n-files VALUE how many. Expected: a whole number, at least 1, at most 9. Default: 3" in text
    assert "Default: auto (recipe default: 0.5, recipe other: 0.25)" in text


def test_values_that_do_not_go_together_are_explained_by_their_flag():
    with pytest.raises(click.UsageError) as refused:
        parse(TrainClassifier, {"sampler": "xray", "weight_by": "group", "cross_validate": "1"})
    first, second = refused.value.message.splitlines()
    assert first.startswith("--sampler: found 'xray' beside --weight-by group, expected a sampler that draws files")
    expected = "0 or a whole number, at least 2, at most 20 or sources or both, such as 5,sources"
    assert second == f"--cross-validate: found '1', expected {expected}"


def test_a_run_is_repeated_by_its_data_its_seed_and_what_is_not_a_default():
    config = AuditData(data_dir="my X-rays", n_folds=3)
    assert (
        mlflow_run("audit_data", config) == "mlflow run . -e audit_data -P 'data_dir=my X-rays' -P seed=0 -P n_folds=3"
    )
    settled = mlflow_run("audit_data", AuditData(), n_folds=5)  # said whatever the default is
    assert settled == "mlflow run . -e audit_data -P data_dir=synthetic -P seed=0 -P n_folds=5"
