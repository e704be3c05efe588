"""The page of an evaluation: all that was asked and found, of a classifier whose training is known and of one whose is not."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from fracture_mae.config import Evaluate
from fracture_mae.stages import evaluation_page
from fracture_mae.stages.model_card import markdown, writing
from fracture_mae.tracking.registered_models import LoadedClassifier
from tests.unit.pages.elements import Elements, fetched
from tests.unit.stages.judged import DECISION, NAME, facts

CONFIG = Evaluate(data_dir="films of 'X'.csv", n_draws=100, references=False)
EVIL = "<script>alert(1)</script>"


def page(found, config=CONFIG):
    return evaluation_page.page(found, config, writing.card(found))


def test_every_part_is_there(registered, judged):
    report = judged[-1]
    text = page(facts(*judged))
    found = Elements(text)
    assert found.of("h2") == [
        *("What was asked", "What came out", "References", "Other sources", "Gallery", "Calibration"),
        *("Operating points", "Is it of use?", "Subgroups", "Where it looks", "Is it an X-ray like its own?"),
        *("How many X-rays", "Promotion", "Model card"),
        "How to repeat it",
    ]
    cells = found.of("td")
    metrics = report.tables["test/xray/metrics.csv"].set_index("metric")
    assert f"models:/{NAME}/1" in cells
    auroc = metrics.loc["auroc", "estimate"]
    assert any(each.startswith(f"{auroc:.3f} ") for each in cells)
    assert f"AUROC of {auroc:.3f} " in text
    assert "-0.080 [-0.200, +0.040]" in cells
    assert "0.610 [0.400, 0.800]" in cells  # held-out sources
    assert {"sensitivity 0.95", "65+", "brier"} <= set(cells)
    assert found.of("summary") == ["The whole card"]
    assert "What a person must say" in found.of("h4")
    assert found.tags.count("img") >= 8
    assert fetched(text) == []
    assert not re.search(r"\bnan\b|\d\.\d{9}", re.sub(r"base64,[^\"]*", "", text))


def test_what_the_gate_refuses_is_told_by_source(registered, judged):
    _, _, report = judged
    sources = {"source": ["all", EVIL], "n_files": [6, 4], "n_refused": [1, 1], "share_of_files": [1 / 6, 0.25]}
    report.tables["test/refused_by_source.csv"] = pd.DataFrame(sources | {"n_xrays": [6, 4], "n_xrays_refused": [1, 1]})
    measured = {"metric": ["auroc"], "estimate": [0.8], "low": [0.7], "high": [0.9]}
    of_all = {"all_estimate": [0.75], "all_low": [0.6], "all_high": [0.85]}
    report.tables["test/accepted.csv"] = pd.DataFrame(measured | of_all)
    for name in ("sensitivity", "specificity"):  # which the line tells as well
        row = report.tables["test/accepted.csv"].iloc[[0]].assign(metric=name)
        report.tables["test/accepted.csv"] = pd.concat([report.tables["test/accepted.csv"], row], ignore_index=True)
    text = page(facts(*judged))
    found = Elements(text)
    assert "Is it an X-ray like its own?" in found.of("h2")
    assert {"0.800 [0.700, 0.900]", "0.750 [0.600, 0.850]", EVIL} <= set(found.of("td"))
    assert "1 of 6 files refused" in text
    assert EVIL not in text


def test_the_line_that_repeats_it_is_exact(registered, judged):
    line = next(each for each in Elements(page(facts(*judged))).of("code") if each.startswith("mlflow run"))
    data = "-P 'data_dir=films of '\"'\"'X'\"'\"'.csv'"
    assert (
        line
        == f"mlflow run . -e evaluate {data} -P seed=0 -P classifier=models:/{NAME}/1 -P n_draws=100 -P references=False"
    )


def test_names_that_look_like_markup_stay_names(registered, judged):
    loaded, dataset, report = judged
    dataset.test.table["source"] = EVIL
    for blocks in report.galleries.values():
        for block in blocks:
            for card in block.cards:
                card.told["File"] = card.told["Source"] = EVIL
    text = page(facts(loaded, replace(dataset, name=f"`{EVIL}![x](https://example.org/x.png)"), report))
    found = Elements(text)
    assert found.tags.count("script") == 1
    assert fetched(text) == []
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("empty", [True, False])
def test_what_is_missing_leaves_no_heading(store, network, judged, tmp_path, empty):
    _, dataset, report = judged
    loaded = LoadedClassifier(str(tmp_path), None, network, DECISION, judged[0].shown, tmp_path)
    if empty:
        report = replace(report, galleries={}, figures={}, tags={})
        for path in ("test/comparison.csv", "test/subgroups.csv", "test/hidden_patches.csv"):
            report.tables.pop(path)
    found = Elements(page(facts(loaded, dataset, report)))
    gone = {"Gallery", "Subgroups", "How many X-rays", "Promotion", "Where it looks"}
    assert set(found.of("h2")) & gone == (set() if empty else gone)
    assert "not measured" in " ".join(text for _, text in found.texts)


def test_shortcuts_and_leaks_stand_on_top(registered, judged):
    loaded, dataset, report = judged
    report.tags["shortcut_warning"] = "the label can be guessed"
    leaky = replace(dataset, leakage=replace(dataset.leakage, with_label=0.5))
    told = evaluation_page.summary(facts(loaded, leaky, report))
    assert "Shortcut warning: the label can be guessed." in told
    assert f"**LEAKY: {leaky.leakage}.**" in told


@pytest.mark.parametrize(("name", "code"), [("films", "`films`"), ("a`b", "`` a`b ``"), ("```", "```` ``` ````")])
def test_a_name_is_code_whatever_is_in_it(name, code):
    assert markdown.code(name) == code
