from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from mlflow.utils.validation import _validate_metric_name
from scipy.special import expit

from fracture_mae.data.types import Leakage
from fracture_mae.evaluation import judging
from fracture_mae.evaluation.judging import CLASSIFIER, Certainty
from fracture_mae.evaluation.strata import Strata
from fracture_mae.metrics import agreement
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision
from fracture_mae.tracking.report import Report

DECISION = Decision(("healthy", "broken"), threshold=0.6, slope=0.5)
CERTAINTY = Certainty(n_draws=100, seed=0)


def made_predictions(label, logit, group, source="made"):
    files = [f"{position}.png" for position in range(len(label))]
    return pd.DataFrame(
        {"path": files, "sha256": files, "label": label, "group": group, "source": source, "logit": np.float64(logit)}
    )


# X-ray a has two files with the mean 0.25. At threshold 0.6 and slope 1/2 the answer is broken from logit 0.811 on.
FEW = made_predictions([1, 1, 0, 0, 1], [2, -1.5, -1, 1, 3], list("aabcd"))


# Ten times the same: an interval needs ten X-rays of each class.
OFTEN = pd.concat([FEW.assign(group=FEW["group"] + str(number)) for number in range(10)], ignore_index=True)


@pytest.fixture(scope="module")
def judged():
    return judging.judge_split(FEW, DECISION, "test", "LEAKY: 9 %", CERTAINTY)


@pytest.fixture(scope="module")
def judged_often():
    return judging.judge_split(OFTEN, DECISION, "test", "", CERTAINTY)


def test_files_and_xrays_are_judged_apart(judged):
    assert judged.metrics["test/image/auroc"] == pytest.approx(4 / 6)  # 2 and 3 beat both, -1.5 none
    assert judged.metrics["test/xray/auroc"] == pytest.approx(3 / 4)  # 0.25 beats -1 alone
    assert judged.metrics["test/image/sensitivity"] == pytest.approx(2 / 3)
    assert judged.metrics["test/xray/sensitivity"] == pytest.approx(1 / 2)
    assert "test/xray/auroc_low" not in judged.metrics  # two X-rays of each class


def test_intervals_are_around_the_estimates(judged_often):
    metrics = judged_often.metrics
    assert metrics["test/xray/auroc"] == pytest.approx(3 / 4)
    assert metrics["test/xray/auroc_low"] < 3 / 4 < metrics["test/xray/auroc_high"]
    assert metrics["test/image/sensitivity_low"] < 2 / 3 < metrics["test/image/sensitivity_high"]


def test_confusion_matrices_name_their_classes(judged):
    image, xray = (judged.documents[f"test/{level}/confusion_matrix.json"] for level in ("image", "xray"))
    assert image["matrix"] == [[1, 1], [1, 2]]
    assert xray["matrix"] == [[1, 1], [1, 1]]
    assert (image["labels"], image["rows"], image["columns"]) == (
        ["healthy", "broken"],
        "true class",
        "predicted class",
    )
    assert image["threshold"] == 0.6


def test_every_file_has_its_answer(judged):
    table = judged.tables["test/predictions.csv"]
    assert table["answer"].tolist() == ["broken", "healthy", "healthy", "broken", "broken"]
    assert table["truth"].tolist() == ["broken", "broken", "healthy", "healthy", "broken"]
    np.testing.assert_allclose(table["probability"], expit(FEW["logit"] / 2))
    assert set(table["threshold"]) == {0.6}


def test_report_and_metrics_tables_agree(judged):
    report = judged.tables["test/image/classification_report.csv"].set_index("class")
    metrics = judged.tables["test/image/metrics.csv"].set_index("metric")
    assert report.index.tolist() == ["healthy", "broken", "accuracy", "macro avg", "weighted avg"]
    assert report.loc["broken", "recall"] == pytest.approx(metrics.loc["sensitivity", "estimate"])
    assert report.loc["broken", "support"] == 3


