"""Measure on this machine how fast the project is, each figure beside its alternative, in turn."""

import sys

import click

from entrypoints import entry_point
from fracture_mae.config import Benchmark


@entry_point(Benchmark)
def main(config: Benchmark) -> None:
    import benchmarks
    from benchmarks import machine, report, workload
    from benchmarks.results import Outcome
    from benchmarks.workspace import workspace
    from fracture_mae.data.reading.cache import cache_root
    from fracture_mae.processes.accelerator import make_accelerator
    from fracture_mae.stages import inputs
    from fracture_mae.tracking import runs
    from fracture_mae.tracking.registered_models import load_mae

    with runs.run("benchmark", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        mae = load_mae(config.model, config)
        dataset = inputs.load_data(config, mae.image_size, preprocess=mae.preprocess)
        xrays = workload.choose(dataset, config.n_images)
        outcome = Outcome()
        with workspace(cache_root()) as folder:  # where there is room for many X-rays
            parted = workload.parted(dataset, xrays)
            measured = workload.Workload(config, mae, xrays, parted, accelerator, folder)
            found = machine.describe(measured)
            told = machine.sentence(found, measured)
            run.tags(
                {"model": mae.source, "data": dataset.name} | {f"machine.{key}": value for key, value in found.items()}
            )
            run.note(told)
            _say(report.header(told))
            for part in benchmarks.measure(measured):
                _say(report.rows(part))
                outcome.add(part)
        _say(f"\n{report.footer(outcome)}")
        run.report(report.findings(outcome, found, config.model_dump()))


def _say(text: str) -> None:
    """In colours on a terminal alone."""
    print(text if sys.stdout.isatty() else click.unstyle(text))


if __name__ == "__main__":
    main()
