import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from fracture_mae.data.folds import assign
from fracture_mae.data.held_out_sources import HeldOutSources
from fracture_mae.evaluation import held_out_sources, linear_probe, references
from fracture_mae.evaluation.held_out_sources import Answers, judge
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.strata import Strata
from tests import builders

CERTAINTY = Certainty(n_draws=200, seed=0)
COUNTS = {"A": (5, 5), "B": (5, 5), "C": (0, 2), "D": (4, 0)}
LABEL = np.array([0] * 5 + [1] * 5 + [0] * 5 + [1] * 5 + [1] * 2 + [0] * 4)
SOURCE = np.repeat(list(COUNTS), [10, 10, 2, 4])


def rows(probability):
    """A row per X-ray; a file each."""
    return pd.DataFrame({"group": [f"x{i:02}" for i in range(26)], "label": LABEL, "probability": probability})


def sources():
    whole = builders.of_sources(COUNTS)
    return HeldOutSources.of(builders.split_dataset(whole, validation=range(0, 26, 5), test=[])).sources


@pytest.fixture(scope="module")
def judged():
    """Held out, the order in A is right and that in B is wrong; C is told from nothing, D is taken for fractured, like B's worst."""
    held_out = np.select(
        [SOURCE == "A", SOURCE == "B", SOURCE == "C"], [0.2 + 0.6 * LABEL, 0.9 - 0.8 * LABEL, 0.5], 0.9
    )
    xrays = pd.DataFrame({"group": rows(0.0)["group"], "source": SOURCE})
    both = Answers(rows(held_out), rows(0.1 + 0.8 * LABEL))
    return judge({"classifier": both}, xrays, sources(), CERTAINTY, "seen before")


def test_figures_by_hand(judged):
    table = judged.tables["held_out_sources/comparison.csv"].set_index("source")
    assert table.index.tolist() == ["A", "B", "C", "D", "all, pooled", "mean of sources"]
    assert table.loc[["A", "B", "mean of sources"], "auroc"].tolist() == [1, 0, 0.5]
    # Fractured: 5 at 0.8, 5 at 0.1, 2 at 0.5. The others: 5 at 0.2, 9 at 0.9. So 5 + 2 of twelve beat 5 of fourteen.
    assert table.loc["all, pooled", "auroc"] == pytest.approx(7 * 5 / (12 * 14))
    assert table.loc[["A", "B", "all, pooled", "mean of sources"], "auroc_folds"].tolist() == [1, 1, 1, 1]
    assert table.loc[["A", "B", "mean of sources"], "fall"].tolist() == [0, 1, 0.5]
    assert table.loc["all, pooled", "fall"] == pytest.approx(1 - 35 / 168)
    assert table.loc["all, pooled", "fall_low"] < 1 - 35 / 168 < table.loc["all, pooled", "fall_high"]
    assert table["n_groups"].tolist() == [10, 10, 2, 4, 26, 20]
    assert table["n_positive"].tolist() == [5, 5, 2, 0, 12, 10]


def test_the_interval_of_the_mean_is_over_sources_and_ends_where_an_auroc_does(judged):
    row = judged.tables["held_out_sources/comparison.csv"].set_index("source").loc["mean of sources"]
    assert row[["auroc_low", "auroc_high"]].tolist() == [
        0,
        1,
    ]  # of two sources, one right and one wrong, nothing follows
    assert row[["fall_low", "fall_high"]].tolist() == [-1, 1]
    alone = pd.DataFrame({"auroc": [0.6, 0.65, 0.7]})
    reach = 4.302653 * 0.05 * np.sqrt(1 / 3 + 1 / 2)  # Student's 97.5 % quantile for two degrees of freedom
    found = held_out_sources._mean(alone)
    assert [found["auroc_low"], found["auroc_high"]] == pytest.approx([0.65 - reach, 0.65 + reach])


def test_sources_of_one_class_join_all_and_say_why(judged):
    table = judged.tables["held_out_sources/comparison.csv"].set_index("source")
    assert table.loc[["C", "D"], "auroc"].isna().all()
    assert table["not_alone"].tolist() == ["", "", "positive ones alone", "negative ones alone", "", ""]
    printed = held_out_sources.digest(judged)
    assert "C (2 X-rays, positive ones alone); D (4 X-rays, negative ones alone)" in printed
    assert "not run" not in printed
    assert "Take the mean of sources home" in printed
    line = next(line for line in printed.splitlines() if "all, pooled" in line)
    assert line.split()[2:4] == ["26", "0.208"]


def test_metrics_have_names(judged):
    assert judged.metrics["held_out_sources/xray/auroc/B/classifier"] == 0
    assert judged.metrics["held_out_sources/xray/auroc_folds/all/classifier"] == 1
    assert judged.metrics["held_out_sources/xray/fall/mean/classifier"] == 0.5
    assert {f"held_out_sources/xray/auroc/all/classifier{end}" for end in ("_low", "_high")} <= set(judged.metrics)
    assert all(np.isfinite(value) for value in judged.metrics.values())


