"""The audit of a data set, from its files to what a leaky split would claim."""

from collections.abc import Iterator

from fracture_mae.audit import exposures, honesty, leakage, overlays, places, report
from fracture_mae.config import AuditData
from fracture_mae.data import loading
from fracture_mae.tracking.runs import Run


def audit_data(config: AuditData, run: Run) -> Iterator[str]:
    """Log copies, leakage and shortcuts; what was found, to print as soon as it is known."""
    files = loading.read_files(
        config.data_dir,
        image_size=224 if config.image_size == "auto" else config.image_size,
        preprocess=config.preprocess,
        positive_label=config.positive_label,
        num_workers=config.num_workers or None,
        boxes=config.boxes,
    )
    copies = honesty.find_copies(files, config.num_workers or None)
    fingerprint = loading.fingerprint(leakage.usable(copies.table))
    run.input(copies.table, copies.name, "audit")
    run.tags(report.tags(copies, files, fingerprint))
    run.note(report.note(copies))
    run.report(honesty.show_copies(copies, files))
    yield report.summary(copies, files)

    run.report(places.show(copies.table, files))
    yield places.sentence(copies.table)

    further = exposures.find(copies.table, config.num_workers or None)
    run.report(exposures.show(further, copies.table, copies.name, loading.read_picture))
    yield exposures.sentence(further)

    marks = overlays.find(copies.table, loading.read_picture, config.num_workers or None)
    run.report(overlays.show(marks, copies.name, loading.read_picture))
    yield overlays.sentence(marks)

    judged = honesty.judge(copies, files, config.n_folds, config.seed)
    run.report(honesty.show_honesty(judged, copies))
    run.tags({"shortcut_warning": judged.probe.warning_or_none})
    run.note(report.note(copies, judged))
    run.json(report.document(copies, files, fingerprint, further, marks, judged, config.model_dump()), "audit.json")
    yield report.verdict(judged)
