"""Runs as tests find them in a store, or put them there."""

import mlflow


def only_run(store):
    (run,) = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    return run


def artifact(run, path):
    return mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{path}")


def run_made_by_mlflow(store, monkeypatch, name="mine", **parameters):
    """A run as `mlflow run` leaves it for the process it starts."""
    run = store.create_run("0", run_name=name, tags={"mlflow.project.entryPoint": "evaluate"})
    for parameter, value in parameters.items():
        store.log_param(run.info.run_id, parameter, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return run.info.run_id
