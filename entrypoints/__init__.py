"""The project's entry points, one thin script each, run as `python -m entrypoints.NAME` or through `mlflow run`.

MLflow's environments hold the dependencies only, never a copy of this project (they are cached by conda.yaml alone, a copy would
go stale), so `src` is put on the path here. Heavy imports wait until a command's parameters are known to be right.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

# Threads that wait must not spin: on a machine whose cores do other work too, training is up to twenty times slower if they do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Figures are drawn without a window; a notebook's kernel names a backend that is there in the kernel alone.
os.environ["MPLBACKEND"] = "agg"
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault(
        "TQDM_DISABLE", "1"
    )  # in a log, progress bars are one long line; each epoch has its own line anyway
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from fracture_mae.config import Computing, Config
from fracture_mae.config.command_line import options_from, parse
from fracture_mae.data.reading.cache_folder import shortage
from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import output, ranks

# Of the million objects that the libraries are, none becomes garbage. To search them while they are read, after every 700 as Python
# would, takes a quarter of that time, and at the end seconds more.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
if sys.orig_argv[1:2] == ["-m"]:
    output.name_any_file()
output.outlive_readers()
if ranks.under_launcher():
    ranks.behave()


def entry_point(config: type[Config]) -> Callable[[Callable[[Config], None]], click.Command]:
    """Turn `main(config)` into a command whose options are the fields of `config` and whose errors are sentences.

    Where a training's `config.nproc` asks for several processes, the command leads them; each of them runs `main`.
    """

    def decorate(main: Callable[[Config], None]) -> click.Command:
        in_a_package = main.__module__ != "__main__"
        module = main.__module__ if in_a_package else f"entrypoints.{Path(sys.argv[0]).stem}"

        @options_from(config)
        def command(**values: str) -> None:
            checked = parse(config, values)
            if isinstance(checked, Computing) and checked.nproc > 1 and not ranks.under_launcher():
                from fracture_mae.stages.several_processes import lead

                lead(module, checked)
            else:
                _check_alone(checked)
                main(checked)

        # `mlflow run -P batch_sise=8` hands undeclared parameters on as `--batch_sise 8`.
        settings = {"max_content_width": 120, "token_normalize_func": lambda token: token.replace("_", "-")}
        return click.command(name=f"python -m {module}", cls=_Command, help=config.__doc__, context_settings=settings)(
            command
        )

    return decorate


def _check_alone(config: Config) -> None:
    if ranks.world_size() > 1 and not isinstance(config, Computing):
        raise click.UsageError(
            f"found {ranks.world_size()} processes, as a launcher has started them, expected one: only trainings can be shared by "
            "several. Run this entry point directly."
        )


class _Command(click.Command):
    """A command whose errors reach the run that `mlflow run` made for it, those of its command line too."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _failures_recorded():
            return super().make_context(*args, **options)

    def invoke(self, context: click.Context) -> None:
        with _failures_recorded(), _shortage_explained():
            super().invoke(context)


@contextmanager
def _failures_recorded() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        _record_failure(error, str(error.message))
        raise
    except FractureMaeError as error:
        _record_failure(error, str(error))
        if ranks.is_led():
            raise SystemExit(1) from None  # its leader says why
        raise click.ClickException(str(error)) from error
    except Exception as error:
        if ranks.under_launcher():
            _end_rank(error)
        raise


@contextmanager
def _shortage_explained() -> Iterator[None]:
    """What this machine lacks becomes a sentence: memory, room on a disk, or the right to write there."""
    try:
        yield
    except Exception as error:
        if told := shortage(error):
            raise told from error
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which is not imported for this
            raise
        found = str(error).partition(". ")[0].rstrip(".")
        raise FractureMaeError(
            f"the memory of the device does not suffice ({found}). Take a smaller --batch-size; in training, --accumulation 2 and "
            "--checkpointing true need less of it, too."
        ) from error


def _record_failure(error: Exception, sentence: str) -> None:
    ranks.report(error, sentence)
    if "MLFLOW_RUN_ID" in os.environ and ranks.is_first():
        from fracture_mae.tracking.runs import record_failure

        record_failure(error)


def _end_rank(error: Exception) -> None:
    """Let the rank that caused all others to fail be the one that is heard."""
    from fracture_mae.processes.collectives import lost_another

    follows = lost_another(error)
    ranks.report(error, follows=follows)
    if not follows:
        return
    if not ranks.is_led():
        click.echo(f"Error: rank {ranks.rank()} lost another process of the training: {error}", err=True)
    raise SystemExit(1) from None
