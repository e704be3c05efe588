"""How good a classifier is, for whom, and how certain that is: sections of a card, each as lines of Markdown."""

import pandas as pd

from fracture_mae import plots
from fracture_mae.evaluation import calibration as evaluated_calibration
from fracture_mae.evaluation import held_out_sources, hiding, place, training_seeds
from fracture_mae.evaluation.judging import CLASSIFIER, shown_of, with_ends
from fracture_mae.evaluation.subgroups import WARNING
from fracture_mae.stages.model_card.facts import NOT_MEASURED, Facts
from fracture_mae.stages.model_card.markdown import number, run, table, words

_HELD_OUT = {held_out_sources.MEAN: "mean of sources", held_out_sources.POOLED: "all, pooled"}


def figures(facts: Facts) -> list[str]:
    found = facts.table("test/xray/metrics.csv")
    if found is None:
        return [NOT_MEASURED.capitalize() + " on its own test."]
    rows = {}
    for level, name in (("xray", "per X-ray"), ("image", "per file")):
        metrics = facts.table(f"test/{level}/metrics.csv")
        if metrics is not None:
            metrics = metrics.set_index("metric")
            rows[name] = {words(each): with_ends(metrics.loc[each]) for each in shown_of(metrics)}
    foreign = not (facts.is_own_split or facts.is_external)
    where = f"On test of `{facts.dataset.name}`, **which is not its own split**" if foreign else "On its own test"
    lines = [
        f"{where}, at its own threshold, with 95 % intervals.",
        "",
        *table(pd.DataFrame(rows).fillna("").rename_axis("metric").reset_index()),
    ]
    compared = facts.table("test/comparison.csv")
    if compared is None:
        return [*lines, "", f"References without bones: {NOT_MEASURED}."]
    overall = compared[(compared["source"] == "all") & (compared["model"] != CLASSIFIER)]
    beside = "; ".join(f"{row['model']} {with_ends(row)}" for _, row in overall.iterrows())
    return [
        *lines,
        "",
        f"AUROC per X-ray of references that know no bone: {beside}.",
        f"Shortcut warning: {facts.tag('shortcut_warning')}.",
    ]


def elsewhere(facts: Facts) -> list[str]:
    lines = [
        f"- Held-out sources (models that never saw the source): {_held_out(facts)}",
        f"- Cross-validation: {_cross_validated(facts)}",
    ]
    here = facts.report.tables.get("external/xray/metrics.csv")
    if here is not None:
        metrics = here.set_index("metric")
        told = ", ".join(
            f"{words(name)} {with_ends(metrics.loc[name])}" for name in ("auroc", "sensitivity", "specificity")
        )
        lines.append(f"- External, `{facts.dataset.name}`, judged just now: {told}")
    lines += [f"- External, `{name}`: AUROC per X-ray {number(value)}" for name, value in facts.external.items()]
    if here is None and not facts.external:
        lines.append(f"- External X-rays (`split=external`): {NOT_MEASURED}")
    return lines


def _held_out(facts: Facts) -> str:
    found = facts.of_training("held_out_sources/comparison.csv")
    if found is None:
        return f"{NOT_MEASURED} (`cross_validate=sources`)"
    found = found[found["model"] == found["model"].iloc[0]].set_index("source")
    told = [
        f"{name} {plots.interval_text(*found.loc[row, ['auroc', 'auroc_low', 'auroc_high']].astype(float))}"
        for row, name in _HELD_OUT.items()
        if row in found.index
    ]
    return f"AUROC per X-ray, {'; '.join(told)}"


def _cross_validated(facts: Facts) -> str:
    found = facts.of_training("cross_validation/xray/metrics.csv")
    if found is None:
        return f"{NOT_MEASURED} (`cross_validate=5`)"
    return f"AUROC per X-ray, pooled, {with_ends(found.set_index('metric').loc['auroc'])}"


def calibration(facts: Facts) -> list[str]:
    found = facts.table("test/xray/calibration.csv")
    if found is None:
        return [f"{NOT_MEASURED.capitalize()}."]
    return [f"- {line}" for line in evaluated_calibration.lines(found.set_index("metric"))]


