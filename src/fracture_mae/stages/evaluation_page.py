"""An evaluation as a page to read, `report.html`: what was asked, what came out and how certain it is, X-rays, and how to repeat it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pandas as pd

from fracture_mae import plots
from fracture_mae.config import Evaluate
from fracture_mae.config.command_line import mlflow_run
from fracture_mae.evaluation import (
    accepted,
    calibration,
    gallery,
    hiding,
    judging,
    operating_points,
    place,
    references,
    training_seeds,
    usefulness,
)
from fracture_mae.evaluation import subgroups as evaluated_subgroups
from fracture_mae.evaluation.judging import CLASSIFIER, levels, per_file, with_ends
from fracture_mae.pages import Block, Folded, Picture, Prose, Section, Table, render
from fracture_mae.stages.model_card import measured, origin
from fracture_mae.stages.model_card.facts import Facts
from fracture_mae.stages.model_card.markdown import code, words
from fracture_mae.tracking import lineage

FILE = "report.html"
_REFUSED = {
    "n_files": "files",
    "n_refused": "files refused",
    "share_of_files": "share of files",
    "n_xrays": "X-rays",
    "n_xrays_refused": "X-rays refused wholly",
}
_OF_ALL = ["all_estimate", "all_low", "all_high"]
_ASKED = ("seed", "n_draws", "subgroups", "prevalence", "cost_false_negative", "cost_false_positive", "assurance")


def page(facts: Facts, config: Evaluate, card: str) -> str:
    """The page as HTML.

    Args:
        facts: with the report of the promotion.
        config: what was asked.
        card: the model card, Markdown.
    """
    sections = [Section(title, write(facts)) for title, write in _SECTIONS.items()]
    sections += [Section("Model card", [Folded("The whole card", _without_title(card))])]
    sections += [Section("How to repeat it", _repeated(facts, config))]
    sections.insert(0, Section("What was asked", _asked(facts, config)))
    return render(f"{facts.loaded.name}, judged on {facts.dataset.name}", summary(facts), sections)


def summary(facts: Facts) -> str:
    """What came out, in a sentence, and what must be said beside it; Markdown."""
    report, split = facts.report, _split(facts)
    found = report.tables[f"{split}/xray/metrics.csv"].set_index("metric")
    rows = levels(report.tables[f"{split}/predictions.csv"])["xray"]
    n_fractured = int(rows["label"].sum())
    _, positive = facts.loaded.decision.label_names
    told = [
        f"On {len(rows):,} X-rays of {_place(split)}, {n_fractured:,} of them {code(positive)}, it reaches an **AUROC of "
        f"{with_ends(found.loc['auroc'])}**, a sensitivity of {with_ends(found.loc['sensitivity'])} and a specificity of "
        f"{with_ends(found.loc['specificity'])} (per X-ray, 95 % intervals)"
    ]
    compared = report.tables.get(f"{split}/comparison.csv")
    if compared is not None:
        others = compared[(compared["source"] == "all") & (compared["model"] != CLASSIFIER)]
        told += [f"AUROC of {row['model']}: {with_ends(row)}" for _, row in others.iterrows()]
    lines = ["; ".join(told) + "."]
    if facts.dataset.leakage:
        lines.append(f"**LEAKY: {facts.dataset.leakage}.**")
    warning = str(report.tags.get("shortcut_warning", ""))
    if warning and warning != "none":
        lines.append(f"Shortcut warning: {warning}.")
    return "\n\n".join([*lines, origin.MUST_NOT])


def _split(facts: Facts) -> str:
    return facts.dataset.test.name


def _place(split: str) -> str:
    return "another collection" if split == "external" else split


def _asked(facts: Facts, config: Evaluate) -> list[Block]:
    loaded, dataset = facts.loaded, facts.dataset
    negative, positive = loaded.decision.label_names
    sizes = ", ".join(
        f"{side.name} {len(set(side.group)):,} X-rays ({len(side):,} files)" for side in dataset.sides if len(side)
    )
    rows = {
        "Classifier": loaded.name,
        "It tells": f"{positive} from {negative}, from a probability of {loaded.decision.threshold:.3f} on",
        "Data": f"{dataset.name} (fingerprint {dataset.fingerprint}), preprocessed by {dataset.preprocess}",
        "X-rays": sizes,
        "Split": config.split,
        "Of these shown to it before": str(dataset.leakage),
        "Rejected files": f"{len(dataset.rejected):,}",
        **{words(name): str(getattr(config, name)) for name in _ASKED},
        "Run": facts.run_id,
        "Written": f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC",
    }
    return [Table(pd.DataFrame({"asked": rows.keys(), "answer": rows.values()}), sortable=False)]


def _figures(facts: Facts) -> list[Block]:
    report, split = facts.report, _split(facts)
    files = per_file(levels(report.tables[f"{split}/predictions.csv"])["image"])
    by_level = {}
    for level, name in (("xray", "per X-ray"), ("image", files)):
        table = report.tables[f"{split}/{level}/metrics.csv"]
        by_level[name] = {words(row["metric"]): with_ends(row) for _, row in table.iterrows()}
    rows = pd.DataFrame(by_level).fillna("").rename_axis("metric").reset_index()
    classes = report.tables[f"{split}/xray/classification_report.csv"].rename(columns={"class": "per X-ray"})
    blocks: list[Block] = [
        Table(rows, f"On {split}, at its own threshold, with 95 % intervals"),
        Table(classes, f"Classification report on {split}, each X-ray once"),
        *_pictures(facts, "xray/confusion_matrix.png", "xray/roc.png"),
    ]
    if not facts.is_external:
        told = judging.digest(report, judging.SPLITS).reset_index().rename(columns=words)
        blocks.append(Table(told, "All splits; what it was trained and chosen on flatters it"))
    return blocks


def _references(facts: Facts) -> list[Block]:
    report, split = facts.report, _split(facts)
    told = Prose(f"Shortcut warning: {report.tags.get('shortcut_warning', 'not tested')}.")
    compared = report.tables.get(f"{split}/comparison.csv")
    if compared is None:
        return [told]
    rows = compared[["source", "model"]].assign(
        AUROC=[with_ends(row) for _, row in compared.iterrows()],
        **{"X-rays": compared["n_groups"], "fractured": compared["n_positive"], "files": compared["n_files"]},
    )
    differences = report.tables[f"{split}/comparison_differences.csv"]
    signed = differences[["source", "classifier minus"]].assign(
        difference=[
            plots.interval_text(*row, sign="+") for row in differences[["estimate", "low", "high"]].to_numpy(float)
        ]
    )
    return [
        Prose(
            f"Trained on the same X-rays, {references.FILE_PROPERTIES} see no bone, and gradient histograms know none: what a model "
            "adds over them is its worth."
        ),
        told,
        Table(rows, f"AUROC per X-ray on {split}"),
        Table(signed, f"How much higher the AUROC of the classifier is, on the same X-rays of {split}"),
        *_pictures(facts, "comparison.png"),
    ]


def _elsewhere(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Prose("\n".join(measured.elsewhere(facts)))]
    held_out = facts.of_training("held_out_sources/comparison.csv")
    if held_out is not None:
        rows = held_out[["model", "source"]].assign(
            AUROC=[plots.interval_text(*row) for row in held_out[["auroc", "auroc_low", "auroc_high"]].to_numpy(float)]
        )
        blocks.append(Table(rows, "Each source judged by models that never saw it, per X-ray"))
    folds = facts.of_training("cross_validation/xray/metrics.csv")
    if folds is not None:
        rows = pd.DataFrame(
            {"metric": folds["metric"].map(words), "out of fold": [with_ends(row) for _, row in folds.iterrows()]}
        )
        blocks.append(Table(rows, "Cross-validation of the training, pooled, per X-ray"))
    fall = facts.report.tables.get("external/fall.csv")
    if fall is not None:
        rows = pd.DataFrame(
            {"metric": fall["metric"].map(words), "its own test": fall["own"], "here": fall["elsewhere"]}
        )
        rows["fall"] = [plots.interval_text(*row, sign="+") for row in fall[["fall", "low", "high"]].to_numpy(float)]
        blocks.append(Table(rows, "From its own test to here, per X-ray"))
    drift = facts.report.tables.get("external/drift.csv")
    if drift is not None:
        rows = pd.DataFrame({"told by": drift["told by"], "AUROC": [with_ends(row) for _, row in drift.iterrows()]})
        blocks.append(Table(rows, "How well X-rays of its own training are told from these (alike: 0.5)"))
    return [*blocks, *_pictures(facts, "drift.png")]


def _gallery(facts: Facts) -> list[Block]:
    cards = facts.report.galleries.get(_split(facts), [])
    if not cards:
        return []
    told = (
        "One file of each X-ray, plain and under its map; answer and probability are those of this file. A cross marks the hottest "
        "patch, green a box around a fracture, where boxes are given. Small: the training X-rays nearest in what the head reads, with "
        "their distance: 1 is that of a training X-ray from the nearest other one, by the median; 0 is the same picture."
    )
    missing = facts.report.tags.get(f"{gallery.NEAREST}.{_split(facts)}")
    return [Prose(f"{told} **{missing}.**" if missing else told), *cards]


def _calibration(facts: Facts) -> list[Block]:
    table = facts.report.tables[f"{_split(facts)}/xray/calibration.csv"].set_index("metric")
    told = "\n".join(f"- {line}" for line in calibration.lines(table))
    return [Prose(f"In brackets what would be right.\n\n{told}"), *_pictures(facts, "xray/reliability.png")]


def _points(facts: Facts) -> list[Block]:
    report, split = facts.report, _split(facts)
    found = report.tables[f"{split}/xray/operating_points.csv"]
    document = report.documents[f"{split}/xray/operating_points.json"]
    rows = measured.points_table(found)
    for name, column in (("flagged per 1,000", "flagged_per_1000"), ("read per fracture", "read_per_fracture")):
        rows[name] = [f"{value:,.1f}" if pd.notna(value) else "undefined" for value in found[column]]
    prevalence, place_of_choice = found["prevalence"].iloc[0], document["chosen_on"]
    caption = f"On {split}, each X-ray once, at a prevalence of {prevalence:.1%}; thresholds chosen: {place_of_choice}"
    said = "\n".join(f"- {aim['said']}" for aim in document["aims"])
    served = operating_points.served(report, split)
    return [Table(rows, caption), Prose(served), Prose(said), *_pictures(facts, "xray/operating_points.png")]


def _use(facts: Facts) -> list[Block]:
    told = usefulness.digest(facts.report, _split(facts))
    return [Prose(told.replace("\n", "\n\n")), *_pictures(facts, "xray/decision_curve.png")]


def _subgroups(facts: Facts) -> list[Block]:
    found = facts.report.tables.get(f"{_split(facts)}/subgroups.csv")
    if found is None:
        return []
    warning = facts.report.tags.get(evaluated_subgroups.WARNING, "none")
    return [
        Table(
            measured.subgroups_table(found),
            f"On {_split(facts)}, each X-ray once; no interval: fewer than ten X-rays of a class",
        ),
        Prose(f"Subgroup warning: {warning}."),
        *_pictures(facts, "subgroups.png"),
    ]


def _where(facts: Facts) -> list[Block]:
    digests = (each.digest(facts.report, _split(facts)) for each in (place, hiding))
    told = [Prose(each.replace("\n", "\n\n").replace("  ", " ")) for each in digests if each]
    return [*told, *_pictures(facts, "places.png", "froc.png")]


def _like_its_own(facts: Facts) -> list[Block]:
    report, split = facts.report, _split(facts)
    told = accepted.digest(report, split)
    blocks: list[Block] = [Prose(told.replace("\n  ", "\n\n"))] if told else []
    by_source = report.tables.get(f"{split}/refused_by_source.csv")
    if by_source is not None:
        shown = by_source.rename(columns=_REFUSED)
        blocks.append(Table(shown, "Files that the gate refuses, by source"))
    measured = report.tables.get(f"{split}/accepted.csv")
    if measured is not None:
        rows = {
            "at accepted X-rays": [with_ends(row) for _, row in measured.iterrows()],
            "at all": [plots.interval_text(*row[_OF_ALL]) for _, row in measured.iterrows()],
        }
        table = pd.DataFrame({"metric": measured["metric"].map(words), **rows})
        blocks.append(Table(table, f"On {split}, per X-ray, at its own threshold"))
    return blocks


def _sizes(facts: Facts) -> list[Block]:
    told = str(facts.report.tags.get(f"sample_size.{_split(facts)}", ""))
    seeds = training_seeds.digest(facts.report, _split(facts))
    told = [Prose(f"{each[0].upper()}{each[1:]}.") for each in (told, seeds) if each]
    return [*told, *_pictures(facts, "xray/seeds.png")]


def _promotion(facts: Facts) -> list[Block]:
    told = str(facts.report.tags.get("promotion", ""))
    return [Prose(f"{told[0].upper()}{told[1:]}.")] if told else []


def _repeated(facts: Facts, config: Evaluate) -> list[Block]:
    line = mlflow_run("evaluate", config, classifier=facts.loaded.name)
    return [Prose(lineage.repeated(facts.run_id, line)), Prose("\n".join(origin.software(facts)))]


def _pictures(facts: Facts, *names: str) -> list[Block]:
    """Those figures of the split judged that there are."""
    split, figures = _split(facts), facts.report.figures
    return [
        Picture.of(figures[path], f"Figure {path}: its numbers stand in the tables of this page and of the run")
        for path in (f"{split}/{name}" for name in names)
        if path in figures
    ]


def _without_title(card: str) -> str:
    """A card without its first heading, which the page has."""
    return card.partition("\n")[2]


_SECTIONS: Mapping[str, Callable[[Facts], list[Block]]] = {
    "What came out": _figures,
    "References": _references,
    "Other sources": _elsewhere,
    "Gallery": _gallery,
    "Calibration": _calibration,
    "Operating points": _points,
    "Is it of use?": _use,
    "Subgroups": _subgroups,
    "Where it looks": _where,
    "Is it an X-ray like its own?": _like_its_own,
    "How many X-rays": _sizes,
    "Promotion": _promotion,
}
