"""What MLflow loads of this project when it is imported itself: the experiment of `mlflow run .`, and that it needs no conda.

MLflow is only half imported then, so it is imported inside functions alone, and nothing heavy is imported at all. Whatever is not a
run of this project's folder keeps MLflow's own behaviour.
"""

import inspect
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from fracture_mae.tracking import command_checks
from fracture_mae.tracking.command_checks import EXPERIMENT, is_this_project

_BACKENDS = "mlflow.projects.backend.loader"
_COMMANDS = {"mlflow.cli": command_checks.before_running_or_showing, "mlflow.models.cli": command_checks.before_serving}
_RUN_OF_A_BACKEND = (
    *("self", "project_uri", "entry_point", "params", "version"),
    *("backend_config", "tracking_uri", "experiment_id"),
)
_LONGEST_REASON = 1000
_PATHS = {
    "data_dir": ("synthetic",),
    "unlabelled_dir": ("synthetic", "none"),
    "boxes": ("auto", "none"),
}  # parameters that are paths, and words that they may be instead


class ExperimentProvider:
    """Puts runs of `mlflow run .` into `EXPERIMENT`, unless the user names another; MLflow asks it only then.

    MLflow makes it while it is imported, and with it `Backend` takes the place of MLflow's local backend, and `mlflow run`, `mlflow ui`
    and `mlflow models serve` look at what they need before they begin.
    """

    def __init__(self) -> None:
        _after_import(_BACKENDS, install_backend)
        for module, check in _COMMANDS.items():
            _after_import(module, check)

    def in_context(self) -> bool:
        """Whether this process is `mlflow run` of this project."""
        import click

        context = click.get_current_context(silent=True)
        command = context.command if context else None
        if command is None or command.name != "run" or getattr(command.callback, "__module__", "") != "mlflow.cli":
            return False
        if not is_this_project(context.params["uri"]):
            return False
        if context.params.get("env_manager") is None and not _is_installed(sys.modules.get(_BACKENDS)):
            click.echo(
                "This version of MLflow looks for conda where no manager is named: add --env-manager local.", err=True
            )
        return True

    def get_experiment_id(self) -> str:
        return experiment_named(EXPERIMENT)


def experiment_named(name: str, artifact_location: str | None = None) -> str:
    """The id of an experiment, which is made if there is none; several processes may ask at once."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from fracture_mae.tracking import stores

    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location or stores.artifact_location(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def install_backend(loader: ModuleType) -> None:
    """Have `mlflow run` take `Backend` for its local backend, if MLflow still has one of the shape that is known."""
    try:
        local = loader.MLFLOW_BACKENDS["local"]
        if not _is_installed(loader) and tuple(inspect.signature(local.run).parameters) == _RUN_OF_A_BACKEND:
            loader.MLFLOW_BACKENDS["local"] = _backend(local)
    except (AttributeError, KeyError, TypeError, ValueError):
        return


def _is_installed(loader: ModuleType | None) -> bool:
    backends = getattr(loader, "MLFLOW_BACKENDS", {})
    return hasattr(backends.get("local"), "prepare")


def _backend(local: type) -> type:
    """MLflow's local backend, with other manners for this project."""

    class Backend(local):
        """Without a manager named, a run of this project takes the environment that MLflow is in.

        The entry point itself logs all parameters, as they are really used, so they are not logged as they were typed before. A
        run that cannot be started ends as FAILED. Where a process has read the libraries, a run is a fork of it.
        """

        def run(
            self,
            project_uri: str,
            entry_point: str,
            params: Mapping[str, Any],
            version: str | None,
            backend_config: Mapping[str, Any],
            tracking_uri: str,
            experiment_id: str,
        ) -> Any:
            if not is_this_project(project_uri):
                return super().run(
                    project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id
                )
            from mlflow.projects import utils

            from fracture_mae.tracking import warm_processes

            params = resolved(params)
            settings, run_id = self.prepare(project_uri, entry_point, params, version, backend_config, experiment_id)
            try:
                if warm_processes.started() and settings[utils.PROJECT_ENV_MANAGER] == "local":
                    return _forked(project_uri, entry_point, params, run_id, experiment_id)
                return super().run(project_uri, entry_point, params, version, settings, tracking_uri, experiment_id)
            except BaseException as error:
                _end_as_failed(run_id, entry_point, error)
                raise

        def prepare(
            self,
            project_uri: str,
            entry_point: str,
            params: Mapping[str, Any],
            version: str | None,
            backend_config: Mapping[str, Any],
            experiment_id: str,
        ) -> tuple[dict[str, Any], str]:
            """The settings with a manager and a run, which is made if none is named; and that run's id."""
            from mlflow import MlflowClient
            from mlflow.projects import utils

            from fracture_mae.tracking import ownership

            settings, run_key = dict(backend_config), utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG
            if settings.get(utils.PROJECT_ENV_MANAGER) is None:
                settings[utils.PROJECT_ENV_MANAGER] = "local"
            put_on_path(Path(sys.executable).parent)
            if settings.get(run_key) is None:
                folder = utils.fetch_and_validate_project(project_uri, version, entry_point, params)
                data = {name: value for name, value in params.items() if name == "data_dir"}
                made = utils.get_or_create_run(None, project_uri, experiment_id, folder, version, entry_point, data)
                settings[run_key] = made.info.run_id
                for name, value in ownership.process_tags().items():  # until the entry point takes it
                    MlflowClient().set_tag(made.info.run_id, name, value)
            return settings, settings[run_key]

    return Backend


