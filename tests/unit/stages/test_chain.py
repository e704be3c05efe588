import pytest

from fracture_mae.config import Main
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages.chain import chain


@pytest.mark.parametrize("option", ["data_dir", "unlabelled_dir"])
def test_a_folder_that_is_not_there_is_told_before_any_step_runs(tmp_path, monkeypatch, option):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path))
    missing = tmp_path / "nowhere"
    config = Main(**{"data_dir": "synthetic:n_xrays=6,size=64", option: str(missing)})
    with pytest.raises(FractureMaeError, match=f"^--{option.replace('_', '-')} .*no such folder"):
        chain(config, run=None)