def test_calibration_is_told_before_and_after_per_file_and_per_xray():
    rng = np.random.default_rng(0)
    n = 60
    logit = 2 * rng.normal(size=2 * n) + 1
    label = (rng.random(n) < expit(logit[::2] / 2)).astype(int)
    files = made_predictions(np.repeat(label, 2), logit, np.repeat(np.arange(n), 2).astype(str))
    found = judging.judge_split(files, DECISION, "test", "", CERTAINTY)
    for level, rows in judging.levels(files).items():
        table = found.tables[f"test/{level}/calibration.csv"].set_index("metric")
        for name, slope in (("", 0.5), ("_uncalibrated", 1.0)):
            expected = agreement.measure(rows["label"], expit(slope * rows["logit"]), rows["group"])
            for metric, row in expected.iterrows():
                assert table.loc[f"{metric}{name}"].tolist() == pytest.approx(row.tolist(), nan_ok=True)
                assert found.metrics[f"test/{level}/{metric}{name}"] == pytest.approx(row["estimate"])
        slope = f"test/{level}/calibration_slope"
        assert found.metrics[f"{slope}_low"] < found.metrics[slope] < found.metrics[f"{slope}_high"]
        words = " ".join(text.get_text() for text in found.figures[f"test/{level}/reliability.png"].findobj(Text))
        assert f"calibration slope (1): {found.metrics[slope]:.3f} [" in words
        assert "Before calibration" in words


def test_probabilities_that_are_not_calibrated_are_told_once():
    plain = judging.judge_split(FEW, replace(DECISION, slope=1.0), "test", "", CERTAINTY)
    assert len(plain.tables["test/image/calibration.csv"]) == 4
    assert not [name for name in plain.metrics if "uncalibrated" in name or "expected_calibration_error" in name]


def test_an_isotonic_map_makes_the_probabilities():
    stepped = replace(DECISION, isotonic=Isotonic((-1.5, 1.0), (0.1, 0.7)))
    found = judging.judge_split(FEW, stepped, "test", "", CERTAINTY)
    expected = [0.7, 0.1, 0.1 + 0.6 * 0.2, 0.7, 0.7]  # of the logits 2, -1.5, -1, 1 and 3
    np.testing.assert_allclose(found.tables["test/predictions.csv"]["probability"], expected)
    # The step ties the healthy file at 1 with the broken ones at 2 and 3: (1/2 + 0 + 1/2 + 1 + 1) of 6 pairs.
    assert found.metrics["test/image/auroc"] == pytest.approx(3 / 6)


def test_each_level_has_its_figures_with_the_remark(judged):
    names = ("confusion_matrix", "roc", "precision_recall", "reliability", "threshold_sweep")
    assert set(judged.figures) == {f"test/{level}/{name}.png" for level in ("image", "xray") for name in names}
    for path, figure in judged.figures.items():
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert "LEAKY: 9 %" in words, path
        assert ("per X-ray" if "/xray/" in path else "per file") in words
        assert "5 files of 4 X-rays" in words


def test_undefined_metrics_are_not_logged():
    healthy = made_predictions([0, 0, 0], [-1, 1, -2], list("abc"))
    metrics = judging.judge_split(healthy, DECISION, "test", "", CERTAINTY).metrics
    assert "test/image/specificity" in metrics
    assert "test/image/auroc" not in metrics
    assert np.isfinite(list(metrics.values())).all()


# Two X-rays of each class in `hospital 1` and none healthy in `clinic`; a source of one class alone cannot be judged.
MANY = made_predictions(
    [1, 1, 0, 0, 1, 1, 0],
    [3, 0, 1, -1, -2, 2, -3],
    list("abcdefg"),
    ["hospital 1"] * 4 + ["clinic"] * 2 + ["…"],
)


@pytest.fixture(scope="module")
def compared():
    models = {CLASSIFIER: MANY, "guess, by size": MANY.assign(logit=-MANY["logit"])}
    return judging.compare(models, "validation", "", CERTAINTY)


def test_models_are_compared_on_all_and_within_each_source(compared):
    assert compared.metrics == pytest.approx(
        {
            "validation/xray/auroc/all/classifier": 9 / 12,  # 3 and 2 beat three, 0 beats two, -2 one
            "validation/xray/auroc/all/guess__by_size": 3 / 12,
            "validation/xray/auroc/hospital_1/classifier": 3 / 4,
            "validation/xray/auroc/hospital_1/guess__by_size": 1 / 4,
        }
    )


