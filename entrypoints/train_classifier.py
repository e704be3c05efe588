"""Train a fractured / not fractured classifier on the encoder."""

from entrypoints import entry_point
from fracture_mae.config import TrainClassifier


@entry_point(TrainClassifier)
def main(config: TrainClassifier) -> None:
    import click

    from fracture_mae.evaluation import judging, operating_points
    from fracture_mae.processes import collectives, ranks
    from fracture_mae.stages import cross_validate, inputs, train_classifier
    from fracture_mae.tracking import runs
    from fracture_mae.training import learning_curves
    from fracture_mae.training.trainer import make_accelerator

    with runs.run("train_classifier", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        mae = inputs.load_mae(config.encoder, config)
        dataset = inputs.load_training_data(config, mae.image_size)
        run.dataset(dataset)
        encoder_split = inputs.check_encoder_split(config.encoder, dataset)
        run.tags({"encoder": mae.source} | encoder_split)
        run.note(f"Classifier on the encoder of **{mae.source}**, recipe `{config.recipe}`. {inputs.describe(dataset)}")

        folds = cross_validate.train_folds(mae, dataset, config, accelerator=accelerator, run=run)
        if folds and ranks.is_first():
            click.echo(cross_validate.report(folds, config, encoder_split["encoder.split"], run))

        classifier = train_classifier.build(mae, config)
        with inputs.open_checkpoints(classifier, dataset, config, run) as checkpoints:
            options = {"accelerator": accelerator, "checkpoints": checkpoints, "log": run.metrics}
            choice = train_classifier.train_and_choose(classifier, dataset, config, **options)
            if not collectives.goes_on_alone():
                return
            run.report(learning_curves.report(choice.progress))
            decision = choice.decision
            run.metrics({"threshold": decision.threshold, "temperature": decision.temperature})
            run.tags({"calibration": config.calibrate})
            certainty = judging.Certainty(n_draws=1000, seed=config.seed)
            remark = judging.remark_on(dataset.leakage)
            predictions = inputs.weighed(choice.predictions, dataset.validation, config)
            findings = judging.judge_split(predictions, decision, "validation", remark, certainty)
            validation = {"validation": predictions}
            findings.add(operating_points.judge(validation, decision, config, remark, certainty))
            run.report(findings)
            version = inputs.register_classifier(classifier, decision, dataset, config, run)
            checkpoints.remove()
        for fold in folds:
            fold.forget()
        click.echo(judging.digest(findings, ["validation"]).to_string())
        click.echo(operating_points.digest(findings, "validation"))
        click.echo(f"registered as models:/fracture-classifier/{version}, alias challenger")


if __name__ == "__main__":
    main()
