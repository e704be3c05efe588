import numpy as np
import pandas as pd
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import training_seeds
from fracture_mae.evaluation.judging import Certainty, judge_split
from fracture_mae.evaluation.training_seeds import REGISTERED, OtherSeeds
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.seeds import over_seeds
from fracture_mae.models import classifier as classifier_model
from fracture_mae.tracking.report import Report

DECISION = Decision(("not fractured", "fractured"))
CERTAINTY = Certainty(100, 0)


def predictions(n_wrong, n=60):
    """X-rays with a file each, alternately fractured; of the first of each label are `n_wrong` taken for the other."""
    label = np.arange(n) % 2
    wrong = np.arange(n) < 2 * n_wrong
    names = [f"{number:03d}" for number in range(n)]
    columns = {"path": names, "sha256": names, "group": names, "patient": names, "source": "made"}
    return pd.DataFrame({**columns, "label": label, "logit": np.where(wrong, -1.0, 1.0) * (2 * label - 1)})


def judged(**n_wrong):
    given = {name: (predictions(n), DECISION) for name, n in n_wrong.items()}
    return training_seeds.judge(given, "test", "", CERTAINTY)


def test_the_mean_over_seeds_with_other_xrays_and_other_seeds_in_its_interval():
    report = judged(**{REGISTERED: 3, "1": 6, "2": 9})
    over = report.tables["test/xray/over_seeds.csv"].set_index("metric")
    assert over.loc["sensitivity", ["estimate", "sd", "n_seeds"]].tolist() == pytest.approx([0.8, 0.1, 3])
    alone = [
        judge_split(predictions(n), DECISION, "test", "", CERTAINTY).tables["test/xray/metrics.csv"] for n in (3, 6, 9)
    ]
    rows = pd.concat(table.set_index("metric").loc[["sensitivity"]] for table in alone)
    expected = over_seeds(rows["estimate"], rows["low"], rows["high"])
    assert over.loc["sensitivity", ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert over.loc["sensitivity", "low"] < 0.8 - (rows["estimate"] - rows["low"]).mean()
    assert report.metrics["test/xray/over_seeds/sensitivity_sd"] == pytest.approx(0.1)
    assert report.tables["test/xray/seeds.csv"]["seed"].tolist() == [REGISTERED, "1", "2"]
    assert report.tables["test/xray/seeds.csv"]["sensitivity"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert set(report.figures) == {"test/xray/seeds.png"}
    assert "mean over 3 training seeds" in training_seeds.digest(report, "test")
    assert "sensitivity 0.800 [" in training_seeds.digest(report, "test")


def test_of_one_training_nothing_is_told():
    report = judged(**{REGISTERED: 3})
    assert report == Report()
    assert training_seeds.digest(report, "test") == ""


def test_too_few_xrays_have_no_interval_over_seeds():
    given = {name: (predictions(n, n=16), DECISION) for name, n in ((REGISTERED, 1), (1, 2))}
    report = training_seeds.judge(given, "test", "", CERTAINTY)
    over = report.tables["test/xray/over_seeds.csv"].set_index("metric")
    assert over.loc["auroc", ["low", "high"]].isna().all()
    assert "test/xray/over_seeds/auroc_low" not in report.metrics
    assert "n too small" in training_seeds.digest(report, "test")


@pytest.fixture
def folder(tmp_path, tiny_mae):
    networks = {seed: classifier_model.from_mae(tiny_mae, pool="cls", drop_path=0.0, seed=seed) for seed in (10, 9)}
    for seed, network in networks.items():
        network.head.weight.data.fill_(seed)
    OtherSeeds({seed: (network, DECISION) for seed, network in networks.items()}).save(tmp_path)
    return tmp_path


def test_they_come_back_in_their_order(folder):
    (folder / "seeds" / ".DS_Store").write_bytes(b"")
    found = list(training_seeds.load(folder))
    assert [seed for seed, _, _ in found] == [9, 10]
    assert [float(network.head.weight.detach().mean()) for _, network, _ in found] == [9, 10]
    assert all(decision == DECISION for _, _, decision in found)
    assert list(training_seeds.load(folder / "elsewhere")) == []


def test_a_damaged_one_is_told(folder):
    (folder / "seeds" / "9" / "model.safetensors").write_bytes(b"")
    with pytest.raises(FractureMaeError, match="damaged"):
        list(training_seeds.load(folder))