def test_differences_are_those_of_the_estimates(compared):
    table = compared.tables["validation/comparison_differences.csv"].set_index("source")
    assert table.loc["hospital 1", "classifier minus"] == "guess, by size"
    assert table.loc["hospital 1", "estimate"] == pytest.approx(1 / 2)
    assert table[["low", "high"]].isna().all(axis=None)  # four X-rays of one class
    often = pd.concat(
        [MANY.assign(group=MANY["group"].astype(str) + f"-{number}") for number in range(4)], ignore_index=True
    )
    found = judging.compare({CLASSIFIER: often, "guess": often.assign(logit=-often["logit"])}, "test", "", CERTAINTY)
    row = found.tables["test/comparison_differences.csv"].set_index("source").loc["all"]
    assert row["low"] < row["estimate"] < row["high"]
    sizes = found.tables["test/comparison.csv"].set_index("source").loc["all", ["n_negative", "n_positive"]]
    assert (sizes >= 10).all(axis=None)


@pytest.mark.parametrize("source", ["…", "a/../b", "Klinik für Unfälle", "x" * 500, "²"])
def test_names_of_metrics_are_ones_that_mlflow_takes(source):
    models = {CLASSIFIER: MANY.assign(source=[source] * 4 + ["rest"] * 3)}
    found = judging.compare(models | {"other": models[CLASSIFIER]}, "test", "", CERTAINTY).metrics
    assert len(found) == 4
    for name in found:
        _validate_metric_name(name)


def test_findings_add_up():
    first, second = Report(metrics={"a": 1}, documents={"x": 0}), Report(metrics={"b": 2}, tables={"t": FEW})
    first.add(second)
    assert first == Report(metrics={"a": 1, "b": 2}, tables={"t": FEW}, documents={"x": 0})


def test_digest_prints_estimate_and_interval(judged, judged_often):
    assert judging.digest(judged, ["test"]).loc[("test", "X-ray"), "auroc"] == "0.750 [n too small]"
    table = judging.digest(judged_often, ["test"])
    assert table.index.tolist() == [("test", "file"), ("test", "X-ray")]
    low, high = (judged_often.metrics[f"test/xray/auroc_{end}"] for end in ("low", "high"))
    assert table.loc[("test", "X-ray"), "auroc"] == f"0.750 [{low:.3f}, {high:.3f}]"


def test_remark_on_leakage():
    assert judging.remark_on(Leakage()) == ""
    found = judging.remark_on(Leakage(with_label=0.126))
    assert found == "LEAKY: test shown, 13% with label"
    most = judging.remark_on(Leakage(with_label=0.6, picture_only=0.4, validation=1.0))
    assert most == "LEAKY: test shown, 60% with label, 40% as picture only\nLEAKY: 100% of validation is in training"


def test_the_longest_remark_is_read_in_every_figure():
    remark = judging.remark_on(Leakage(with_label=0.6, picture_only=0.004, validation=1.0))
    figures = judging.judge_split(FEW, DECISION, "validation", remark, CERTAINTY).figures
    figures |= judging.compare({CLASSIFIER: FEW, "gradient histograms": FEW}, "validation", remark, CERTAINTY).figures
    assert len(figures) > 8
    for figure in figures.values():
        figure.draw_without_rendering()
        (title,) = (text for text in figure.findobj(Text) if remark in text.get_text())
        place = title.get_window_extent()
        assert 0 <= place.x0 < place.x1 <= figure.bbox.width
        assert place.y1 <= figure.bbox.height


