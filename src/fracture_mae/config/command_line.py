"""Config fields to click options: flags, help and errors all come from `fracture_mae.config`."""

import shlex
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fracture_mae.config import Config

C = TypeVar("C", bound=Config)

_ALWAYS = ("data_dir", "seed")  # in a line that repeats a run
_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def flag(name: str) -> str:
    """The flag of a field: `batch_size` → `--batch-size`."""
    return "--" + name.replace("_", "-")


def options_from(config: type[Config]) -> Callable:
    """Decorate a function with one click option for each field of `config`.

    Values reach the function as the text that was typed; `parse` checks them all at once.
    """

    def decorate(function: Callable) -> Callable:
        for name, field in reversed(config.model_fields.items()):
            option = click.option(
                flag(name), name, default=str(field.default), metavar="VALUE", help=_help(config, name, field)
            )
            function = option(function)
        return function

    return decorate


def parse(config: type[C], values: dict[str, Any]) -> C:
    """Make a config of command-line text.

    Raises:
        click.UsageError: naming every flag that is wrong, what was found and what is expected.
    """
    try:
        return config(**values)
    except ValidationError as error:
        wrong = {str(detail["loc"][0]): detail.get("ctx", {}).get("error") for detail in error.errors()}
        lines = [
            f"{flag(name)}: {reason}" if reason else _explain(name, values.get(name), config.model_fields.get(name))
            for name, reason in wrong.items()
        ]
        raise click.UsageError("\n".join(lines)) from None


def _explain(name: str, value: Any, field: FieldInfo | None) -> str:
    if field is None:
        return f"{flag(name)}: there is no such parameter; --help lists those there are"
    return f"{flag(name)}: found {value!r}, expected {_expected(field)}"


def _help(config: type[Config], name: str, field: FieldInfo) -> str:
    named = config.recipes | config.variants
    recipes = {recipe: values[name] for recipe, values in named.items() if name in values}
    by_recipe = "auto (" + ", ".join(f"recipe {recipe}: {value}" for recipe, value in recipes.items()) + ")"
    return f"{field.description}. Expected: {_expected(field)}. Default: {by_recipe if recipes else field.default}"


def _expected(field: FieldInfo) -> str:
    return _describe(field.annotation, field.metadata)


def _describe(annotation: Any, metadata: list[Any]) -> str:
    """A type and its bounds in words, such as `a whole number, at least 1, at most 4096`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *constraints = get_args(annotation)
        told = [constraint.description for constraint in constraints if getattr(constraint, "description", None)]
        if told:
            return told[0]
        bounds = [bound for constraint in constraints for bound in getattr(constraint, "metadata", [constraint])]
        return _describe(inner, bounds)
    if origin in (Union, UnionType):
        return " or ".join(_describe(member, []) for member in get_args(annotation))
    if origin is Literal:
        return " | ".join(map(str, get_args(annotation)))
    bounds = [
        text.format(getattr(constraint, attribute))
        for constraint in metadata
        for attribute, text in _BOUNDS.items()
        if getattr(constraint, attribute, None) is not None
    ]
    return ", ".join([_TYPE_NAMES[annotation], *bounds])


def mlflow_run(entry_point: str, config: Config, **settled: object) -> str:
    """The line of a shell that repeats a run: its data, seed and all that is not left at its default.

    settled: values to write instead of those of `config`, such as the version that an alias stood for.
    """
    values = config.model_dump() | settled
    told = {
        name: value
        for name, value in values.items()
        if name in (*_ALWAYS, *settled) or value != type(config).model_fields[name].default
    }
    return " ".join(
        ["mlflow run .", "-e", entry_point, *(f"-P {shlex.quote(f'{name}={value}')}" for name, value in told.items())]
    )
