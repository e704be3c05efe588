"""Rebuild masked X-rays with the weights a model comes with."""

from entrypoints import entry_point
from fracture_mae.config import ReconstructBaseline


@entry_point(ReconstructBaseline)
def main(config: ReconstructBaseline) -> None:
    import click

    from fracture_mae.stages import inputs
    from fracture_mae.tracking import runs
    from fracture_mae.training.trainer import make_accelerator

    with runs.run("reconstruct_baseline", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        mae = inputs.load_mae(config.model, config)
        dataset = inputs.load_data(config, mae.image_size)
        run.dataset(dataset)
        run.tags({"model": mae.source})
        run.note(f"Rebuilding X-rays with **{mae.source}**, as it comes. {inputs.describe(dataset)}")

        results = inputs.measure_reconstruction(mae, dataset, config, accelerator)
        run.metrics(inputs.flat(results))
        run.table(results, "reconstruction.csv", index=True)
        examples = inputs.Examples(dataset, config, accelerator)
        examples.rebuild(mae, "baseline")
        run.figures(examples.figures())
        click.echo(results.round(4).to_string())


if __name__ == "__main__":
    main()
