"""How honest a data set is: its copies, what leaks between its splits, what the label can be guessed from, what a leak is worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracture_mae.audit import claims, evidence, examples, figures, folds, leakage, shortcuts
from fracture_mae.audit.evidence import Grouping
from fracture_mae.audit.folds import Score
from fracture_mae.audit.shortcuts import ShortcutProbe
from fracture_mae.data import loading
from fracture_mae.data.copies import groups
from fracture_mae.data.types import Files
from fracture_mae.evaluation import properties, references
from fracture_mae.evaluation.judging import slug
from fracture_mae.plots import heading
from fracture_mae.tracking.report import Report

_IN_GROUPS = ["path", "sha256", "label_name", "split_published", "group", "group_files", "group_contents", "patient"]


@dataclass(frozen=True)
class FoundCopies:
    """What was made from what.

    Attributes:
        table: every readable file, with its groups and source.
        grouping: how the groups came about.
        links: those that a person may check, see `evidence.describe`.
        sizes: of the groups, the largest first.
    """

    name: str
    table: pd.DataFrame
    grouping: Grouping
    links: pd.DataFrame
    sizes: pd.DataFrame

    @property
    def title(self) -> str:
        return heading(self.name, "", len(self.table), len(self.sizes))


@dataclass(frozen=True)
class Honesty:
    """What the label can be guessed from, and what one classifier is worth by each kind of split: name → level → score.

    Attributes:
        preprocess: how the pictures became the squares that were looked at.
    """

    probe: ShortcutProbe
    claims: dict[str, dict[str, Score]]
    preprocess: str


def find_copies(files: Files, num_workers: int | None) -> FoundCopies:
    """Join the files made from one X-ray, by all evidence that there is."""
    links = loading.find_links(files.table, num_workers)
    named = loading.find_named_links(files.table, links, num_workers)
    grouping = evidence.join(files.table, links, named)
    table = grouping.table
    table = table.assign(source=groups.source_of(table["path"], table["group"], given=table["given_source"]))
    return FoundCopies(
        files.name, table, grouping, evidence.describe(grouping, pd.concat([links, named])), leakage.group_sizes(table)
    )


def show_copies(copies: FoundCopies, files: Files) -> Report:
    """Tables, numbers and figures of copies and of what leaks between published splits."""
    table, sizes = copies.table, copies.sizes
    between = leakage.between_splits(table)
    conflicts = leakage.label_conflicts(table)
    found = Report(
        metrics=_counts(copies, files, conflicts) | _leakage_metrics(between),
        tables={
            "groups.csv": _groups_table(table, sizes),
            "links.csv": copies.links,
            "independent_xrays.csv": leakage.independent_xrays(table),
            "label_conflicts.csv": conflicts[
                ["path", "sha256", "label_name", "split_published", "group", "conflict", "set_aside"]
            ],
            "rejected.csv": files.rejected,
        },
        figures={"group_sizes.png": figures.group_sizes(sizes, f"Files of one X-ray · {copies.title}")},
    )
    if len(between):
        found.tables["leakage.csv"] = between
        found.figures["leakage.png"] = figures.leakage_matrix(
            between, leakage.splits_in(table), f"Leakage between published splits · {copies.title}"
        )
    rows = examples.largest_groups(table, sizes, lambda row: files.pixels[row])
    if rows:
        found.figures["largest_groups.png"] = figures.contact_sheet(rows, f"The X-rays with most files · {copies.name}")
    pairs = list(examples.examples(examples.choose(copies.links), loading.read_picture)) if len(copies.links) else []
    if pairs:  # of what columns alone join, such as X-rays of one patient, nothing is drawn
        found.figures["linked_pairs.png"] = figures.linked_pairs(
            pairs, f"The weakest links, to be checked by eye · {copies.name}"
        )
    return found


def judge(copies: FoundCopies, files: Files, n_folds: int, seed: int) -> Honesty:
    """Probe for shortcuts on the files that other entry points use, and compare splits on all.

    Raises:
        FractureMaeError: a label has fewer X-rays than there are folds.
    """
    used = leakage.usable(copies.table)
    used = used.assign(group=folds.one_label_each(used))
    folds.check_enough(used, n_folds)
    xrays = files.xrays(used)
    of_file = properties.of_files(xrays, "File properties")
    probe = shortcuts.probe(used, of_file, properties.visible(xrays, "Visible properties"), n_folds, seed)
    contents = files.xrays(copies.table.drop_duplicates("sha256"))
    features = references.gradient_histograms(contents, "Gradient histograms")
    row = pd.Index(contents.table["sha256"]).get_indexer(copies.table["sha256"])
    return Honesty(probe, claims.compare(copies.table, features[row], n_folds, seed), files.preprocess)


def show_honesty(honesty: Honesty, copies: FoundCopies) -> Report:
    """Tables, numbers and figures of shortcuts and claims."""
    probe = honesty.probe
    preprocessed = f"preprocess={honesty.preprocess} · {copies.title}"
    scores = {f"shortcut/{slug(name)}": levels for name, levels in probe.scores.items()} | honesty.claims
    rows = [_as_row(name, *level) for name, levels in scores.items() for level in levels.items()]
    return Report(
        metrics={key: value for name, levels in scores.items() for key, value in _score_metrics(name, levels).items()},
        tables={
            "shortcut_properties.csv": probe.properties,
            "scores.csv": pd.DataFrame(rows),
        },
        figures={
            "shortcuts.png": figures.shortcuts(probe, f"What the label can be guessed from · {preprocessed}"),
            "leaky_vs_honest.png": figures.leaky_vs_honest(
                honesty.claims,
                f"The same classifier, the same files, other splits\n{preprocessed}",
            ),
        },
    )


def _groups_table(table: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """A row per file; content_group, xray, group and patient tell what content, names and a CSV's columns joined, each step by step."""
    sizes = sizes[["files", "contents"]].add_prefix("group_")
    named = table.join(sizes, on="group").sort_values(["group_files", "group", "path"], ascending=[False, True, True])
    return named[[*_IN_GROUPS, "content_group", "xray", "source"]].rename(
        columns={"label_name": "label", "split_published": "split"}
    )


