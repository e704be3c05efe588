"""The whole chain: baseline, fine-tuning, classifier, evaluation, each a child run of one parent."""

from entrypoints import entry_point
from fracture_mae.config import Main


@entry_point(Main)
def main(config: Main) -> None:
    import click

    from fracture_mae.stages import chain
    from fracture_mae.tracking import runs

    with runs.run("main", config, chain.name_of(config)) as run:
        shared = config.shared()
        steps = chain.Chain(run, config.env_manager)
        steps.run("reconstruct_baseline", shared | {"model": config.model})
        training = shared | {"recipe": config.recipe, "nproc": config.nproc}
        mae = steps.run("finetune_mae", training | {"model": config.model, "epochs": config.mae_epochs})
        classifier = steps.run(
            "train_classifier", training | {"encoder": mae.registered, "epochs": config.classifier_epochs}
        )
        judged = steps.run("evaluate", shared | {"classifier": classifier.registered, "n_draws": config.n_draws})
        run.metrics(judged.metrics)
        run.tags({"registered": classifier.registered, "promotion": judged.tags["promotion"]})
        verdict = f"{classifier.registered}, {judged.tags['promotion']}"
        run.note(f"The whole chain with **{config.model}**, recipe `{config.recipe}`: {verdict}.")
        click.echo(chain.summary(mae, judged))
        click.echo("Open the UI: mlflow ui --backend-store-uri sqlite:///mlflow.db   → http://127.0.0.1:5000")


if __name__ == "__main__":
    main()
