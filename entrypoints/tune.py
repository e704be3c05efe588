"""Search class weight, threshold and more with Optuna; register the best."""

from entrypoints import entry_point
from fracture_mae.config import Tune


@entry_point(Tune)
def main(config: Tune) -> None:
    import click

    from fracture_mae.stages import inputs
    from fracture_mae.tracking import runs
    from fracture_mae.training.trainer import make_accelerator
    from fracture_mae.tuning.worker import open_database, tune

    with runs.run("tune", config) as run:
        storage = open_database(config)
        accelerator = make_accelerator(config.precision, config.device)
        mae = inputs.load_mae(config.encoder, config)
        dataset = inputs.load_data(config, mae.image_size)
        run.dataset(dataset)
        run.tags({"encoder": mae.source} | inputs.check_encoder_split(config.encoder, dataset))
        run.note(
            f"Tuning for **{config.objective}**, depth `{config.depth}`, on the encoder of **{mae.source}**. "
            f"{inputs.describe(dataset)}"
        )
        click.echo(tune(mae, dataset, config, storage=storage, accelerator=accelerator, run=run))


if __name__ == "__main__":
    main()
