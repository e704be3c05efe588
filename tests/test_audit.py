"""The audit of a data set as a user starts it, on small synthetic ones with copies, conflicts and without splits."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from fracture_mae.data import loading
from tests.unit.pages.elements import Elements, fetched
from tests.workplace import Workplace, given

pytestmark = pytest.mark.slow
SMALL = {"data_dir": "synthetic:n_xrays=40,copies=1,size=96", "image_size": 64, "n_folds": 3}
FIGURES = ("group_sizes", "largest_groups", "leakage", "leaky_vs_honest", "linked_pairs", "shortcuts")
TABLES = (
    "groups",
    "independent_xrays",
    "label_conflicts",
    "leakage",
    "links",
    "rejected",
    "scores",
    "shortcut_properties",
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("audit") / "place").create()


@pytest.fixture(scope="module")
def audited(workplace):
    """The finished run and what it printed."""
    done = workplace.mlflow("run", ".", "-e", "audit_data", *given(SMALL))
    assert done.returncode == 0, done.stderr
    return workplace.runs("fracture-mae")[-1], done


def artifact(run, name):
    return Path(run.info.artifact_uri, name)


def table(run, name):
    return pd.read_csv(artifact(run, f"{name}.csv"), keep_default_na=False)


def truth(workplace):
    """Path → X-ray, as the maker of the synthetic files noted it."""
    (file,) = workplace.root.glob("cache/synthetic/*/groups.csv")
    made = pd.read_csv(file)
    return pd.Series(made["xray"].to_numpy(), index=made["path"].map(lambda path: str(file.parent / path)))


def test_everything_is_logged(audited):
    run, done = audited
    assert run.info.status == "FINISHED"
    assert all(artifact(run, f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in FIGURES)
    assert all(artifact(run, f"{name}.csv").stat().st_size for name in TABLES)
    assert run.inputs.dataset_inputs[0].dataset.name == "synthetic"
    assert "independent X-rays" in run.data.tags["mlflow.note.content"]
    assert run.data.params["n_folds"] == "3"
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_the_page_holds_what_was_found(audited):
    run, done = audited
    page = artifact(run, "report.html").read_text(encoding="utf-8")
    found = Elements(page)
    assert f"to read: {artifact(run, 'report.html')}" in done.stdout
    assert "/artifacts/report.html)" in run.data.tags["mlflow.note.content"]
    assert found.of("h2") == [
        *("What was asked", "How many X-rays", "Leakage between published splits", "Labels in conflict"),
        *("What a leaky split would claim", "What the label can be guessed from", "Boxes, markers and overlays"),
        *("Links to be checked by eye", "How to repeat it"),  # no file was rejected
    ]
    assert found.tags.count("img") >= len(FIGURES)
    assert "gradient histograms, grouped split" in found.of("td")
    assert any(f"{run.data.metrics['honest/auroc']:.3f} [" in cell for cell in found.of("td"))
    assert f"mlflow run . -e audit_data -P data_dir={SMALL['data_dir']} -P " in page
    assert fetched(page) == []


def test_x_rays_without_lettering_carry_no_marker(audited):
    run, done = audited
    assert "same marker on different X-rays: none" in done.stdout
    assert run.data.metrics["same_marker/n_pairs"] == 0
    assert json.loads(artifact(run, "audit.json").read_text())["same_marker"]["pairs"] == []
    assert not artifact(run, "patients.csv").exists()


def test_groups_are_the_true_ones(audited, workplace):
    groups, true = table(audited[0], "groups"), truth(workplace)
    assert len(groups) == len(true) == audited[0].data.metrics["n_files"]
    by_truth = groups.groupby(groups["path"].map(true))["group"].nunique()
    by_group = groups["path"].map(true).groupby(groups["group"]).nunique()
    assert by_truth.max() == by_group.max() == 1
    assert audited[0].data.metrics["n_xrays"] == 40


def test_leakage_is_the_true_one(audited, workplace):
    true = truth(workplace)
    split = pd.Series([Path(path).parts[-3] for path in true.index], index=true.index)
    seen = true[split == "test"].isin(true[split == "train"]).mean()
    assert audited[0].data.metrics["leakage/test_in_train/same_X_ray"] == pytest.approx(seen)
    assert seen > 0


def test_other_entry_points_see_the_same_xrays(audited, workplace, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", workplace.environment["FRACTURE_MAE_CACHE"])
    dataset = loading.load(SMALL["data_dir"], image_size=64, split="published")
    run, _ = audited
    assert run.data.tags["data.fingerprint"] == dataset.fingerprint
    assert run.data.tags["leakage"] == str(dataset.leakage)
    groups = table(run, "groups").set_index("path")["group"]
    assert dataset.index.set_index("path")["group"].to_dict() == groups.to_dict()


def test_audit_json_holds_the_numbers_of_the_run(audited):
    run, _ = audited
    document = json.loads(artifact(run, "audit.json").read_text())
    assert document["data"]["fingerprint"] == run.data.tags["data.fingerprint"]
    assert document["files"]["xrays"] == 40
    assert document["claims"]["leaky"]["image"]["auroc"] == run.data.metrics["leaky/auroc"]
    assert document["claims"]["honest"]["image"]["auroc"] == run.data.metrics["honest/auroc"]
    assert len(document["claims"]["leaky"]["image"]["folds"]) == 3
    assert (document["shortcuts"]["warning"] or "none") == run.data.tags["shortcut_warning"]


def test_the_terminal_shows_the_main_numbers(audited):
    run, done = audited
    assert f"{run.data.metrics['n_files']:.0f} readable files" in done.stdout
    assert "gradient histograms, random split by file" in done.stdout
    assert "shortcut warning: " in done.stdout


def folder_of(workplace, name):
    """The synthetic files in label folders, without splits, by names of their own."""
    folder = workplace.root / name
    for number, path in enumerate(sorted(truth(workplace).index)):
        label = Path(path).parts[-2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / label / f"{number:04}{Path(path).suffix}")
    return folder


def test_names_and_splits_are_not_needed_and_conflicts_are_listed(audited, workplace):
    folder = folder_of(workplace, "nameless")
    twice = min((folder / "fractured").iterdir())
    shutil.copy(twice, folder / "not fractured" / "twice.jpg")
    (folder / "fractured" / "broken.jpg").write_bytes(b"no picture")
    done = workplace.python("audit_data", **SMALL | {"data_dir": folder})
    assert done.returncode == 0, done.stderr
    assert "leakage: no published splits" in done.stdout
    run = workplace.runs("fracture-mae")[-1]
    assert run.data.metrics["n_xrays"] == 40
    assert "leakage/test_in_train/same_X_ray" not in run.data.metrics
    assert not artifact(run, "leakage.png").exists()
    assert {Path(path).name for path in table(run, "label_conflicts")["path"]} >= {twice.name, "twice.jpg"}
    assert [Path(path).name for path in table(run, "rejected")["path"]] == ["broken.jpg"]


def test_too_few_xrays_end_as_a_sentence_after_what_could_be_told(audited, workplace):
    done = workplace.python("audit_data", **SMALL | {"data_dir": "synthetic:n_xrays=6,size=64", "n_folds": 5})
    assert done.returncode == 1
    assert "--n-folds 5: independent X-rays found: 'fractured': 3, 'not fractured': 3" in done.stderr
    assert "Traceback" not in done.stderr
    run = workplace.runs("fracture-mae")[-1]
    assert run.info.status == "FAILED"
    assert artifact(run, "groups.csv").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"fractured/1.jpg": b"x"}, "Expected: exactly two, one of them the positive class 'fractured'"),
        ({"fractured/1.jpg": b"x", "not fractured/2.jpg": b""}, "none of the 2 files can be used"),
    ],
)
def test_unusable_data_end_as_a_sentence(audited, workplace, tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    done = workplace.python("audit_data", **SMALL | {"data_dir": tmp_path})
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
