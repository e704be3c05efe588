"""Cross-validation as a user starts it, whole, and killed between two folds."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests import builders
from tests.workplace import SMALL, Workplace, wait_until

pytestmark = pytest.mark.slow
K, EPOCHS = 3, 2
PARAMETERS = SMALL | {"encoder": "vit-mae-nano", "epochs": EPOCHS, "cross_validate": K}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("folds") / "project").create(searched=True)


def folds_of(workplace, parent):
    runs = workplace.runs("fracture-mae")
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def artifact(run, path):
    return Path(run.info.artifact_uri) / path


@pytest.fixture(scope="module")
def killed(workplace):
    """The run that was killed once its first fold was done."""
    process = workplace.start_python("train_classifier", **PARAMETERS)
    wait_until(lambda: list(workplace.root.glob("cache/checkpoints/*/result.json")), process)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return workplace.runs("fracture-mae")[0]


@pytest.fixture(scope="module")
def finished(workplace, killed):
    workplace.draws = True
    done = workplace.python("train_classifier", **PARAMETERS)
    workplace.draws = False
    assert done.returncode == 0, done.stderr
    (run,) = [
        run
        for run in workplace.runs("fracture-mae")
        if run.data.tags.get("entry_point") and run.info.status == "FINISHED"
    ]
    return run, done


def test_a_child_run_for_each_fold(workplace, finished):
    run, _ = finished
    folds = folds_of(workplace, run)
    assert [fold.info.run_name for fold in folds] == [f"fold {number} of {K}" for number in range(1, K + 1)]
    for fold in folds:
        assert fold.info.status == "FINISHED"
        history = workplace.store.get_metric_history(fold.info.run_id, "validation/xray/auroc")
        assert {point.step for point in history} >= set(range(1, EPOCHS + 1))
        assert 0 <= fold.data.metrics["held_out/xray/auroc"] <= 1
        assert artifact(fold, "learning_curves.png").read_bytes().startswith(b"\x89PNG")
        assert artifact(fold, "held_out/xray/roc.png").exists()


def test_finished_folds_are_not_trained_again(workplace, killed, finished):
    run, done = finished
    assert done.stdout.count(f"epoch 1/{EPOCHS}: ") == K - 1 + 1  # the other folds, and the classifier itself
    first, *others = folds_of(workplace, run)
    dead = folds_of(workplace, killed)
    assert first.data.tags["resumed_from"] == dead[0].info.run_id
    assert all("resumed_from" not in fold.data.tags for fold in others)
    closed = [workplace.store.get_run(each.info.run_id) for each in (killed, dead[-1])]
    assert {each.info.status for each in closed} <= {"FAILED", "FINISHED"}
    assert closed[0].info.status == "FAILED"
    assert not list(workplace.root.glob("cache/checkpoints/*/*"))  # nothing is left behind


def test_every_xray_but_those_of_test_is_predicted_once(finished):
    run, _ = finished
    table = pd.read_csv(artifact(run, "cross_validation/predictions.csv"))
    splits = pd.read_csv(artifact(run, "data/splits.csv")).drop_duplicates("sha256")
    assert sorted(table["sha256"]) == sorted(splits.loc[splits["split"] != "test", "sha256"])
    assert table.groupby("group")["fold"].nunique().eq(1).all()
    assert set(table["fold"]) == set(range(1, K + 1))


def test_pooled_metrics_means_and_figures(finished):
    run, done = finished
    for level in ("image", "xray"):
        metrics = run.data.metrics
        place = f"cross_validation/{level}"
        assert metrics[f"{place}/auroc_low"] <= metrics[f"{place}/auroc"] <= metrics[f"{place}/auroc_high"]
        assert (
            metrics[f"{place}/auroc_mean_low"] <= metrics[f"{place}/auroc_mean"] <= metrics[f"{place}/auroc_mean_high"]
        )
        for figure in ("roc", "folds", "confusion_matrix"):
            assert artifact(run, f"{place}/{figure}.png").read_bytes().startswith(b"\x89PNG")
        folds = pd.read_csv(artifact(run, f"{place}/folds.csv"))
        assert metrics[f"{place}/auroc_mean"] == pytest.approx(folds["auroc"].mean())
    assert "mean of folds" in done.stdout
    assert run.data.tags["cross_validation.encoder"] == "random weights, which saw no X-ray"


def test_the_classifier_of_the_ordinary_split_is_registered(workplace, finished):
    run, _ = finished
    challenger = workplace.store.get_model_version_by_alias("fracture-classifier", "challenger")
    assert challenger.run_id == run.info.run_id
    assert challenger.tags["split.fingerprint"] == run.data.tags["split.fingerprint"]
    assert {"validation/xray/auroc", "threshold"} <= set(run.data.metrics)


def test_too_many_folds_are_refused_by_the_flag(workplace):
    done = workplace.python(
        "train_classifier", **(PARAMETERS | {"data_dir": "synthetic:n_xrays=20,size=96", "cross_validate": 15})
    )
    assert done.returncode == 1
    assert "Error: --cross-validate 15: X-rays found in training and validation: " in done.stderr
    assert "Traceback" not in done.stderr


def test_xrays_are_weighed_and_taken_once_where_it_is_asked_for(workplace, finished):
    for entry_point, parameters in (
        ("train_classifier", {"encoder": "vit-mae-nano", "epochs": 1, "weight_by": "group", "seeds": 2}),
        ("finetune_mae", {"model": "vit-mae-nano", "epochs": 1, "n_figures": 0, "copies": "one"}),
        ("evaluate", {"references": False, "n_draws": 100, "copies": "one"}),
    ):
        done = workplace.python(entry_point, **SMALL, **parameters)
        assert done.returncode == 0, done.stderr
        run = [run for run in workplace.runs("fracture-mae") if run.data.tags.get("entry_point")][-1]  # and no child
        if entry_point == "train_classifier":
            assert run.data.params["sampler"] == "class"
            table = pd.read_csv(artifact(run, "validation/predictions.csv"))
            assert table.groupby("group")["weight"].sum().eq(1).all()
            assert [child.info.run_name for child in folds_of(workplace, run)] == ["seed 1"]
            assert "validation, mean over 2 training seeds" in done.stdout
        elif entry_point == "finetune_mae":
            assert run.data.metrics["train/n_images"] == run.data.metrics["train/n_xrays"]
        else:
            assert "one file per X-ray" in done.stdout
            assert "test, mean over 2 training seeds" in done.stdout
            seeds = pd.read_csv(artifact(run, "test/xray/seeds.csv"))
            assert seeds["seed"].tolist() == ["registered", "1"]
            assert seeds["auroc"].mean() == pytest.approx(run.data.metrics["test/xray/over_seeds/auroc"])
            assert artifact(run, "test/xray/seeds.png").read_bytes().startswith(b"\x89PNG")
            table = pd.read_csv(artifact(run, "train/predictions.csv"))
            assert table.groupby("group")["weight"].sum().eq(1).all()
            assert table["weight"].eq(0).any()


@pytest.fixture(scope="module")
def of_sources(workplace):
    """A CSV of four sources, of which D has one label; names tell nothing."""
    made = builders.of_sources({"A": (16, 16), "B": (14, 14), "C": (12, 12), "D": (0, 8)})
    return SMALL | {"data_dir": builders.write_csv(made, workplace.root / "hospitals"), "group_by": "names"}


def test_each_source_is_held_out_beside_ordinary_folds(workplace, of_sources):
    options = of_sources | {"encoder": "vit-mae-nano", "epochs": 1, "cross_validate": "2,sources"}
    done = workplace.python("train_classifier", **options)
    assert done.returncode == 0, done.stderr
    (run,) = [run for run in workplace.runs("fracture-mae") if run.data.params.get("cross_validate") == "2,sources"]
    names = {fold.info.run_name for fold in folds_of(workplace, run)}
    assert names == {
        "fold 1 of 2",
        "fold 2 of 2",
        *(f"sources {n} of 4: {name}" for n, name in zip("1234", "ABCD", strict=True)),
    }
    for fold in folds_of(workplace, run):
        assert fold.info.status == "FINISHED"
        assert ("held_out/xray/auroc" in fold.data.metrics) == (not fold.info.run_name.endswith("D"))
    table = pd.read_csv(artifact(run, "held_out_sources/comparison.csv"))
    assert table["model"].unique().tolist() == ["classifier", "file and border properties", "gradient histograms"]
    judged = table[table["not_alone"].isna()]
    assert set(judged["source"]) == {"A", "B", "C", "all, pooled", "mean of sources"}
    assert judged[["auroc", "auroc_folds", "fall"]].notna().all(axis=None)
    together = judged[judged["source"].isin(["all, pooled", "mean of sources"])]
    assert together[["fall_low", "fall_high"]].notna().all(axis=None)
    assert run.data.metrics["held_out_sources/xray/auroc"] == pytest.approx(
        run.data.metrics["held_out_sources/xray/auroc/all/classifier"]
    )
    assert run.data.metrics["cross_validation/xray/auroc"] == pytest.approx(
        run.data.metrics["held_out_sources/xray/auroc_folds/all/classifier"]
    )
    for figure in ("classifier", "gradient_histograms", "xray/roc", "xray/sources", "xray/confusion_matrix"):
        assert artifact(run, f"held_out_sources/{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert "Sources held out: 4 sources in 4 folds, one model each: A (" in done.stdout
    assert "D (" in done.stdout.split("Only among all")[1]
    assert not list(workplace.root.glob("cache/checkpoints/*/*"))


def test_sources_alone_say_how_to_have_both(workplace, of_sources):
    options = of_sources | {"encoder": "vit-mae-nano", "epochs": 1, "cross_validate": "sources"}
    done = workplace.python("train_classifier", **options)
    assert done.returncode == 0, done.stderr
    assert "Ordinary folds: not run (cross_validate=5,sources runs both)." in done.stdout


def test_encoders_are_compared_where_sources_are_held_out(workplace, of_sources):
    options = {"encoders": "vit-mae-nano", "n_folds": 2, "n_repeats": 1, "n_draws": 100, "cross_validate": "sources"}
    done = workplace.python("compare", **of_sources, **options)
    assert done.returncode == 0, done.stderr
    run = next(run for run in reversed(workplace.runs("fracture-mae")) if run.data.tags.get("entry_point") == "compare")
    table = pd.read_csv(artifact(run, "held_out_sources/comparison.csv")).set_index(["model", "source"])
    promised = table.loc[("vit-mae-nano", "all, pooled"), "auroc_folds"]
    assert promised == pytest.approx(run.data.metrics["vit_mae_nano/xray/auroc"])
    marks = table.loc["gradient histograms"]
    assert marks.loc["all, pooled", "auroc_folds"] > marks.loc["all, pooled", "auroc"]
    assert "sources held out" in done.stdout
    assert pd.read_csv(artifact(run, "held_out_sources/differences.csv"))["model"].tolist() == [
        *table.index.unique("model")
    ]


def test_one_source_is_refused_by_the_flag(workplace):
    made = builders.of_sources({"A": (12, 12)})
    data = builders.write_csv(made, workplace.root / "one")
    options = SMALL | {"data_dir": data, "group_by": "names", "encoders": "vit-mae-nano", "cross_validate": "sources"}
    done = workplace.python("compare", **options)
    assert done.returncode == 1
    assert (
        "Error: --cross-validate sources: all X-rays found in training and validation are of one source, 'A'."
        in done.stderr
    )
