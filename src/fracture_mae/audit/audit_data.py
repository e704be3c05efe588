"""The audit of a data set, from its files to what a leaky split would claim."""

from collections.abc import Iterator

from fracture_mae.audit import exposures, honesty, leakage, overlays, page, places, report
from fracture_mae.config import AuditData
from fracture_mae.data import loading
from fracture_mae.tracking.report import Report
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
    found = honesty.show_copies(copies, files)
    run.report(found)
    yield report.summary(copies, files)

    told = [places.sentence(copies.table)]
    _add(found, places.show(copies.table, files), run)
    yield told[-1]

    further = exposures.find(copies.table, config.num_workers or None)
    _add(found, exposures.show(further, copies.table, copies.name, loading.read_picture), run)
    told.append(exposures.sentence(further))
    yield told[-1]

    marks = overlays.find(copies.table, loading.read_picture, config.num_workers or None)
    _add(found, overlays.show(marks, copies.name, loading.read_picture), run)
    told.append(overlays.sentence(marks))
    yield told[-1]

    judged = honesty.judge(copies, files, config.n_folds, config.seed)
    _add(found, honesty.show_honesty(judged, copies), run)
    run.tags({"shortcut_warning": judged.probe.warning_or_none})
    run.note(f"{report.note(copies, judged)}\n\nTo read: {run.link(page.FILE)}")
    run.json(report.document(copies, files, fingerprint, further, marks, judged, config.model_dump()), "audit.json")
    run.text(page.page(page.Audit(copies, files, fingerprint, judged, found, tuple(told)), config, run.id), page.FILE)
    yield f"{report.verdict(judged)}\nto read: {run.place_of(page.FILE)}"


def _add(found: Report, further: Report, run: Run) -> None:
    """Log it at once, and keep it for the page."""
    run.report(further)
    found.add(further)
