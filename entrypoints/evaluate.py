"""Judge a registered classifier on every split, beside two references."""

from entrypoints import entry_point
from fracture_mae.config import Evaluate


@entry_point(Evaluate)
def main(config: Evaluate) -> None:
    from dataclasses import replace

    import click

    from fracture_mae import assessment, evaluation, pipeline, tracking
    from fracture_mae.training import make_accelerator

    with tracking.run("evaluate", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        subject = assessment.load(config)
        dataset = pipeline.load_data(config, subject.classifier.image_size)
        subject.check(dataset)
        dataset = replace(dataset, leakage=subject.leakage(dataset))  # what this classifier was shown counts too
        run.dataset(dataset)
        run.tags({"classifier": subject.name, "threshold": subject.decision.threshold})
        note = f"Judging **{subject.name}** at threshold {subject.decision.threshold:.3f}. {pipeline.describe(dataset)}"
        run.note(note)

        findings = assessment.judge(subject, dataset, config, accelerator)
        run.findings(findings)
        warning = assessment.shortcut_warning(findings)
        run.note(f"{note} Shortcut warning: {warning}.")
        verdict = assessment.promote(subject, findings, dataset, config.promote)
        run.tags({"promotion": verdict, "shortcut_warning": warning})
        click.echo(evaluation.digest(findings, evaluation.SPLITS).to_string())
        click.echo(f"shortcut warning: {warning}\n{verdict}")


if __name__ == "__main__":
    main()
