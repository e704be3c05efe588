"""`compare` and `roll_back`, as a user starts them."""

from pathlib import Path

import pytest
from transformers import DeiTConfig, DeiTModel

from tests.workplace import SMALL, Workplace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("compare") / "project", draws=True).create(searched=True)


def test_encoders_side_by_side(workplace):
    settings = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    DeiTModel(DeiTConfig(**settings)).save_pretrained(workplace.root / "deit")
    done = workplace.python("compare", **SMALL, encoders="vit-mae-nano,deit", n_folds=3, n_repeats=2, n_draws=100)
    assert done.returncode == 0, done.stderr
    names = ["vit-mae-nano", "deit", "file and border properties", "gradient histograms"]
    assert [line[:27].strip() for line in done.stdout.splitlines()[-6:-2]] == names
    assert done.stdout.splitlines()[-1].startswith("AUROC within strata: ")
    parent, *children = workplace.runs("fracture-mae")
    assert [child.data.tags["encoder"] for child in children] == ["vit-mae-nano", "deit"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    for child in children:
        slug = child.data.tags["encoder"].replace("-", "_")
        assert child.data.metrics["xray/auroc"] == parent.data.metrics[f"{slug}/xray/auroc"]
    artifacts = Path(parent.info.artifact_uri)
    assert (artifacts / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert len((artifacts / "comparison.csv").read_text().splitlines()) == 1 + 4


def test_the_same_again_is_the_same_and_reads_the_cache(workplace):
    options = SMALL | {"encoders": "vit-mae-nano,deit", "n_folds": 3, "n_repeats": 2, "n_draws": 100}
    first, second = (workplace.python("compare", **options).stdout for _ in range(2))
    assert first == second
    assert len(list((workplace.root / "cache" / "features-v3").glob("*.lock"))) == 2


def test_an_unknown_encoder_ends_the_run_before_anything_is_computed(workplace):
    done = workplace.python("compare", **SMALL, encoders="vit-mae-nano,/no/such/folder")
    assert done.returncode == 1
    assert "/no/such/folder does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_rolling_back_without_a_champion_is_an_error_that_says_so(workplace):
    done = workplace.python("roll_back")
    assert done.returncode == 1
    assert "fracture-classifier has no champion" in done.stderr
    assert workplace.runs("fracture-mae")[-1].info.status == "FAILED"
