"""The card of a classifier: what it says of this evaluation, of earlier ones, and of what was never measured."""

import re
from dataclasses import replace

import pandas as pd

from fracture_mae.evaluation import subgroups
from fracture_mae.stages.model_card import checklists, markdown, writing
from fracture_mae.stages.model_card.sections import SECTIONS
from fracture_mae.tracking import registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report
from tests import builders
from tests.unit.stages.judged import DECISION, NAME, facts


def test_every_item_of_the_checklists_has_a_place():
    numbers = [int(item.number) for item in checklists.CLAIM]
    assert numbers == list(range(1, 45))
    stems = {int(re.match(r"\d+", item.number)[0]) for item in checklists.TRIPOD_AI}
    assert stems == set(range(1, 28))
    sections = {
        item.section for items in checklists.NAMES.values() for item in items if item.section != checklists.PERSON
    }
    assert sections <= set(SECTIONS)
    assert "11 de-identification" in checklists.left_to_people()[0]
    assert checklists.answered_by(checklists.SPLIT) == "CLAIM 2024: 19, 20 · TRIPOD+AI: 12a"


def test_the_card_says_what_was_found(registered, judged):
    text = writing.card(facts(*judged))
    report = judged[-1]
    metrics = report.tables["test/xray/metrics.csv"].set_index("metric")
    assert f"| AUROC | {metrics.loc['auroc', 'estimate']:.3f}" in text
    for title in SECTIONS:
        assert f"## {title}" in text
    assert "must not be used to diagnose" in text
    assert "| train | 6 | 2 | 4 | 9 | 6 |" in text  # X-rays, fractured, other, files, patients
    assert "1. `preset vit-mae-nano, random weights`: saw no X-ray" in text
    assert "2. `models:/xray-mae/1`: `finetune_mae`, recipe `default`, on `films` (unknown), [run " in text
    assert f"3. `models:/{NAME}/1`: `train_classifier`" in text
    assert "Made by `train_classifier`" in text
    assert "epochs 12" in text
    assert "mean of sources 0.610 [0.400, 0.800]; all, pooled 0.700 [0.600, 0.800]" in text
    assert "Split `grouped`" in text
    assert "judged just now: the same split." in text
    assert "| age | 65+ | 3 + 0 |" in text
    assert report.tags[subgroups.WARNING] in text
    assert report.tags["sample_size.test"][1:] in text
    assert "Not promoted: --promote never (decided in [run aaaaaaaa](#/experiments/1/runs/aaaa" in text
    assert "- observed to expected (1): " in text
    assert "| sensitivity 0.95 |" in text
    assert "15 rationale for the reference standard" in text
    assert "references that know no bone: gradient histograms 0.580 [0.500, 0.700]." in text
    assert not re.search(r"\bnan\b", text)


def test_what_an_old_version_never_had_was_not_measured(store, network, dataset, tmp_path):
    loaded = LoadedClassifier(
        str(tmp_path), None, network, replace(DECISION, split_fingerprint=""), builders.shown([]), tmp_path
    )
    text = writing.card(facts(loaded, dataset, Report()))
    for words in (
        "Not measured on its own test.",
        "Held-out sources (models that never saw the source): not measured (`cross_validate=sources`)",
        "Cross-validation: not measured",
        "External X-rays (`split=external`): not measured",
        "Not measured: needs columns of a CSV",
        "Against boxes around fractures: not measured.",
        "Not known: it is a folder.",
        "Not known: the run that made it is not at hand.",
    ):
        assert words in text
    assert writing.write(facts(loaded, dataset, Report())) == text  # nothing is registered, so nothing is described


def test_the_description_links_to_the_card_and_keeps_what_a_person_wrote(registered, judged):
    registered.update_model_version(NAME, "1", description="Wrists of one hospital, labelled by two readers.")
    for _ in range(2):
        whole = writing.write(facts(*judged))
        found = registered.get_model_version(NAME, "1").description
        assert found.startswith("Wrists of one hospital, labelled by two readers.\n\n# Model card: models:/")
        assert found.count("# Model card") == 1
        assert f"(#/experiments/1/runs/{'a' * 32}/artifacts/model_card.md)" in found
        assert len(found) <= registry.LONGEST_DESCRIPTION
        assert "## Figures" in found
        assert "must not be used to diagnose" in found
    assert len(whole) > len(found)


def test_what_does_not_fit_is_left_out_whole(registered, judged):
    loaded, dataset, report = judged
    many = pd.concat([report.tables["test/subgroups.csv"]] * 200).assign(sensitivity_low=0.25)
    report.tables["test/subgroups.csv"] = many
    registered.update_model_version(NAME, "1", description="x" * 2500)
    writing.write(facts(loaded, dataset, report))
    found = registered.get_model_version(NAME, "1").description
    assert len(found) <= registry.LONGEST_DESCRIPTION
    assert "## Figures" in found
    assert "## Subgroups" not in found
    registered.update_model_version(NAME, "1", description="y" * 4990)
    writing.write(facts(loaded, dataset, report))
    assert registered.get_model_version(NAME, "1").description == "y" * 4990


def test_another_split_than_its_own_describes_only_who_has_no_card_yet(registered, judged):
    loaded, dataset, report = judged
    other = replace(dataset, split_fingerprint="6" * 16)
    whole = writing.write(facts(loaded, other, report))
    assert "**which is not its own split**" in whole
    assert "`films` (fingerprint unknown): train 700 X-rays" in whole
    assert "which is not its own split" in registered.get_model_version(NAME, "1").description
    writing.write(facts(loaded, dataset, report))
    own = registered.get_model_version(NAME, "1").description
    writing.write(facts(loaded, other, report))
    assert registered.get_model_version(NAME, "1").description == own


def test_an_external_evaluation_tells_of_the_own_test_too(registered, judged, tmp_path):
    loaded, dataset, report = judged
    experiment = registered.get_experiment_by_name("made").experiment_id
    own = registered.create_run(experiment).info.run_id
    metrics = report.tables["test/xray/metrics.csv"]
    registered.log_text(own, metrics.to_csv(index=False), "test/xray/metrics.csv")
    registered.set_tag(own, "sample_size.test", report.tags["sample_size.test"])
    registered.set_model_version_tag(NAME, "1", "evaluation.run", own)
    registered.set_model_version_tag(NAME, "1", "external.elsewhere.xray_auroc", "0.58123")
    there = replace(dataset, test=replace(dataset.test, name="external"), name="abroad")
    found = Report(
        tables={"external/xray/metrics.csv": metrics.assign(estimate=0.625, low=0.5, high=0.75)},
        tags={"sample_size.external": "with 6 X-rays"},
    )
    text = writing.card(facts(loaded, there, found))
    assert f"| AUROC | {metrics.set_index('metric').loc['auroc', 'estimate']:.3f}" in text
    assert "External, `abroad`, judged just now: AUROC 0.625 [0.500, 0.750], sensitivity 0.625 [0.500, 0.750]" in text
    assert "External, `elsewhere`: AUROC per X-ray 0.581" in text
    assert report.tags["sample_size.test"][1:] in text
    assert "with 6 X-rays" not in text


def test_what_a_csv_says_stays_text_in_a_table():
    rows = pd.DataFrame({"by": ["age", "ward"], "value": ["<18", "a|b\nc"], "X-rays": [1234, 2]})
    assert markdown.table(rows)[2:] == ["| age | &lt;18 | 1,234 |", "| ward | a\\|b c | 2 |"]