@pytest.mark.filterwarnings("error")
def test_the_figure_shows_both(judged, tmp_path):
    figure = judged.figures["held_out_sources/classifier.png"]
    words = [text.get_text() for text in figure.findobj(Text)]
    assert {"A · held out", "A · ordinary folds", "all, pooled · held out"} <= set(words)
    assert any("4 sources, each held out · per X-ray · 26 files of 26 X-rays\nseen before" in text for text in words)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_without_ordinary_folds_it_says_how_to_have_them():
    xrays = pd.DataFrame({"group": rows(0.0)["group"], "source": SOURCE})
    found = judge({"classifier": Answers(rows(0.1 + 0.8 * LABEL))}, xrays, sources(), CERTAINTY)
    assert "Ordinary folds: not run (cross_validate=5,sources runs both)." in held_out_sources.digest(found)
    assert not any("fall" in name for name in found.metrics)


@pytest.mark.filterwarnings("error")
def test_where_no_source_can_be_judged_alone_all_together_can():
    nobody = sources().assign(not_alone="fewer than 5 of one")
    xrays = pd.DataFrame({"group": rows(0.0)["group"], "source": SOURCE})
    found = judge({"classifier": Answers(rows(0.1 + 0.8 * LABEL))}, xrays, nobody, CERTAINTY)
    table = found.tables["held_out_sources/comparison.csv"].set_index("source")
    assert table.loc["all, pooled", "auroc"] == 1
    assert np.isnan(table.loc["mean of sources", "auroc"])


@pytest.fixture(scope="module")
def marked():
    """Four sources, whose X-rays are told apart by a mark of their own."""
    whole = builders.of_sources({"A": (24, 24), "B": (20, 20), "C": (16, 16), "D": (16, 16)})
    return HeldOutSources.of(builders.split_dataset(whole, validation=range(0, len(whole), 5), test=[]))


def test_a_mark_that_one_source_has_promises_what_no_other_source_keeps(marked, monkeypatch):
    name = references.GRADIENT_HISTOGRAMS
    only = {name: references.models(0)[name]}
    monkeypatch.setattr(references, "models", lambda seed: only)
    in_folds = references.out_of_fold(marked.xrays, assign(marked.xrays.table, 5, 0), seed=0)
    held_out = references.out_of_fold(marked.xrays, marked.fold, seed=0)
    models = {name: held_out_sources.answers(held_out[name], in_folds[name])}
    found = judge(models, marked.xrays.table, marked.sources, CERTAINTY)
    table = found.tables["held_out_sources/comparison.csv"].set_index("source")
    assert table.loc["all, pooled", "auroc_folds"] > 0.8
    assert table.loc[["all, pooled", "mean of sources"], "auroc"].max() < 0.5
    assert table.loc["all, pooled", "fall_low"] > 0.3


def test_a_head_on_features_never_sees_the_source_nor_do_its_settings(marked, monkeypatch):
    table = marked.xrays.table
    seen = []
    path = linear_probe._path

    def spy(features, rows, weight, penalties):
        seen.append(rows)
        return path(features, rows, weight, penalties)

    monkeypatch.setattr(linear_probe, "_path", spy)
    features = np.random.default_rng(0).normal(size=(len(table), 3))
    linear_probe.out_of_fold(features, table, marked.fold, seed=0, by_source=True)
    assert len(seen) == 4 * (3 + 1)
    for number in range(4):
        *inner, whole = seen[4 * number : 4 * number + 4]
        held_out = set(table["source"][marked.fold == number])
        assert set(whole["source"]) == set(table["source"]) - held_out
        for rows in inner:  # all files of a source that was not held out, or none
            assert set(rows["source"]) < set(whole["source"])
            assert len(rows) == whole["source"].isin(rows["source"]).sum()


def test_held_out_sources_are_judged_within_strata_too():
    table = rows(0.0)
    xrays = pd.DataFrame({"group": table["group"], "source": SOURCE})
    # One stratum for each source: within strata is then within sources.
    strata = Strata.of(table.assign(logit=0.0, source=SOURCE))
    found = judge({"classifier": Answers(rows(0.1 + 0.8 * LABEL))}, xrays, sources(), CERTAINTY, "", strata)
    told = found.tables["held_out_sources/comparison.csv"].set_index("source")["auroc_within_strata"]
    assert told[["A", "B", "all, pooled", "mean of sources"]].tolist() == [1] * 4
    assert found.metrics["held_out_sources/xray/auroc_within_strata/all/classifier"] == 1
    assert "within strata" in held_out_sources.digest(found)
    words = [text.get_text() for text in found.figures["held_out_sources/classifier.png"].findobj(Text)]
    assert "A · held out, within strata" in words