def _counts(copies: FoundCopies, files: Files, conflicts: pd.DataFrame) -> dict[str, float]:
    return {
        "n_files": len(copies.table),
        "n_contents": copies.table["sha256"].nunique(),
        "n_xrays": len(copies.sizes),
        "n_rejected": len(files.rejected),
        "n_links": len(copies.links),
        "label_conflicts/n_xrays": conflicts["xray"].nunique(),
        "label_conflicts/n_files": len(conflicts),
        **{f"n_groups/{slug(name)}": n for name, n in copies.grouping.counts.items()},
    }


def _leakage_metrics(between: pd.DataFrame) -> dict[str, float]:
    return {
        f"leakage/{row['split']}_in_{row['other']}/{slug(unit)}": row[f"share, {unit}"]
        for _, row in between.iterrows()
        for unit in (name.removeprefix("share, ") for name in between if name.startswith("share, "))
    }


def _score_metrics(name: str, levels: dict[str, Score]) -> dict[str, float]:
    """`NAME/auroc` of files and `NAME/xray/auroc` of X-rays, with their intervals."""
    values = {}
    for level, score in levels.items():
        place = f"{name}/xray" if level == "xray" else name
        values |= {f"{place}/auroc": score.auroc, f"{place}/auroc_low": score.low, f"{place}/auroc_high": score.high}
    return {key: value for key, value in values.items() if np.isfinite(value)}


def _as_row(name: str, level: str, score: Score) -> dict[str, object]:
    counts = {"n_files": score.n_files, "n_xrays": score.n_xrays}
    return {"name": name, "level": level, "auroc": score.auroc, "low": score.low, "high": score.high, **counts}
