import numpy as np
import pytest

from fracture_mae.evaluation import accepted
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from tests import builders

DECISION = Decision(("not fractured", "fractured"))
CERTAINTY = Certainty(100, 0)


class ByNumber:
    """A gate of which each picture's distance is known."""

    def __init__(self, distances):
        self.distances = np.asarray(distances)

    def distance(self, described):
        return self.distances

    def accepts(self, distance):
        return distance <= 0

    def farther_than(self, distance):
        return distance.clip(0, 1)

    def reasons(self, distance):
        return ["" if each <= 0 else f"at {each:g}" for each in distance]

    def __str__(self):
        return "refuses what lies above 0"


@pytest.fixture
def judge(tiny_mae, accelerator, monkeypatch):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0)
    monkeypatch.setattr(accepted, "described", lambda *_, **__: None)

    def judged(predictions, xrays, gate):
        options = {"batch_size": 8, "accelerator": accelerator}
        return accepted.judge(predictions, xrays, gate, network, DECISION, CERTAINTY, **options)

    return judged


@pytest.fixture
def test_xrays():
    """20 X-rays of two sources; every answer is right but those for the first two, which lie farthest."""
    xrays = builders.xrays("test", builders.LABEL[:20])
    xrays.table["source"] = np.repeat(["a", "b"], 10)
    logit = np.where(builders.LABEL[:20] == 1, 2.0, -2.0) * np.where(np.arange(20) < 2, -1, 1)
    return xrays, xrays.table.assign(logit=logit)


def test_refused_files_are_listed_the_farthest_first_and_counted_by_source(judge, test_xrays):
    xrays, predictions = test_xrays
    distance = np.full(20, -1.0)
    distance[[0, 1, 15]] = 0.5, 0.9, 0.2
    report = judge(predictions, xrays, ByNumber(distance))
    refused = report.tables["test/refused.csv"]
    assert refused["path"].tolist() == [f"/test/{i}.png" for i in (1, 0, 15)]
    assert refused["farther_than"].tolist() == [0.9, 0.5, 0.2]
    assert refused["reason"].tolist() == ["at 0.9", "at 0.5", "at 0.2"]
    by_source = report.tables["test/refused_by_source.csv"].set_index("source")
    assert by_source["n_refused"].to_dict() == {"all": 3, "a": 2, "b": 1}
    assert by_source["n_files"].to_dict() == {"all": 20, "a": 10, "b": 10}
    assert by_source["n_xrays_refused"].to_dict() == {"all": 3, "a": 2, "b": 1}
    assert report.metrics["test/refused_share"] == 3 / 20
    assert report.metrics["test/n_refused"] == 3


def test_figures_at_accepted_xrays_stand_beside_those_at_all(judge, test_xrays):
    xrays, predictions = test_xrays
    report = judge(predictions, xrays, ByNumber(np.where(np.arange(20) < 2, 1.0, -1.0)))
    table = report.tables["test/accepted.csv"].set_index("metric")
    assert table.loc["sensitivity", ["estimate", "all_estimate"]].tolist() == [1, 0.9]
    assert table.loc["specificity", ["estimate", "all_estimate"]].tolist() == [1, 0.9]
    assert report.metrics["test/accepted/xray/sensitivity"] == 1
    assert "test/xray/sensitivity" not in report.metrics  # the plain figures are judged elsewhere, and stay as they are
    printed = accepted.digest(report, "test")
    assert "gate, test: 2 of 20 files refused (10.0%); source a: 2 of 10" in printed
    assert "at the accepted X-rays: AUROC 1.000" in printed


def test_an_xray_is_accepted_where_one_of_its_files_is(judge):
    xrays = builders.xrays("test", [0, 0, 1, 1], group=[0, 0, 1, 1])
    predictions = xrays.table.assign(logit=[3.0, -1.0, 1.0, 1.0])
    report = judge(predictions, xrays, ByNumber([1.0, -1.0, 1.0, 1.0]))
    table = report.tables["test/accepted.csv"].set_index("metric")
    assert table.loc["specificity", ["estimate", "all_estimate"]].tolist() == [1, 0]  # without the file that says 3
    assert report.tables["test/refused_by_source.csv"].loc[0, ["n_xrays", "n_xrays_refused"]].tolist() == [2, 1]


@pytest.mark.parametrize("distance", [-1.0, 1.0])
def test_none_or_all_may_be_refused(judge, test_xrays, distance):
    xrays, predictions = test_xrays
    report = judge(predictions, xrays, ByNumber(np.full(20, distance)))
    assert len(report.tables["test/refused.csv"]) == (20 if distance > 0 else 0)
    assert ("test/accepted.csv" in report.tables) == (distance < 0)
    share = "20 of 20 files refused (100.0%)" if distance > 0 else "0 of 20 files refused (0.0%)"
    assert accepted.digest(report, "test").startswith(f"gate, test: {share}")


def test_without_a_gate_it_says_so(judge, test_xrays):
    xrays, predictions = test_xrays
    report = judge(predictions, xrays, None)
    assert (report.metrics, report.tables) == ({}, {})
    assert accepted.digest(report, "test").startswith("gate: none: this classifier was made before there was one")