# Files of 0: the X-ray a counts once, by half of each file; 1: its first file alone counts.
@pytest.mark.parametrize(
    ("weight", "auroc", "matrix", "unit"),
    [
        # a's files 2 and -1.5 count 1/2 each: 2 beats both healthy ones, -1.5 none, and e's 3 both.
        ([0.5, 0.5, 1, 1, 1], (0.5 * 2 + 2) / 4, [[1, 1], [0.5, 1.5]], "per file, X-rays weighing the same"),
        ([0, 1, 1, 1, 1], 2 / 4, [[1, 1], [1, 1]], "one file per X-ray"),
    ],
)
def test_files_may_count_less_among_files_alone(judged, weight, auroc, matrix, unit):
    found = judging.judge_split(FEW.assign(weight=np.float64(weight)), DECISION, "test", "", CERTAINTY)
    assert found.metrics["test/image/auroc"] == pytest.approx(auroc)
    assert found.documents["test/image/confusion_matrix.json"]["matrix"] == matrix
    report = found.tables["test/image/classification_report.csv"].set_index("class")
    assert report.loc["broken", "support"] == pytest.approx(2)
    assert report.loc["broken", "recall"] == pytest.approx(found.metrics["test/image/sensitivity"])
    by_xray = [name for name in judged.metrics if name.startswith("test/xray/")]
    assert {name: found.metrics[name] for name in by_xray} == {name: judged.metrics[name] for name in by_xray}
    words = [text.get_text() for text in found.figures["test/image/roc.png"].findobj(Text)]
    assert any(unit in word for word in words)
    assert any(f"classifier {auroc:.3f} [" in word for word in words)
    assert judging.digest(found, ["test"]).index[0] == ("test", unit.removeprefix("per "))
    assert found.tables["test/predictions.csv"]["weight"].tolist() == weight


