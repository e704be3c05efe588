import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from fracture_mae.audit import shortcuts
from fracture_mae.evaluation import properties, references

N_XRAYS, N_COPIES = 60, 2


def made(**told):
    """The table and both sets of properties of files of which nothing tells the label but what `told` gives."""
    rng = np.random.default_rng(0)
    n = N_XRAYS * N_COPIES
    label, group = np.tile([0, 1], n // 2), np.arange(n) % N_XRAYS
    columns = [*properties.SIZE, *properties.ENCODING, *properties.BORDER]
    of_file = pd.DataFrame(rng.random((N_XRAYS, len(columns)))[group], columns=columns)
    visible = pd.DataFrame(rng.random((N_XRAYS, len(properties.VISIBLE)))[group], columns=list(properties.VISIBLE))
    table = pd.DataFrame({"label": label, "group": [f"g{member}" for member in group], "source": "one"})
    for name, change in told.items():
        name = name.replace("_", " ")
        part = next(part for part in (table, of_file, visible) if name in part)
        part[name] = change(label)
    return table, of_file, visible


@pytest.fixture(scope="module", autouse=True)
def _small_forests():
    """A tenth of the trees, in a tenth of the time."""

    def forest(seed):
        return make_pipeline(RandomForestClassifier(30, min_samples_leaf=5, random_state=seed))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(references, "forest", forest)
        yield


@pytest.fixture(scope="module")
def planted():
    """Files of fractured X-rays are larger; the picture shows nothing of it, but the first property's rank."""
    table, of_file, visible = made(file_size=lambda label: 1000 + 500 * label)
    visible["sharpness"] = of_file["height"] * 2
    return shortcuts.probe(table, of_file, visible, 5, 0)


def test_a_planted_shortcut_is_found(planted):
    assert planted.scores[shortcuts.FILE]["xray"].auroc > 0.95
    assert planted.scores["file and picture size"]["image"].auroc > 0.95
    best = planted.properties[planted.properties["set"] == shortcuts.FILE].iloc[0]
    assert best["property"] == "file size"
    assert best["importance"] > 0.3
    assert best["auroc_alone"] == 1
    assert planted.warning.startswith(
        "the label can be guessed without looking at a bone, from file and border properties (AUROC"
    )


def test_where_it_is_not_it_is_not_found(planted):
    for name in ("encoding", "border and corners", shortcuts.VISIBLE):
        score = planted.scores[name]["xray"]
        assert score.low < 0.5 < 0.65 > score.auroc
    assert planted.scores[shortcuts.SOURCE]["xray"].auroc == 0.5  # there is but one
    assert "preprocessed" not in planted.warning


def test_what_the_pixels_still_show_is_told(planted):
    seen = planted.properties[planted.properties["set"] == shortcuts.FILE].set_index("property")["visible"]
    assert seen["height"] > 0.8
    assert seen["width"] < 0.2


@pytest.mark.slow
def test_without_a_shortcut_there_is_no_warning():
    table, of_file, visible = made()
    found = shortcuts.probe(table, of_file, visible, 5, 0)
    assert found.warning == ""
    # Among 60 X-rays chance alone comes to 0.13, what is planted to over 0.3.
    assert found.properties["importance"].max() < 0.2


@pytest.mark.slow
def test_what_is_left_in_the_pixels_is_warned_of():
    table, of_file, visible = made(corner_brightness=lambda label: label / 2)
    visible["corner brightness"] = of_file["corner brightness"]
    found = shortcuts.probe(table, of_file, visible, 5, 0)
    assert "what is left of them in the preprocessed pixels (AUROC per X-ray 1.000" in found.warning


@pytest.mark.slow
def test_properties_that_never_vary_are_no_error():
    table, of_file, visible = made(channels=lambda label: 1.0)
    found = shortcuts.probe(table, of_file, visible, 3, 0).properties.set_index(["set", "property"])
    row = found.loc[(shortcuts.FILE, "channels")]
    assert (row["importance"], row["auroc_alone"]) == (0, 0.5)
    assert np.isnan(row["visible"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_answer():
    first, second = (shortcuts.probe(*made(), 3, 1) for _ in range(2))
    assert first.scores == second.scores
    pd.testing.assert_frame_equal(first.properties, second.properties)


@pytest.mark.parametrize("rows", [1, 150])
def test_importance_does_not_depend_on_how_many_copies_are_scored_at_once_and_these_are_bounded(monkeypatch, rows):
    rng = np.random.default_rng(0)
    features, label, weight = rng.random((70, 3)), np.arange(70) % 2, np.ones(70)
    features[:, 1] += label
    model = make_pipeline(RandomForestClassifier(10, random_state=0)).fit(features, label)
    whole = shortcuts._falls(model, features, label, weight, 0)
    at_once = []
    logit = references.logit
    monkeypatch.setattr(references, "logit", lambda model, x: at_once.append(len(x)) or logit(model, x))
    monkeypatch.setattr(shortcuts, "_ROWS", rows)
    np.testing.assert_array_equal(shortcuts._falls(model, features, label, weight, 0), whole)
    assert max(at_once) <= max(rows, 70)
    assert whole.argmax() == 1
