import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from fracture_mae.data.types import XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import matching
from fracture_mae.metrics.balance import effective_size
from tests import builders

SOURCE = np.repeat(["even", "mostly broken", "all broken"], [120, 120, 30])


def shortcut_xrays(told_by_bytes=2.0, seed=0):
    """In one source labels hang on the size of files, in one on the source besides, in one all are fractured; pictures tell nothing."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=len(SOURCE))
    offset = np.select([SOURCE == "even", SOURCE == "mostly broken"], [0, 1.5], np.inf)
    label = (rng.random(len(SOURCE)) < 1 / (1 + np.exp(-told_by_bytes * size - offset))).astype(int)
    made = builders.xrays("train", np.zeros(len(SOURCE), int))
    names = np.where(label == 1, "fractured", "not fractured")
    table = made.table.assign(label=label, label_name=names, source=SOURCE, bytes=(10_000 + 2000 * size).astype(int))
    return XRays("train", table, made.pixels, made.rows)


def small_forest(seed):
    return make_pipeline(RandomForestClassifier(40, min_samples_leaf=5, random_state=seed))


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching.references, "forest", small_forest)
        yield


@pytest.fixture(scope="module")
def matched():
    return matching.match_properties(shortcut_xrays(), seed=0)


def test_what_told_the_label_tells_it_no_more(matched):
    told = matched.summary
    assert told["auroc_before"] > 0.8
    assert 0.38 < told["auroc_after"] < 0.62
    size = matched.differences.set_index("property").loc["file size"]
    assert size["before"] > 1
    assert abs(size["after"]) < size["before"] / 3


def test_labels_weigh_the_same_in_each_source_and_a_source_of_one_label_nothing(matched):
    mass = matched.files.groupby(["source", "label"])["weight"].sum().unstack()
    np.testing.assert_allclose(mass[0]["even"], mass[1]["even"])
    np.testing.assert_allclose(mass[0]["mostly broken"], mass[1]["mostly broken"])
    assert mass[1]["all broken"] == 0
    by_source = matched.differences.set_index("property")["after"].filter(like="source ")
    np.testing.assert_allclose(by_source, 0, atol=1e-12)


def test_what_is_lost_is_said(matched):
    told, weight = matched.summary, matched.weight
    label = matched.files["label"].to_numpy()
    assert told["xrays_lost"] >= 30
    assert told["effective_xrays_positive"] == pytest.approx(effective_size(weight[label == 1]))
    assert told["effective_xrays_positive"] < told["n_xrays_positive"] == label.sum()
    assert weight.mean() == pytest.approx(1)
    report = matched.report()
    assert set(report.tables) == {"data/matching.csv", "data/matching_balance.csv"}
    assert report.tags["match.lost"] == f"{told['files_lost']:.0f} files, {told['xrays_lost']:.0f} X-rays"
    assert f"{told['auroc_after']:.3f}" in report.tags["match"]


def test_the_propensity_is_of_xrays_that_the_forest_does_not_know():
    """Labels by chance: who knows them by heart has propensities near 0 and 1; who does not weighs all alike."""
    made = shortcut_xrays(told_by_bytes=0)
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, len(made))
    random = XRays("train", made.table.assign(label=label, source="one"), made.pixels, made.rows)
    found = matching.match_properties(random, seed=0)
    assert found.files["propensity"].between(0.3, 0.7).all()
    assert effective_size(found.weight) > 0.95 * len(random)


def test_files_of_an_xray_share_its_weight():
    made = shortcut_xrays()
    twice = made.subset(np.concatenate([np.arange(len(made)), np.flatnonzero(made.label == 1)]))
    found = matching.match_properties(twice, seed=0)
    mass = found.files.assign(even=1 / found.files.groupby("group")["group"].transform("size"))
    mass = (mass["weight"] * mass["even"]).groupby(mass["label"]).sum()
    assert mass[0] == pytest.approx(mass[1])  # X-rays count, not files
    by_file = matching.match_properties(twice, seed=0, by_file=True)
    mass = by_file.files.groupby("label")["weight"].sum()
    assert mass[0] == pytest.approx(mass[1])


def test_what_cannot_be_matched_is_a_sentence():
    apart = shortcut_xrays()
    source = np.where(apart.label == 1, "here", "there")
    apart = XRays("train", apart.table.assign(source=source), apart.pixels, apart.rows)
    with pytest.raises(FractureMaeError, match=r"--match properties: .* from 2 sources, 0\.0% .* --match none"):
        matching.match_properties(apart, seed=0)
    with pytest.raises(FractureMaeError, match="--match properties: X-rays found in train"):
        matching.match_properties(builders.xrays("train", [0, 0, 0, 0, 1, 1, 1]), seed=0)