def many_patients(n=60):
    """One X-ray, of one file, of each patient."""
    rng, label = np.random.default_rng(3), np.tile([0, 1], n // 2)
    table = made_predictions(label, rng.normal(size=n) + label, [f"x{number}" for number in range(n)])
    return table.assign(patient=table["group"].str.replace("x", "p"))


def and_again(table):
    """With a second X-ray of each patient that looks like the first."""
    return pd.concat([table, table.assign(group="again " + table["group"])], ignore_index=True)


def test_two_xrays_of_a_patient_stay_two_in_averages_and_are_drawn_as_one():
    # Patient p has a broken X-ray of two files, mean logit 0.25, and a healthy one.
    few = FEW.assign(patient=["p", "p", "p", "q", "r"])
    rows = judging.levels(few)["xray"]
    assert rows[["group", "patient", "label", "logit", "n_files"]].to_numpy().tolist() == [
        ["a", "p", 1, 0.25, 2],
        ["b", "p", 0, -1.0, 1],
        ["c", "q", 0, 1.0, 1],
        ["d", "r", 1, 3.0, 1],
    ]
    found = judging.judge_split(few, DECISION, "test", "", CERTAINTY)
    without = judging.judge_split(FEW, DECISION, "test", "", CERTAINTY)
    assert found.tables["test/predictions.csv"]["patient"].tolist() == ["p", "p", "p", "q", "r"]
    for level, n_drawn in (("image", 4), ("xray", 4)):
        tables = [each.tables[f"test/{level}/metrics.csv"].set_index("metric") for each in (found, without)]
        assert tables[0]["estimate"].equals(tables[1]["estimate"])
        assert [set(table["n_groups"]) for table in tables] == [{3}, {n_drawn}]


def test_a_second_xray_of_every_patient_makes_nothing_more_certain():
    certainty = Certainty(n_draws=1000, seed=0)
    one = many_patients()
    twice = and_again(one)
    tables = {"one": one, "same patients": twice, "nothing known": twice.drop(columns="patient")}
    width = {}
    for name, table in tables.items():
        metrics = judging.judge_split(table, DECISION, "test", "", certainty).metrics
        width[name] = metrics["test/xray/auroc_high"] - metrics["test/xray/auroc_low"]
    assert width["same patients"] == pytest.approx(width["one"])
    assert width["nothing known"] / width["one"] == pytest.approx(1 / np.sqrt(2), rel=0.1)


def test_references_are_compared_by_patients_and_counted_by_xrays():
    one = many_patients()
    other = one.assign(logit=one["logit"] + np.random.default_rng(4).normal(size=60))
    models = {"one": {CLASSIFIER: one, "other": other}}
    models["two"] = {name: and_again(table) for name, table in models["one"].items()}
    found = {name: judging.compare(each, "test", "", CERTAINTY).tables for name, each in models.items()}
    for table, ends in (("comparison", ["estimate", "low", "high"]), ("comparison_differences", ["low", "high"])):
        first, second = (each[f"test/{table}.csv"][ends] for each in found.values())
        np.testing.assert_allclose(first, second)
    assert found["two"]["test/comparison.csv"]["n_groups"].tolist() == [120, 120]


def of_two_sources(seed=0, n=80):
    """X-rays whose label hangs on a file property and on the source, and the scores of who knows just that, or the label in part."""
    rng = np.random.default_rng(seed)
    source = np.tile(["a", "b"], n // 2)
    told = np.round(2 * rng.normal(size=n))
    label = (rng.random(n) < expit(told + np.where(source == "a", 1, -1))).astype(int)
    table = made_predictions(label, told, [f"x{i}" for i in range(n)], source)
    return table, table.assign(logit=label + rng.normal(size=n))


def test_within_strata_file_properties_are_worth_nothing_and_skill_remains():
    file, skill = of_two_sources()
    strata = Strata.of(file)
    found = judging.compare({CLASSIFIER: skill, "file": file}, "test", "", CERTAINTY, strata)
    table = found.tables["test/comparison.csv"].set_index(["source", "model"])
    assert table.loc[("all", "file"), "estimate"] > 0.75
    assert table.loc[("within strata", "file"), "estimate"] == pytest.approx(0.5, abs=0.1)
    assert table.loc[("within strata", CLASSIFIER), "estimate"] > 0.6
    assert table.loc[("within strata", CLASSIFIER), "n_groups"] == len(strata.compared) < 80
    assert found.metrics["test/xray/auroc/within_strata/file"] == table.loc[("within strata", "file"), "estimate"]
    difference = found.tables["test/comparison_differences.csv"].set_index("source").loc["within strata"]
    both = table.loc["within strata", "estimate"]
    assert difference["estimate"] == pytest.approx(both[CLASSIFIER] - both["file"])
    words = " ".join(text.get_text() for text in found.figures["test/comparison.png"].findobj(Text))
    assert "within strata · file" in words


def test_strata_never_join_two_sources():
    file, _ = of_two_sources()
    strata = Strata.of(file.assign(logit=0.0))
    assert strata.of_xray["stratum"].nunique() == 2
    n = file.groupby(["source", "label"]).size()
    assert strata.n_pairs == n["a", 0] * n["a", 1] + n["b", 0] * n["b", 1]


def test_a_split_has_its_auroc_within_strata_per_xray_with_interval():
    file, skill = of_two_sources()
    strata = Strata.of(file)
    found = judging.judge_split(skill, DECISION, "test", "", CERTAINTY, strata)
    compared = judging.compare({CLASSIFIER: skill, "file": file}, "test", "", CERTAINTY, strata)
    name = "test/xray/auroc_within_strata"
    assert found.metrics[name] == pytest.approx(compared.metrics["test/xray/auroc/within_strata/classifier"])
    assert found.metrics[f"{name}_low"] < found.metrics[name] < found.metrics[f"{name}_high"]
    assert "test/image/auroc_within_strata" not in found.metrics
    printed = judging.digest(found, ["test"])
    assert printed.columns[1] == "auroc_within_strata"
    assert printed["auroc_within_strata"].tolist()[0] == ""
    assert printed["auroc_within_strata"].tolist()[1].startswith(f"{found.metrics[name]:.3f} [")
    assert f"test: AUROC within strata: {strata.n_pairs:,} pairs" in judging.strata_digest(found, ["test"])


def test_too_few_pairs_give_no_figure_and_say_why():
    strata = Strata.of(FEW)
    found = judging.judge_split(FEW, DECISION, "test", "", CERTAINTY, strata)
    assert "test/xray/auroc_within_strata" not in found.metrics
    assert "no AUROC within strata: found 0 pairs" in judging.strata_digest(found, ["test"])
    assert judging.digest(found, ["test"])["auroc_within_strata"].tolist() == ["", "undefined"]
    compared = judging.compare({CLASSIFIER: FEW}, "test", "", CERTAINTY, strata).tables["test/comparison.csv"]
    assert set(compared["source"]) == {"all"}
