"""Train a fractured / not fractured classifier on the encoder."""

from entrypoints import entry_point
from fracture_mae.config import TrainClassifier


@entry_point(TrainClassifier)
def main(config: TrainClassifier) -> None:
    import click

    from fracture_mae import classification, evaluation, operating_points, pipeline, tracking
    from fracture_mae.prediction import predict
    from fracture_mae.training import make_accelerator

    with tracking.run("train_classifier", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        mae = pipeline.load_mae(config.encoder, config)
        dataset = pipeline.load_data(config, mae.image_size)
        run.dataset(dataset)
        run.tags({"encoder": mae.source} | pipeline.check_encoder_split(config.encoder, dataset))
        run.note(
            f"Classifier on the encoder of **{mae.source}**, recipe `{config.recipe}`. {pipeline.describe(dataset)}"
        )

        classifier = classification.build(mae, config)
        with pipeline.open_checkpoints(classifier, dataset, config, run) as checkpoints:
            progress = classification.train(
                classifier, dataset, config, accelerator=accelerator, checkpoints=checkpoints, log=run.metrics
            )
            run.training(progress)
            predictions = predict(classifier, dataset.validation, batch_size=config.batch_size, accelerator=accelerator)
            decision = classification.decide(predictions, config, dataset)
            run.metrics({"threshold": decision.threshold, "temperature": decision.temperature})
            run.tags({"calibration": config.calibrate})
            certainty = evaluation.Certainty(n_draws=1000, seed=config.seed)
            remark = evaluation.remark_on(dataset.leakage)
            findings = evaluation.judge_split(predictions, decision, "validation", remark, certainty)
            validation = {"validation": predictions}
            findings.add(operating_points.judge(validation, decision, config, remark, certainty))
            run.findings(findings)
            version = pipeline.register_classifier(classifier, decision, dataset, config, run)
            checkpoints.remove()
        click.echo(evaluation.digest(findings, ["validation"]).to_string())
        click.echo(operating_points.digest(findings, "validation"))
        click.echo(f"registered as models:/fracture-classifier/{version}, alias challenger")


if __name__ == "__main__":
    main()
