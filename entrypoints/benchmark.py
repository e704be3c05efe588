"""Measure on this machine how fast the project is, each figure beside its alternative, in turn."""

from entrypoints import entry_point
from fracture_mae.config import Benchmark


@entry_point(Benchmark)
def main(config: Benchmark) -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import click

    from fracture_mae import benchmark, pipeline, tracking
    from fracture_mae.benchmark import machine, report, subject
    from fracture_mae.benchmark.results import Outcome
    from fracture_mae.training import make_accelerator

    with tracking.run("benchmark", config) as run, TemporaryDirectory() as folder:
        accelerator = make_accelerator(config.precision, config.device)
        mae = pipeline.load_mae(config.model, config)
        dataset = pipeline.load_data(config, mae.image_size)
        xrays = subject.choose(dataset, config.n_images)
        measured = subject.Subject(config, mae, xrays, subject.parted(dataset, xrays), accelerator, Path(folder))
        found = machine.describe(measured)
        told = machine.sentence(found, measured)
        run.tags(
            {"model": mae.source, "data": dataset.name} | {f"machine.{name}": value for name, value in found.items()}
        )
        run.note(f"{told}.")
        click.echo(report.header(f"{told}."))
        outcome = Outcome()
        for part in benchmark.measure(measured):
            click.echo(report.rows(part))
            outcome.add(part)
        click.echo(f"\n{report.footer(outcome)}")
        run.findings(report.findings(outcome, found, config.model_dump()))


if __name__ == "__main__":
    main()
