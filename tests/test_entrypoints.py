"""The whole chain and single entry points, as a user starts them, on a small synthetic data set."""

import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from tests.unit.pages.elements import fetched
from tests.workplace import DATA, SMALL, given

pytestmark = pytest.mark.slow
STEPS = ["reconstruct_baseline", "finetune_mae", "train_classifier", "evaluate"]
LEVELS = ("image", "xray")


@pytest.fixture(scope="module")
def steps(chain):
    """Name of the step → its run; `main` is the parent."""
    found = [
        run for run in chain.runs("fracture-mae") if run.data.params.get("seed") == "5"
    ]  # other tests run more here
    return {run.data.tags["entry_point"]: run for run in found}


def files_of(run):
    root = Path(run.info.artifact_uri)
    return {str(file.relative_to(root)): file for file in root.rglob("*") if file.is_file()}


def test_every_step_is_a_finished_child_of_one_parent(chain, steps):
    assert list(steps) == ["main", *STEPS]
    assert {run.info.status for run in steps.values()} == {"FINISHED"}
    assert steps["main"].info.run_name == f"main (vit-mae-nano, default, {DATA})"
    for name in STEPS:
        assert steps[name].data.tags["mlflow.parentRunId"] == steps["main"].info.run_id
        assert steps[name].info.run_name == name


def test_parameters_reach_the_steps(steps):
    for name in STEPS:
        parameters = steps[name].data.params
        assert (parameters["data_dir"], parameters["image_size"], parameters["seed"]) == (DATA, "32", "5")
    assert steps["finetune_mae"].data.params["epochs"] == "2"
    assert steps["train_classifier"].data.params["epochs"] == "3"
    assert steps["train_classifier"].data.params["encoder"] == "models:/xray-mae/1"
    assert steps["evaluate"].data.params["classifier"] == "models:/fracture-classifier/1"
    assert steps["main"].data.params["mae_epochs"] == "2"


def test_training_logs_a_curve(chain, steps):
    for name, epochs, metric in (
        ("finetune_mae", 2, "validation/masked_mse"),
        ("train_classifier", 3, "validation/xray/auroc"),
    ):
        history = chain.store.get_metric_history(steps[name].info.run_id, metric)
        # The last one is logged again after training, by which step 0 is the result.
        assert {point.step for point in history} >= set(range(1, epochs + 1))
        assert 1 <= steps[name].data.metrics["kept/epoch"] <= epochs


def test_the_classifier_is_judged_on_every_split(steps):
    judged = steps["evaluate"]
    for split in ("train", "validation", "test"):
        for level in LEVELS:
            assert 0 <= judged.data.metrics[f"{split}/{level}/auroc"] <= 1
            assert {f"{split}/{level}/confusion_matrix.{ending}" for ending in ("png", "json")} <= set(files_of(judged))
            assert f"{split}/{level}/classification_report.csv" in files_of(judged)
        assert f"{split}/xray/auroc/all/gradient_histograms" in judged.data.metrics
    assert steps["main"].data.metrics == judged.data.metrics


def test_figures_are_pictures(steps):
    expected = {
        "reconstruct_baseline": {"reconstructions/baseline.png"},
        "finetune_mae": {"learning_curves.png"}
        | {f"reconstructions/{name}.png" for name in ("baseline", "fine-tuned", "side_by_side")},
        "train_classifier": {"learning_curves.png", "validation/xray/roc.png"},
        "evaluate": {"test/comparison.png", "test/comparison_roc.png", "test/xray/reliability.png"},
    }
    for name, figures in expected.items():
        files = files_of(steps[name])
        assert figures <= set(files)
        assert all(files[figure].read_bytes().startswith(b"\x89PNG") for figure in figures)


def test_every_step_says_on_which_data(steps):
    fingerprints = {steps[name].data.tags["split.fingerprint"] for name in STEPS}
    assert len(fingerprints) == 1
    for name in STEPS:
        run = steps[name]
        contexts = [
            tag.value for data in run.inputs.dataset_inputs for tag in data.tags if tag.key == "mlflow.data.context"
        ]
        assert contexts == ["training", "validation", "test"]
        assert run.data.tags["leakage"] == "0%"
        splits = files_of(run)["data/splits.csv"].read_text().splitlines()
        assert len(splits) > 60
    assert "mlflow.source.git.commit" not in steps["main"].data.tags  # there is no git, and nobody minds


def test_models_are_registered_with_aliases_and_tags(chain, steps):
    classifier = chain.store.get_model_version_by_alias("fracture-classifier", "challenger")
    assert classifier.run_id == steps["train_classifier"].info.run_id
    assert classifier.tags["split.fingerprint"] == steps["evaluate"].data.tags["split.fingerprint"]
    champion = chain.store.get_model_version_by_alias("fracture-classifier", "champion")
    assert float(champion.tags["evaluation.test_xray_auroc"]) == steps["evaluate"].data.metrics["test/xray/auroc"]
    mae = chain.store.get_model_version("xray-mae", "1")
    assert mae.run_id == steps["finetune_mae"].info.run_id
    assert steps["train_classifier"].data.tags["encoder"] == "models:/xray-mae/1"
    assert steps["train_classifier"].data.tags["encoder.split"] == "the same"
    assert steps["main"].data.tags["promotion"] == "promoted to champion: --promote always"


