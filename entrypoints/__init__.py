"""The project's entry points, one thin script each, run as `python -m entrypoints.NAME` or through `mlflow run`.

MLflow's environments hold the dependencies only, never a copy of this project (they are cached by conda.yaml alone, a copy would
go stale), so `src` is put on the path here. Heavy imports wait until a command's parameters are known to be right.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

# Threads that wait must not spin: on a machine whose cores do other work too, training is up to twenty times slower if they do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if not sys.stderr.isatty():
    os.environ.setdefault(
        "TQDM_DISABLE", "1"
    )  # in a log, progress bars are one long line; each epoch has its own line anyway
if isinstance(sys.stdout, TextIOWrapper):
    # Who follows a log sees an epoch when it ends, not when the buffer is full.
    sys.stdout.reconfigure(line_buffering=True)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from fracture_mae.cli import options_from, parse
from fracture_mae.config import Config
from fracture_mae.errors import FractureMaeError


def entry_point(config: type[Config]) -> Callable[[Callable[[Config], None]], click.Command]:
    """Turn `main(config)` into a command whose options are the fields of `config` and whose errors are sentences."""

    def decorate(main: Callable[[Config], None]) -> click.Command:
        @options_from(config)
        def command(**values: str) -> None:
            main(parse(config, values))

        name = (
            f"python -m {main.__module__}"
            if main.__module__ != "__main__"
            else f"python -m entrypoints.{Path(sys.argv[0]).stem}"
        )
        # `mlflow run -P batch_sise=8` hands undeclared parameters on as `--batch_sise 8`.
        settings = {"max_content_width": 120, "token_normalize_func": lambda token: token.replace("_", "-")}
        return click.command(name=name, cls=_Command, help=config.__doc__, context_settings=settings)(command)

    return decorate


class _Command(click.Command):
    """A command whose errors reach the run that `mlflow run` made for it, those of its command line too."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _failures_recorded():
            return super().make_context(*args, **options)

    def invoke(self, context: click.Context) -> None:
        with _failures_recorded():
            super().invoke(context)


@contextmanager
def _failures_recorded() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        _record_failure(error)
        raise
    except FractureMaeError as error:
        _record_failure(error)
        raise click.ClickException(str(error)) from error


def _record_failure(error: Exception) -> None:
    if "MLFLOW_RUN_ID" in os.environ:
        from fracture_mae.tracking import record_failure

        record_failure(error)
