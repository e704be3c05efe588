"""`python -m tests.mlflow_server OPTIONS` is `mlflow server OPTIONS` in one process, which need not read the libraries again."""

import os
import runpy
import sys
from unittest import mock

import mlflow.server
from mlflow.cli import cli


def _become(command: list[str], extra_env: dict[str, str], **_: object) -> None:
    """What MLflow would start as a process of its own: `PYTHON -m MODULE …`."""
    os.environ.update(extra_env)
    sys.argv[:] = command[2:]
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with mock.patch.object(mlflow.server, "_exec_cmd", _become):
        cli(["server", *sys.argv[1:]])