def test_output_is_fit_for_a_log(chain):
    output = (chain.root / "stdout.txt").read_text()
    assert len(re.findall(r"^epoch \d/\d: train/loss ", output, re.MULTILINE)) == 2 + 3
    assert "models:/fracture-classifier/1: promoted to champion" in output
    log = (chain.root / "stderr.txt").read_text()
    assert "\r" not in log, "progress bars"
    assert "Warning" not in log
    assert "WARNING" not in log
    assert "Traceback" not in log


def test_a_published_split_is_called_leaky_and_promotes_nobody(chain):
    done = chain.python("evaluate", **SMALL, split="published", references=False, n_draws=100)
    assert done.returncode == 0, done.stderr
    run = chain.runs("fracture-mae")[-1]
    assert run.info.status == "FINISHED"
    leakage = run.data.tags["leakage"]
    assert re.fullmatch(
        r"of the test X-rays \d+% with label were shown in training; of the validation X-rays \d+% stand in training too",
        leakage,
    )
    assert f"LEAKY: {leakage}" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["promotion"].startswith(f"not promoted: {leakage}")
    assert run.data.tags["classifier"] == "models:/fracture-classifier/1"


def test_a_classifier_is_judged_on_somebody_elses_xrays(chain, steps):
    options = SMALL | {"data_dir": "synthetic:n_xrays=40,seed=9,size=128"}
    done = chain.python(
        "evaluate", **options, split="external", classifier="models:/fracture-classifier/1", n_draws=100
    )
    assert done.returncode == 0, done.stderr
    assert "its own test → here, per X-ray, and the fall:" in done.stdout
    run, own = chain.runs("fracture-mae")[-1], steps["evaluate"]
    assert (
        run.data.tags["promotion"]
        == "not promoted: external X-rays promote nobody, unless promote_on=external lets them"
    )
    assert run.data.tags["own_test"] == f"run {own.info.run_id}"
    metrics = run.data.metrics
    assert metrics["external/n_xrays"] == 40
    assert metrics["external/fall/auroc"] == pytest.approx(
        own.data.metrics["test/xray/auroc"] - metrics["external/xray/auroc"]
    )
    assert "external/xray/auroc/all/gradient_histograms" in metrics
    assert {"external/drift.png", "external/comparison.png", "external/xray/operating_points.csv"} <= set(files_of(run))
    assert [name for name in metrics if name.startswith(("train/", "validation/", "test/"))] == []
    page = files_of(run)["report.html"].read_text(encoding="utf-8")
    assert f"models:/fracture-classifier/1, judged on {run.data.tags['data']}" in page
    assert "From its own test to here, per X-ray" in page
    assert "-P split=external" in page
    assert fetched(page) == []
    assert "external.synthetic.run" in chain.store.get_model_version("fracture-classifier", "1").tags


def test_the_champion_answers_for_an_archive(chain):
    done = chain.mlflow(
        "run", ".", "-e", "predict", "-P", "data_dir=synthetic:n_xrays=40,seed=9,size=128", "-P", "n_shown=4"
    )
    assert done.returncode == 0, done.stderr
    run = chain.runs("fracture-mae")[-1]
    assert run.data.tags["classifier"] == "models:/fracture-classifier/1"
    table = pd.read_csv(Path(run.info.artifact_uri) / "predictions.csv")
    assert len(table) == run.data.metrics["n_answered"] == run.data.metrics["n_files"] >= 40
    assert set(table["label"]) <= {"fractured", "not fractured"}
    assert table["probability"].between(0, 1).all()
    assert {"contact_sheet_1.png", "rejected.csv"} <= set(files_of(run))
    assert f"{(table['label'] == 'fractured').sum():,} of {len(table):,}" in done.stdout
    assert not list(chain.root.glob("cache/predictions/*.jsonl"))  # nothing is left behind


def test_an_encoder_from_another_split_is_warned_of(chain):
    done = chain.python("train_classifier", **SMALL, split_seed=1, epochs=1, freeze=True)
    assert done.returncode == 0, done.stderr
    assert "models:/xray-mae/latest was fine-tuned on another split" in done.stderr
    run = chain.runs("fracture-mae")[-1]
    assert (run.data.tags["encoder"], run.data.tags["encoder.split"]) == ("models:/xray-mae/1", "another")
    assert re.fullmatch(r"of the test X-rays \d+% as picture only were shown in training", run.data.tags["leakage"])
    assert (run.data.params["freeze"], run.data.params["optimizer"]) == ("True", "adamw")
    challenger = chain.store.get_model_version_by_alias("fracture-classifier", "challenger")
    assert challenger.run_id == run.info.run_id


def test_a_failing_chain_started_elsewhere_names_the_step_and_the_reason(chain, tmp_path):
    """Store and relative data are where the user is."""
    (tmp_path / "xrays").mkdir()
    parameters = given({"data_dir": "xrays", "model": "vit-mae-nano"})
    done = chain.mlflow("run", str(chain.root), *parameters, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    store = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("fracture-mae").experiment_id])
    assert {run.info.status for run in runs} == {"FAILED"}
    step, parent = runs
    reason = f"FractureMaeError: {tmp_path}/xrays holds no "
    assert step.data.tags["failure_reason"].startswith(reason)
    assert (
        f"the step reconstruct_baseline failed (run {step.info.run_id}): {reason}" in parent.data.tags["failure_reason"]
    )
