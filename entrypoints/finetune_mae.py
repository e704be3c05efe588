"""Fine-tune the masked autoencoder on X-rays."""

from entrypoints import entry_point
from fracture_mae.config import FinetuneMae


@entry_point(FinetuneMae)
def main(config: FinetuneMae) -> None:
    import click
    import pandas as pd

    from fracture_mae.processes import collectives
    from fracture_mae.stages import finetune, inputs
    from fracture_mae.tracking import runs
    from fracture_mae.training import learning_curves
    from fracture_mae.training.trainer import make_accelerator

    with runs.run("finetune_mae", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        mae = inputs.load_mae(config.model, config)
        dataset = inputs.load_training_data(config, mae.image_size)
        run.dataset(dataset)
        run.tags({"model": mae.source})
        run.note(f"Fine-tuning **{mae.source}**, recipe `{config.recipe}`. {inputs.describe(dataset)}")

        with inputs.open_checkpoints(mae, dataset, config, run) as checkpoints:
            before = inputs.measure_reconstruction(mae, dataset, config, accelerator)
            run.metrics(inputs.flat(before, "baseline/"))
            examples = inputs.Examples(dataset, config, accelerator)
            examples.rebuild(mae, "baseline")
            progress = finetune.finetune(
                mae, dataset, config, accelerator=accelerator, checkpoints=checkpoints, log=run.metrics
            )
            after = inputs.measure_reconstruction(mae, dataset, config, accelerator)
            if not collectives.goes_on_alone():
                return
            run.report(learning_curves.report(progress))
            run.metrics(inputs.flat(after))
            examples.rebuild(mae, "fine-tuned")
            run.figures(examples.figures())
            results = pd.concat({"baseline": before, "fine-tuned": after}, names=["model"])
            run.table(results, "reconstruction.csv", index=True)
            version = inputs.register_mae(mae, dataset, config, run)
            checkpoints.remove()
        click.echo(f"{results.round(4).to_string()}\nregistered as models:/xray-mae/{version}")


if __name__ == "__main__":
    main()
