"""The project's entry points, one thin script each, run as `python -m entrypoints.NAME` or through `mlflow run`.

MLflow's environments hold the dependencies only, never a copy of this project (they are cached by conda.yaml alone, a copy would
go stale), so `src` is put on the path here. Heavy imports wait until a command's parameters are known to be right.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

# Threads that wait must not spin: on a machine whose cores do other work too, training is up to twenty times slower if they do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from fracture_mae.cli import options_from, parse
from fracture_mae.config import Config
from fracture_mae.errors import FractureMaeError


def entry_point(config: type[Config]) -> Callable[[Callable[[Config], None]], click.Command]:
    """Turn `main(config)` into a command whose options are the fields of `config` and whose errors are sentences."""

    def decorate(main: Callable[[Config], None]) -> click.Command:
        @options_from(config)
        def command(**values: str) -> None:
            try:
                main(parse(config, values))
            except (click.UsageError, FractureMaeError) as error:
                _record_failure(error)
                raise error if isinstance(error, click.UsageError) else click.ClickException(str(error)) from error

        name = (
            f"python -m {main.__module__}"
            if main.__module__ != "__main__"
            else f"python -m entrypoints.{Path(sys.argv[0]).stem}"
        )
        # `mlflow run -P batch_sise=8` hands undeclared parameters on as `--batch_sise 8`.
        settings = {"max_content_width": 120, "token_normalize_func": lambda token: token.replace("_", "-")}
        return click.command(name=name, help=config.__doc__, context_settings=settings)(command)

    return decorate


def _record_failure(error: Exception) -> None:
    if "MLFLOW_RUN_ID" in os.environ:
        from fracture_mae.tracking import record_failure

        record_failure(error)
