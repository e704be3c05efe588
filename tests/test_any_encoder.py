"""An encoder that is no MAE, from the comparison to the judged classifier, as a user starts it."""

import json

import pytest

from tests.unit.models.networks import save_network
from tests.workplace import DATA, Workplace

pytestmark = pytest.mark.slow

OPTIONS = {"data_dir": DATA, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("any-encoder") / "project").create(searched=True)


def test_what_is_compared_can_be_trained_tuned_and_judged(workplace):
    for family in ("convnext", "efficientnet"):
        save_network(workplace.root / family, family)
        told = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (workplace.root / family / "preprocessor_config.json").write_text(json.dumps(told))
    done = workplace.python("compare", **OPTIONS, encoders="convnext,efficientnet", n_folds=2, n_repeats=1, n_draws=100)
    assert done.returncode == 0, done.stderr
    best = done.stdout.splitlines()[-6].split()[0]
    assert best == "convnext"

    training = {"encoder": best, "epochs": 2, "reference_encoder": "efficientnet"}
    done = workplace.python("train_classifier", **OPTIONS, **training)
    assert done.returncode == 0, done.stderr
    assert "patch_dropout is 0: ConvNextModel (convnext) cannot do as the recipe says" in done.stdout + done.stderr
    refused = workplace.python("train_classifier", **OPTIONS, **training, patch_dropout=0.5)
    assert refused.returncode == 1
    assert "--patch-dropout 0.5: ConvNextModel (convnext) cannot leave out patches" in refused.stderr

    judged = {"n_draws": 100, "classifier": "models:/fracture-classifier/1"}
    done = workplace.python("evaluate", **OPTIONS, **judged, reference_encoder="efficientnet")
    assert done.returncode == 0, done.stderr
    run = workplace.runs("fracture-mae")[-1]
    assert run.data.tags["reference_encoder.used"] == "efficientnet"
    assert "test/xray/auroc/all/frozen_efficientnet" in run.data.metrics
    done = workplace.python("evaluate", **OPTIONS, **judged, split="external", reference_encoder="efficientnet")
    assert done.returncode == 0, done.stderr
    assert "external/xray/auroc/all/frozen_efficientnet" in workplace.runs("fracture-mae")[-1].data.metrics

    done = workplace.python("tune", **OPTIONS, encoder="efficientnet", depth="head", n_trials=2, n_folds=2)
    assert done.returncode == 0, done.stderr
    assert "registered as models:/fracture-classifier/" in done.stdout


def test_an_autoencoder_is_still_a_vitmae(workplace):
    save_network(workplace.root / "vit", "vit")
    done = workplace.python("finetune_mae", **OPTIONS, model="vit", epochs=1)
    assert done.returncode == 1
    assert "is a model of type 'vit', but 'vit_mae' is needed here" in done.stderr