def points(facts: Facts) -> list[str]:
    found = facts.table("test/xray/operating_points.csv")
    if found is None:
        return [f"{NOT_MEASURED.capitalize()}."]
    prevalence = found["prevalence"].iloc[0]
    return [
        f"Each X-ray once, on test, at a prevalence of {prevalence:.1%}; thresholds chosen on validation.",
        "",
        *table(points_table(found)),
    ]


def points_table(found: pd.DataFrame) -> pd.DataFrame:
    """What a reader wants of a table `operating_points.csv`."""
    shown = pd.DataFrame({"operating point": found["name"], "threshold": found["threshold"].map("{:.3f}".format)})
    for rate in ("sensitivity", "specificity"):
        shown[rate] = [
            plots.interval_text(*row) for row in found[[rate, f"{rate}_low", f"{rate}_high"]].to_numpy(float)
        ]
    for rate, name in (("precision", "PPV"), ("negative_predictive_value", "NPV")):
        shown[name] = found[rate].map(lambda value: "undefined" if pd.isna(value) else f"{value:.3f}")
    return shown


def judged_subgroups(facts: Facts) -> list[str]:
    """As `subgroups`, without those that are too small."""
    return subgroups(facts, all_of_them=False)


def subgroups(facts: Facts, all_of_them: bool = True) -> list[str]:
    found = facts.table("test/subgroups.csv")
    warning = f"Subgroup warning: {facts.tag(WARNING)}."
    if found is None:
        return [
            f"{NOT_MEASURED.capitalize()}: needs columns of a CSV, such as age, sex, body_part, view, device, hardware.",
            warning,
        ]
    if not all_of_them:
        found = found[found[["sensitivity_low", "specificity_low"]].notna().any(axis=1)]
        if not len(found):
            return [warning]
    return [*table(subgroups_table(found)), "", "No interval: fewer than ten X-rays of a class.", "", warning]


def subgroups_table(found: pd.DataFrame) -> pd.DataFrame:
    """What a reader wants of a table `subgroups.csv`."""
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "auroc": "AUROC",
        "observed_to_expected": "observed:expected",
    }
    shown = pd.DataFrame({"by": found["column"].fillna(""), "value": found["value"]})
    shown["fractured + other X-rays"] = [f"{row.n_fractured:,} + {row.n_other:,}" for row in found.itertuples()]
    for name, text in names.items():
        shown[text] = [
            plots.interval_text(*row) for row in found[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        ]
    return shown


def looks(facts: Facts) -> list[str]:
    failures = "The surest wrong and right answers, and those nearest the threshold, are drawn in `test/gallery.png` of the evaluation."
    checked = hiding.digest(facts.report, "test")
    checked = [f"{checked}.", ""] if checked else []
    if facts.is_external or "test/place.csv" not in facts.report.tables:
        return [f"Against boxes around fractures: {NOT_MEASURED}.", "", *checked, failures]
    return [place.digest(facts.report, "test"), "", *checked, failures]


def size(facts: Facts) -> list[str]:
    told = facts.tag("sample_size.test")
    of_seeds = training_seeds.digest(facts.report, "test") or f"Spread over training seeds: {NOT_MEASURED} (`seeds=3`)"
    return [f"{told[0].upper()}{told[1:]}.", "", f"{of_seeds[0].upper()}{of_seeds[1:]}."]


def limits(facts: Facts) -> list[str]:
    warning = facts.tag("shortcut_warning")
    lines = [
        "- Intervals tell how else other X-rays *like these* might have come out; of other hospitals only held-out sources and "
        "external X-rays tell."
    ]
    if warning.startswith("the label"):
        lines.append(f"- {warning[0].upper()}{warning[1:]}.")
    if facts.dataset.leakage:
        lines.append(f"- LEAKY: {facts.dataset.leakage}.")
    gate = "gate.external" if facts.is_external else "gate.test"
    lines.append(f"- Gate against pictures that are unlike its X-rays: {facts.tag(gate)}.")
    lines.append("- Labels are taken as they were given; how far readers would agree on them is not known.")
    return lines


def promotion(facts: Facts) -> list[str]:
    told = str(facts.report.tags.get("promotion", NOT_MEASURED))
    return [f"{told[0].upper()}{told[1:]} (decided in {run(facts.run_id, facts.page)})."]