def _forked(uri: str, entry_point: str, params: Mapping[str, Any], run_id: str, experiment_id: str) -> Any:
    """Run an entry point's command of MLproject in a fork of the process that has read the libraries."""
    from mlflow.projects import _project_spec, utils
    from mlflow.projects.submitted_run import LocalSubmittedRun

    from fracture_mae.tracking import warm_processes

    command = _project_spec.load_project(uri).get_entry_point(entry_point).compute_command(params, None)
    logging.getLogger("mlflow.projects").info("=== Running command '%s' in run with ID '%s' ===", command, run_id)
    _python, _m, module, *arguments = shlex.split(command)
    variables = utils.get_run_env_vars(run_id, experiment_id)
    return LocalSubmittedRun(run_id, warm_processes.run(module, arguments, Path(uri), variables))


def resolved(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Parameters by their names, paths of X-rays and boxes seen from the folder where the user is.

    MLflow does that for the type `path`, but demands that it exists, which the words synthetic and none do not.
    """
    found = {name.replace("-", "_"): value for name, value in (params or {}).items()}
    for name, words in _PATHS.items():
        value = str(found.get(name, ""))
        if value and value.partition(":")[0] not in words:
            found[name] = os.path.abspath(Path(value).expanduser())
    return found


def put_on_path(folder: Path) -> None:
    """Make `python` the interpreter that runs here, even where its environment was not activated."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if folders[0] != str(folder):
        os.environ["PATH"] = os.pathsep.join([str(folder), *folders])


def _end_as_failed(run_id: str, entry_point: str, error: BaseException) -> None:
    """End a run that could not be started, which MLflow has not yet given its name."""
    import click
    from mlflow import MlflowClient

    from fracture_mae.tracking import ownership

    client, context = MlflowClient(), click.get_current_context(silent=True)
    name = context.params.get("run_name") if context else None
    client.set_tag(run_id, "mlflow.runName", name or entry_point)
    ownership.end_as_failed(client, run_id, f"{type(error).__name__}: {error}"[:_LONGEST_REASON])


def _after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call `then` with a module once it is imported."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watch(name, then))


class _Watch(MetaPathFinder):
    """Finds one module as Python does, and calls a function with it when it is imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]):
        self._name, self._then = name, then

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_tell(module: ModuleType) -> None:
                execute(module)
                self._then(module)

            spec.loader.exec_module = execute_and_tell
        return spec
