"""Judge a registered classifier on every split, beside two references."""

from entrypoints import entry_point
from fracture_mae.config import Evaluate


@entry_point(Evaluate)
def main(config: Evaluate) -> None:
    from dataclasses import replace

    import click

    from fracture_mae.evaluation import judging, operating_points
    from fracture_mae.stages import evaluate, inputs, promote
    from fracture_mae.tracking import runs
    from fracture_mae.training.trainer import make_accelerator

    with runs.run("evaluate", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        subject = evaluate.load(config)
        dataset = inputs.load_data(config, subject.classifier.image_size)
        subject.check(dataset)
        dataset = replace(dataset, leakage=subject.leakage(dataset))  # what this classifier was shown counts too
        run.dataset(dataset)
        run.tags({"classifier": subject.name, "threshold": subject.decision.threshold})
        note = f"Judging **{subject.name}** at threshold {subject.decision.threshold:.3f}. {inputs.describe(dataset)}"
        run.note(note)

        findings = evaluate.judge(subject, dataset, config, accelerator)
        run.report(findings)
        warning = evaluate.shortcut_warning(findings)
        run.note(f"{note} Shortcut warning: {warning}.")
        verdict = promote.consider(subject, findings, dataset, config, accelerator)
        promote.carry_out(verdict, subject, findings, dataset, run.id)
        run.report(verdict.findings())
        run.tags(verdict.tags() | {"shortcut_warning": warning})
        click.echo(judging.digest(findings, judging.SPLITS).to_string())
        click.echo(f"{operating_points.digest(findings, 'test')}\nshortcut warning: {warning}\n{verdict}")


if __name__ == "__main__":
    main()
