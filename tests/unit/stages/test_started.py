"""Entry points on models of every form, in this process: what they start from, what that changes, and what is registered."""

import importlib
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from click.testing import CliRunner
from mlflow.artifacts import download_artifacts

from fracture_mae.models import autoencoder
from tests.unit.models.test_authors import by_their_names, their_network
from tests.workplace import SMALL, command_of, searched_xrays

pytestmark = pytest.mark.slow
QUICK = SMALL | {"epochs": 1}


@pytest.fixture
def folder(tmp_path, store):
    """The working folder, with four kinds of somebody else's weights, and X-rays that are searched for copies."""
    pretrained = autoencoder.load("vit-mae-nano", image_size=32, seed=7)
    autoencoder.save(pretrained, tmp_path / "whole")
    pretrained.norm_pix_loss = True
    autoencoder.save(pretrained, tmp_path / "normalised")
    pretrained.network.vit.save_pretrained(tmp_path / "encoder")
    torch.save({"model": by_their_names(their_network())}, tmp_path / "mae_visualize_vit_tiny.pth")
    shutil.copytree(searched_xrays(), tmp_path / "cache")
    return tmp_path


def printed(entry_point, exit_code=0, **options):
    words = command_of(entry_point, options)
    result = CliRunner().invoke(
        importlib.import_module(f"entrypoints.{entry_point}").main,
        words[words.index(f"entrypoints.{entry_point}") + 1 :],
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    assert result.exit_code == exit_code, result.output
    return result.output


def newest(store, entry_point):
    """The run that was started last."""
    experiment = store.get_experiment_by_name("fracture-mae").experiment_id
    runs = store.search_runs(
        [experiment], f"tags.entry_point = '{entry_point}'", order_by=["attributes.start_time DESC"]
    )
    return runs[0]


@pytest.mark.parametrize(
    ("model", "begins", "start", "rates"),
    [
        ("vit-mae-nano", "start: preset vit-mae-nano, random weights → ", "random", ("0.001", "0.001", "0.75")),
        ("whole", "start: weights of whole → ", "weights", ("1.875e-05", "6.25e-05", "0.65")),
    ],
)
def test_the_start_stays_with_what_is_registered(folder, store, model, begins, start, rates):
    assert begins in printed("finetune_mae", **QUICK, model=model, n_figures=0)
    trained = newest(store, "finetune_mae")
    assert store.get_model_version("xray-mae", "1").tags["start"] == start
    mae_rate, classifier_rate, layer_decay = rates
    assert (trained.data.params["learning_rate"], trained.data.tags["start"]) == (mae_rate, start)
    for encoder in ("models:/xray-mae/latest", f"runs:/{trained.info.run_id}/xray-mae"):
        named = "models:/xray-mae/1" if encoder.endswith("latest") else encoder
        assert f"start: {named}, which began as " in printed("train_classifier", **QUICK, encoder=encoder)
        classifier = newest(store, "train_classifier")
        params = classifier.data.params
        assert (params["learning_rate"], params["layer_decay"]) == (classifier_rate, layer_decay)
        used = yaml.safe_load(
            Path(download_artifacts(f"{classifier.info.artifact_uri}/config.yaml")).read_text("utf-8")
        )
        assert str(used["learning_rate"]) == classifier_rate


def test_normalised_patches_are_trained_and_told(folder, store):
    printed("finetune_mae", **QUICK, model="normalised", n_figures=2)
    run = newest(store, "finetune_mae")
    assert run.data.params["norm_pix_loss"] == run.data.tags["norm_pix_loss"] == "True"
    assert {"baseline/validation/masked_mse_per_patch", "validation/masked_mse_per_patch"} <= set(run.data.metrics)
    assert "owe these two numbers of every hidden patch" in run.data.tags["mlflow.note.content"]
    printed("finetune_mae", **QUICK, model="whole", norm_pix_loss="true", n_figures=0)
    given = newest(store, "finetune_mae")
    assert "validation/masked_mse_per_patch" in given.data.metrics
    assert "baseline/validation/masked_mse_per_patch" not in given.data.metrics
    printed("reconstruct_baseline", **SMALL, model=given.data.tags["registered"], n_figures=0)
    again = newest(store, "reconstruct_baseline")
    for name in ("masked_mse", "masked_mse_per_patch", "psnr"):
        assert again.data.metrics[f"validation/{name}"] == pytest.approx(
            given.data.metrics[f"validation/{name}"], rel=1e-5
        )
    assert "test/masked_mse" in again.data.metrics
    assert [
        name for name in given.data.metrics if "test/" in name and "n_" not in name
    ] == []  # fine-tuning reads no test


@pytest.mark.parametrize("model", ["encoder", "mae_visualize_vit_tiny.pth"])
def test_an_encoder_is_enough(folder, store, model):
    printed("train_classifier", **QUICK, encoder=model)
    assert newest(store, "train_classifier").data.params["learning_rate"] == "6.25e-05"
    compared = {"encoders": model, "n_folds": 2, "n_repeats": 1, "n_draws": 100, "references": "false"}
    assert model in printed("compare", **SMALL, **compared)
    told = printed("tune", **SMALL, encoder=model, depth="finetune", n_trials=1, max_epochs=1, n_folds=2)
    assert "→ learning rates from 6.25e-06 to 0.000313" in told
    assert float(newest(store, "tune").data.tags["best.learning_rate"]) < 4e-4


def test_a_new_decoder_is_trained_and_told(folder, store):
    assert "weights of encoder; its decoder is new" in printed("finetune_mae", **QUICK, model="encoder", n_figures=0)
    assert newest(store, "finetune_mae").data.tags["start.new_decoder"] == "True"
    refused = printed("reconstruct_baseline", exit_code=1, **SMALL, model="encoder")
    assert "Error: encoder holds an encoder alone" in refused
    unfit = SMALL | {"image_size": 40}
    refused = printed("finetune_mae", exit_code=1, **unfit, model="whole")
    assert "Error: images of 40 pixels do not fall into the patches of 16 pixels that whole takes" in refused
