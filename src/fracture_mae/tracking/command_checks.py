"""What MLflow's own commands ask for this project before they begin, so that what is missing is a sentence, at once.

Loaded with the plugin, while MLflow is only half imported, so MLflow is imported inside functions alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

EXPERIMENT = "fracture-mae"
_PROJECT = "fracture-mae"  # the name in MLproject
_MODELS = ("fracture-classifier", "xray-mae")


def is_this_project(uri: str) -> bool:
    """Whether it is a folder whose MLproject has this project's name."""
    import yaml

    try:
        project = yaml.safe_load((Path(uri) / "MLproject").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(project, dict) and project.get("name") == _PROJECT


def before_running_or_showing(cli: ModuleType) -> None:
    """Have `mlflow run` of this project look at the store that its runs are to be kept in, and `mlflow ui` wait while another process
    makes the database beside this project: the two at once would leave it unusable."""
    _check_before(getattr(cli, "run", None), _check_store)
    _check_before(getattr(cli, "server", None), _open_shown)


def before_serving(cli: ModuleType) -> None:
    """Have `mlflow models serve` of a model of this project look for it, and leave it to the server to say why it did not start."""
    _check_before(getattr(cli, "serve", None), _check_served)


def _check_before(command: Any, check: Callable[[Mapping[str, Any]], None]) -> None:
    if not hasattr(command, "invoke"):
        return
    invoke = command.invoke

    def checked(context: Any) -> Any:
        with _sentences():
            check(context.params)
            return invoke(context)

    command.invoke = checked


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors of ours as a command's; of MLflow's that another process ended badly, which has said so itself, no traceback."""
    import click

    from fracture_mae.errors import FractureMaeError

    try:
        yield
    except FractureMaeError as error:
        raise click.ClickException(str(error)) from error
    except Exception as error:
        if "returned non zero return code" not in str(error):
            raise
        raise click.ClickException("the server has ended; what it said of that stands above.") from error


def _check_store(params: Mapping[str, Any]) -> None:
    if not is_this_project(params.get("uri", "")):
        return
    from fracture_mae.processes import output

    output.name_any_file()
    import mlflow

    from fracture_mae.errors import FractureMaeError
    from fracture_mae.tracking import stores

    try:
        stores.reach(mlflow.get_tracking_uri())
        stores.open_first(mlflow.get_tracking_uri())
        client = mlflow.MlflowClient()
        if number := params.get("experiment_id"):
            stores.check_experiment(client.get_experiment(number))
        else:
            stores.check_experiment(client.get_experiment_by_name(params.get("experiment_name") or EXPERIMENT))
    except FractureMaeError:
        raise
    except Exception as error:
        raise stores.unusable(error) from error


def _open_shown(params: Mapping[str, Any]) -> None:
    from fracture_mae.tracking import stores

    uri = params.get("backend_store_uri") or ""
    file = stores.sqlite_file(uri)
    if file and is_this_project(str(file.parent)):
        with suppress(Exception):  # the server says itself what it cannot use
            stores.open_first(uri)


def _check_served(params: Mapping[str, Any]) -> None:
    uri = params.get("model_uri") or ""
    if not uri.startswith(tuple(f"models:/{name}{end}" for name in _MODELS for end in "/@")):
        return
    from fracture_mae.processes import output

    output.name_any_file()
    import mlflow

    from fracture_mae.errors import FractureMaeError
    from fracture_mae.tracking import registry, stores

    store = mlflow.get_registry_uri()
    stores.reach(store)
    file = stores.sqlite_file(store)
    if file and not file.exists():  # MLflow would make an empty one
        raise FractureMaeError(
            f"there is no database of models at {file}. Serve from the project's folder, or name the store with its whole path: "
            "MLFLOW_TRACKING_URI=sqlite:////path/to/fracture-mae/mlflow.db."
        )
    if registry.find(uri) is None:
        raise FractureMaeError(
            f"{uri} is not registered in {stores.address(store)}. Serve from the project's folder, name another store in "
            "MLFLOW_TRACKING_URI, or another version; the UI lists them."
        )
