import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import attributes
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import subgroup_values, subgroups
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.intervals import metric_intervals

DECISION = Decision(("not fractured", "fractured"))


def values(texts, name="age", group=None):
    group = pd.Series(range(len(texts)) if group is None else group)
    return subgroup_values.of_xrays(pd.Series(texts), group, name).tolist()


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("17", "0-17"),
        ("18", "18-39"),
        ("39.5", "18-39"),
        ("40", "40-64"),
        ("65", "65+"),
        ("045Y", "40-64"),
        ("006M", "0-17"),
        ("400M", "18-39"),
        ("012W", "0-17"),
        ("030D", "0-17"),
        ("45 years", "40-64"),
        ("90+", "65+"),
        (">89", "65+"),
        ("999", "not given"),
        ("", "not given"),
        ("NaN", "not given"),
        ("adult", "adult"),
        ("40-49", "40-49"),
    ],
)
def test_ages_are_binned(text, group):
    assert values([text]) == [group]
    assert values([text], "PatientAge") == [group]


def test_numbers_are_cut_in_quarters_if_they_are_many():
    many = [str(number) for number in range(40)]
    assert pd.Series(values(many, "kvp")).value_counts().tolist() == [10] * 4
    assert values([*many[:9], ""], "stage") == [*many[:9], "not given"]  # the name of the column holds no word age
    assert values([*many, "high"], "kvp") == [*many, "high"]


def test_an_xray_has_the_first_value_that_a_file_of_it_has():
    assert values(["", "F", "M", "M"], "sex", group=["b", "b", "a", "a"]) == ["M", "F"]


def test_the_order_is_by_age_and_what_is_not_given_comes_last():
    found = pd.Series(["not given", "65+", "0-17", "adult", "18-39"])
    assert subgroup_values.in_order(found) == ["0-17", "18-39", "65+", "adult", "not given"]


def predictions(n=80):
    """Half of them fractured; of device B nothing is found, of device A everything; every second file has an age."""
    label = np.tile([0, 1], n // 2)
    device = np.repeat(["A", "B"], n // 2)
    rng = np.random.default_rng(0)
    logit = np.where((label == 1) & (device == "A"), 1.0, -1.0) + 0.1 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "label": label,
            "logit": logit,
            "group": [f"g{number:03d}" for number in range(n)],
            "patient": [f"p{number:03d}" for number in range(n)],
            "source": np.repeat(["x", "y"], n // 2),
            "csv_device": device,
            "csv_age": np.where(np.arange(n) < 4, "7", ""),
        }
    )


def judged(names=("device", "age"), table=None, **options):
    table = predictions() if table is None else table
    return subgroups.judge(table, DECISION, "test", list(names), "", Certainty(200, 0), **options)


def test_each_value_is_judged_as_its_xrays_alone_are():
    found = judged().tables["test/subgroups.csv"].set_index("value")
    assert found["n_xrays"].to_dict() == {"all": 80, "A": 40, "B": 40, "0-17": 4, "not given": 76}
    assert found.loc["A", ["n_fractured", "n_other", "sensitivity", "specificity", "auroc"]].tolist() == [
        20,
        20,
        1,
        1,
        1,
    ]
    assert found.loc["B", ["sensitivity", "specificity"]].tolist() == [0, 1]
    rows = predictions().iloc[40:]
    alone = metric_intervals(rows["label"], DECISION.probability(rows["logit"]), rows["patient"], 0.5, n_draws=200)
    for name in ("sensitivity", "specificity", "auroc"):
        assert found.loc["B", [name, f"{name}_low", f"{name}_high"]].tolist() == pytest.approx(
            alone.loc[name, ["estimate", "low", "high"]].tolist()
        )
    probability = DECISION.probability(rows["logit"])
    assert found.loc["B", "observed_to_expected"] == pytest.approx(20 / probability.sum())
    assert found.loc["B", "sensitivity_difference"] == -1


def test_what_is_clearly_worse_is_warned_of():
    found = judged()
    warning = found.tags["subgroup_warning"]
    assert warning.startswith("clearly worse: sensitivity where device is B: 0.000 [0.000, ")
    assert "against all others -1.000 [-1" in warning
    assert "device is A" not in warning
    assert found.metrics["test/subgroups/device/B/sensitivity"] == 0
    assert found.metrics["test/subgroups/device/B/n_xrays"] == 40
    assert f"subgroup warning: {warning}" in subgroups.digest(found, "test")
    assert list(found.figures) == ["test/subgroups.png"]


def test_a_few_xrays_are_counted_and_no_more():
    found = judged()
    few = found.tables["test/subgroups.csv"].set_index("value").loc["0-17"]
    assert (few["n_fractured"], few["n_other"]) == (2, 2)
    assert few[["sensitivity_low", "auroc_high", "observed_to_expected_low", "sensitivity_difference"]].isna().all()
    assert few["note"] == "fewer than 10 fractured and other X-rays: no interval"
    assert not any("subgroups/age/0_17/auroc" in name for name in found.metrics)
    assert "Too few to be judged, fewer than 10 of each class: age 0-17 (2 + 2)." in subgroups.digest(found, "test")


def test_of_one_class_alone_its_rate_has_an_interval():
    table = predictions()
    table["csv_device"] = np.where(table["label"] == 1, "C", "D")
    found = judged(["device"], table).tables["test/subgroups.csv"].set_index("value")
    assert 0 < found.loc["C", "sensitivity_low"] < found.loc["C", "sensitivity_high"] < 1
    assert found.loc["C", ["specificity_low", "auroc_low", "calibration_in_the_large_low"]].isna().all()
    assert found.loc["D", "specificity_high"] == 1
    assert found.loc["C", "note"] == "fewer than 10 other X-rays"
    assert judged(["device"], table).tags["subgroup_warning"].startswith("not tested (fewer than 10 X-rays of a class")


def test_equal_values_are_no_warning():
    table = predictions()
    table["csv_device"] = np.tile(["A", "A", "B", "B"], 20)
    assert judged(["device"], table).tags["subgroup_warning"] == "none (6 of 6 comparisons have X-rays enough)"
    assert judged([]).tags["subgroup_warning"].startswith("not tested (the data say nothing of body_part, view, age")
    assert subgroups.digest(judged([]), "test") == ""


def test_sources_are_a_column_too():
    found = judged(["source"]).tables["test/subgroups.csv"]
    assert found["value"].tolist() == ["all", "x", "y"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("auto", ["view", "age"]), ("none", []), ("Age, ward", ["age", "ward"]), ("source,ward,ward", ["source", "ward"])],
)
def test_columns_as_they_are_asked_for(wanted, expected):
    table = pd.DataFrame(columns=["path", *map(attributes.column, ("ward", "age", "view"))])
    assert subgroups.columns(table, wanted) == expected


@pytest.mark.parametrize(("wanted", "named"), [("ages", "ages"), ("age,bone", "bone"), (",", "','")])
def test_an_unknown_column_is_an_error_that_names_those_there_are(wanted, named):
    table = pd.DataFrame(columns=["path", *map(attributes.column, ("ward", "age"))])
    with pytest.raises(FractureMaeError) as error:
        subgroups.columns(table, wanted)
    assert f"the data have no column {named}. Expected: any of ward, age, source, with commas" in str(error.value)
