"""An audit as a page to read, `report.html`: copies, leakage, shortcuts, what a leaky split would claim, and how to repeat it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

import pandas as pd

from fracture_mae.audit import report
from fracture_mae.audit.honesty import FoundCopies, Honesty
from fracture_mae.config import AuditData
from fracture_mae.config.command_line import mlflow_run
from fracture_mae.data.types import Files
from fracture_mae.pages import Block, Picture, Prose, Section, Table, render
from fracture_mae.tracking import lineage
from fracture_mae.tracking.report import Report

FILE = "report.html"
_MOST_ROWS = 20  # of tables as long as the data


@dataclass(frozen=True)
class Audit:
    """All that an audit found.

    Attributes:
        found: its tables and figures.
        told: sentences on boxes, markers and overlays.
    """

    copies: FoundCopies
    files: Files
    fingerprint: str
    honesty: Honesty
    found: Report
    told: tuple[str, ...]


def page(audit: Audit, config: AuditData, run_id: str) -> str:
    """The page as HTML."""
    sections = [
        Section("What was asked", _asked(audit, config, run_id)),
        Section("How many X-rays", _copies(audit)),
        Section("Leakage between published splits", _leakage(audit)),
        Section("Labels in conflict", _conflicts(audit)),
        Section("What a leaky split would claim", _claims(audit)),
        Section("What the label can be guessed from", _shortcuts(audit)),
        Section("Boxes, markers and overlays", _marks(audit)),
        Section("Links to be checked by eye", _pictures(audit, "linked_pairs.png")),
        Section("Rejected files", [_longest(audit, "rejected.csv", "Files that could not be used")]),
        Section("How to repeat it", [Prose(lineage.repeated(run_id, mlflow_run("audit_data", config)))]),
    ]
    return render(f"Audit of {audit.copies.name}", report.note(audit.copies, audit.honesty), sections)


def _asked(audit: Audit, config: AuditData, run_id: str) -> list[Block]:
    rows = {
        "Data": f"{audit.copies.name} (fingerprint {audit.fingerprint})",
        "Classes": " and ".join(audit.files.label_names),
        "Files": f"{len(audit.copies.table):,} readable, {len(audit.files.rejected):,} rejected",
        "Preprocessed by": config.preprocess,
        "Folds": str(config.n_folds),
        "Seed": str(config.seed),
        "Run": run_id,
        "Written": f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC",
    }
    return [Table(pd.DataFrame({"asked": rows.keys(), "answer": rows.values()}), sortable=False)]


def _copies(audit: Audit) -> list[Block]:
    after = pd.DataFrame(audit.copies.grouping.counts.items(), columns=["after joining by", "independent X-rays"])
    largest = audit.copies.sizes[audit.copies.sizes["files"] > 1].reset_index(names="X-ray").head(_MOST_ROWS)
    largest["X-ray"] = largest["X-ray"].str[:12]
    return [
        Table(
            _named(audit.found.tables["independent_xrays.csv"]),
            "Files, different contents and independent X-rays, and the files of the largest",
        ),
        Table(after, "Independent X-rays, piece of evidence by piece of evidence"),
        *_pictures(audit, "group_sizes.png"),
        Table(largest, f"The X-rays with most files, at most {_MOST_ROWS}; groups.csv has all"),
        *_pictures(audit, "largest_groups.png"),
    ]


def _leakage(audit: Audit) -> list[Block]:
    told = report.leaks(audit.copies)
    blocks: list[Block] = [Prose(f"{told[0].upper()}{told[1:]}.")]
    table = audit.found.tables.get("leakage.csv")
    if table is not None:
        shares = {name: table[name].map("{:.1%}".format) for name in table if name.startswith("share")}
        blocks.append(
            Table(table.assign(**shares), "Files of the first split whose content or X-ray stands in the other too")
        )
    return [*blocks, *_pictures(audit, "leakage.png")]


def _conflicts(audit: Audit) -> list[Block]:
    metrics = audit.found.metrics
    n_xrays, n_files = (metrics[f"label_conflicts/n_{unit}"] for unit in ("xrays", "files"))
    return [
        Prose(f"{n_xrays:,} X-rays ({n_files:,} files) stand under both labels; other entry points set them aside."),
        _longest(audit, "label_conflicts.csv", "Files of X-rays that stand under both labels", ["group", "sha256"]),
    ]


def _claims(audit: Audit) -> list[Block]:
    rows = report.scores(audit.honesty).rename_axis("what").reset_index()
    return [
        Prose(
            "The same classifier, the same files, other splits; and the label told from what is no bone. 95 % intervals."
        ),
        Table(rows, "AUROC"),
        *_pictures(audit, "leaky_vs_honest.png"),
    ]


def _shortcuts(audit: Audit) -> list[Block]:
    warning = audit.honesty.probe.warning_or_none
    return [
        Prose(f"Shortcut warning: {warning}."),
        *_pictures(audit, "shortcuts.png"),
        Table(_named(audit.found.tables["shortcut_properties.csv"]), "Properties of files, and what each is worth"),
    ]


def _marks(audit: Audit) -> list[Block]:
    sentences = "\n".join(f"- {told.splitlines()[0]}" for told in audit.told)
    return [
        Prose(sentences),
        *_pictures(audit, "boxes.png"),
        _longest(audit, "same_marker.csv", "Different X-rays with the same marker"),
        *_pictures(audit, "same_marker.png"),
        Table(_named(audit.found.tables.get("overlays_by_source.csv", pd.DataFrame())), "Overlays by label and source"),
        *_pictures(audit, "overlays.png"),
    ]


def _longest(audit: Audit, path: str, what: str, without: list[str] | None = None) -> Table:
    """The first rows of a table that may be as long as the data; paths by their last three parts."""
    table = audit.found.tables.get(path, pd.DataFrame()).drop(columns=without or [])
    shown = table.head(_MOST_ROWS)
    places = {name: shown[name].map(_end_of) for name in ("path", "a", "b") if name in shown}
    more = f"; the first {_MOST_ROWS} of {len(table):,}, {path} has all" if len(table) > _MOST_ROWS else ""
    return Table(_named(shown.assign(**places)), f"{what}{more}")


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """With columns that are named for readers."""
    words = {"xrays": "X-rays", "marked_xrays": "marked X-rays", "auroc_alone": "AUROC alone", "label_name": "label"}
    return table.rename(columns=lambda name: words.get(name, name.replace("_", " ")))


def _end_of(path: str) -> str:
    return "/".join(PurePath(path).parts[-3:])


def _pictures(audit: Audit, name: str) -> list[Block]:
    figure = audit.found.figures.get(name)
    return [] if figure is None else [Picture.of(figure, f"Figure {name} of the audit")]
