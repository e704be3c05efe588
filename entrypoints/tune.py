"""Search class weight, threshold and more with Optuna; register the best."""

from entrypoints import entry_point
from fracture_mae.config import Tune


@entry_point(Tune)
def main(config: Tune) -> None:
    import click

    from fracture_mae import pipeline, tracking
    from fracture_mae.training import make_accelerator
    from fracture_mae.tuning.session import open_database, tune

    with tracking.run("tune", config) as run:
        storage = open_database(config)
        accelerator = make_accelerator(config.precision, config.device)
        mae = pipeline.load_mae(config.encoder, config)
        dataset = pipeline.load_data(config, mae.image_size)
        run.dataset(dataset)
        run.tags({"encoder": mae.source} | pipeline.check_encoder_split(config.encoder, dataset))
        run.note(
            f"Tuning for **{config.objective}**, depth `{config.depth}`, on the encoder of **{mae.source}**. "
            f"{pipeline.describe(dataset)}"
        )
        click.echo(tune(mae, dataset, config, storage=storage, accelerator=accelerator, run=run))


if __name__ == "__main__":
    main()
