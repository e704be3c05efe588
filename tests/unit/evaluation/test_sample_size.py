import numpy as np
import pandas as pd
import pytest

from fracture_mae.evaluation import sample_size
from fracture_mae.metrics.sample_size import auroc_correlation


def metrics(auroc=(0.8, 0.7, 0.9), sensitivity=(0.75, 0.65, 0.85), specificity=(1.0, 0.8, 1.0)):
    rows = [("auroc", *auroc), ("sensitivity", *sensitivity), ("specificity", *specificity), ("brier", 0.2, 0.1, 0.3)]
    return pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])


def predictions(seed=0, n=60):
    label = np.tile([0, 1, 1], n // 3)
    logit = np.random.default_rng(seed).normal(size=n) + label
    return pd.DataFrame({"label": label, "logit": logit, "group": [f"g{number:03d}" for number in range(n)]})


def judged(table=None, beside=None):
    return sample_size.judge(predictions(), metrics() if table is None else table, beside or {}, "test")


def test_widths_at_twice_and_four_times_the_xrays():
    found = judged().tables["test/sample_size.csv"].set_index("times")
    assert found["n_xrays"].tolist() == [60, 120, 240]
    assert found["n_fractured"].tolist() == [40, 80, 160]
    assert found["auroc_width"].tolist() == pytest.approx([0.2, 0.2 / np.sqrt(2), 0.1])
    assert found["specificity_low"].tolist() == pytest.approx([0.8, np.sqrt(0.8), 0.8**0.25])
    assert (found.loc[1, "auroc_low"], found.loc[1, "auroc_high"]) == (0.7, 0.9)
    assert found["power"].is_monotonic_increasing
    assert judged().metrics["test/sample_size/auroc_width/4_times"] == pytest.approx(0.1)


def test_a_better_one_is_thought_to_be_as_alike_as_the_reference_that_is_most_so():
    files = predictions()
    like = files.assign(logit=files["logit"] + 0.3 * predictions(1)["logit"])
    found = judged(beside={"unlike": predictions(2), "alike": like})
    expected = auroc_correlation(files["label"], files["logit"], like["logit"], files["group"])
    assert found.tables["test/sample_size.csv"].loc[0, "correlation"] == pytest.approx(expected)
    assert f"(correlation {expected:.2f}, as with alike)" in found.tags["sample_size.test"]
    assert "(correlation 0.50, assumed)" in judged().tags["sample_size.test"]
    power = [each.metrics["test/sample_size/power/1_times"] for each in (judged(), found)]
    assert power[0] < power[1]  # the more alike, the easier to compare
    needed = [each.metrics["test/sample_size/n_xrays_for_power_0.8"] for each in (judged(), found)]
    assert needed[0] > needed[1]


def test_all_of_it_is_a_sentence():
    told = sample_size.digest(judged(), "test")
    assert told.startswith(
        "how many X-rays, test: with 60 / 120 / 240 X-rays like these 95 % intervals are AUROC 0.20 / 0.14 / 0.10, sensitivity 0.20 / "
        "0.14 / 0.10, specificity 0.20 / 0.11 / 0.05 wide; a gain of 0.05 in AUROC would be seen in "
    )


@pytest.mark.parametrize(
    ("auroc", "reason"),
    [((0.96, 0.9, 0.99), "there is no room for it"), ((0.8, np.nan, np.nan), "the AUROC has no interval")],
)
def test_where_no_gain_can_be_seen_it_says_why(auroc, reason):
    found = judged(metrics(auroc=auroc))
    assert found.tags["sample_size.test"].endswith(f"would be seen cannot be said: {reason}")
    assert not any("power" in name for name in found.metrics)


def test_of_one_class_alone_its_rate_is_told():
    nothing = (np.nan, np.nan, np.nan)
    found = sample_size.judge(predictions().assign(label=1), metrics(nothing, specificity=nothing), {}, "external")
    assert "95 % intervals are sensitivity 0.20 / 0.14 / 0.10 wide" in found.tags["sample_size.external"]
    assert "auroc_width" not in str(list(found.metrics))
