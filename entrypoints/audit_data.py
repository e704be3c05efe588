"""Show how honest a data set is: copies, leakage, label conflicts, shortcuts, and what a leaky split would claim."""

from entrypoints import entry_point
from fracture_mae.config import AuditData


@entry_point(AuditData)
def main(config: AuditData) -> None:
    import click

    from fracture_mae.audit import honesty, leakage, report
    from fracture_mae.data import loading
    from fracture_mae.evaluation.judging import Certainty
    from fracture_mae.tracking import runs

    with runs.run("audit_data", config) as run:
        files = loading.read_files(
            config.data_dir,
            image_size=224 if config.image_size == "auto" else config.image_size,
            positive_label=config.positive_label,
            num_workers=config.num_workers or None,
        )
        copies = honesty.find_copies(files, config.num_workers or None)
        fingerprint = loading.fingerprint(leakage.usable(copies.table))
        run.input(copies.table, copies.name, "audit")
        run.tags(report.tags(copies, files, fingerprint))
        run.note(report.note(copies))
        run.report(honesty.show_copies(copies, files))
        click.echo(report.summary(copies, files))

        honesty = honesty.judge(copies, files, config.n_folds, Certainty(config.n_draws, config.seed))
        run.report(honesty.show_honesty(honesty, copies))
        run.tags({"shortcut_warning": honesty.probe.warning or "none"})
        run.note(report.note(copies, honesty))
        run.json(report.document(copies, files, fingerprint, honesty, config.model_dump()), "audit.json")
        click.echo(report.verdict(honesty))


if __name__ == "__main__":
    main()
